"""Stage 1: the data, as a world folder; every later stage reads only that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evals.models.config_file import context_of
from evals.rules.rulebook import Rulebook
from harness.evaluate.judging import asked_suites
from harness.keys.data import DataSource, TooLong
from harness.keys.run import RunConfig
from harness.pipeline.context import Context
from harness.pipeline.language_models import content_of, template_keys
from harness.storage.store import Artifact
from harness.worlds.folder import WorldFolder
from harness.worlds.mixture.files import identity_of
from harness.worlds.mixture.inventory import Limits, check_lengths
from harness.worlds.mixture.parts import given_parts, sources_of
from harness.worlds.mixture.world import Room, fit_prompts, load_mixture, read_parts, write_mixture
from harness.worlds.sandbox.generate import write_sandbox
from harness.worlds.sources.world import real_digest, write_real_world
from trainers.models.sizes import given_tokenizer


def make_data(context: Context) -> Artifact:
    """Write the sandbox, or convert the real data sets, into one folder of JSONL files."""
    return MAKERS[context.config.data.source](context)


def _sandbox(context: Context) -> Artifact:
    config = context.config

    def build(out: Path) -> dict[str, Any]:
        with context.console.stage("data", total=None, unit="files"):
            summary = write_sandbox(out, config.sandbox, config.seed, context.rulebook, config.model.context)
        WorldFolder(out).write_summary(summary)
        return summary

    settings = {
        "sandbox": config.sandbox,
        "rulebook": context.rulebook.digest,
        "context": config.model.context,
    }
    return context.stage(
        "data", build, config=settings, inputs={}, modules=["harness.worlds.sandbox.generate"]
    )


def _real(context: Context) -> Artifact:
    config = context.config
    root, given = Path(str(config.data.root)), config.model.path

    def build(out: Path) -> dict[str, Any]:
        tokenizer = given_tokenizer(config.model) if given else None
        with context.console.stage("data", total=None, unit="files"):
            summary = write_real_world(out, root, config.real, config.seed, context.rulebook, tokenizer)
        WorldFolder(out).write_summary(summary)
        return {key: value for key, value in summary.items() if not isinstance(value, (list, dict))}

    settings = {"real": config.real, "files": real_digest(root), "rulebook": context.rulebook.digest}
    if given:
        settings |= {"tokenizer": content_of(given)} | template_keys(config.model)
    return context.stage("data", build, config=settings, inputs={}, modules=["harness.worlds.sources"])


def _mixture(context: Context) -> Artifact:
    """Data of one's own, part by part, without what overlaps with the suites that are asked."""
    config, data = context.config, context.config.data
    suites = asked_suites(config.evaluation, data.root)

    def build(out: Path) -> dict[str, Any]:
        with context.console.stage("data", total=None, unit="files"):
            mixture = load_mixture(data, config.seed, context.rulebook, suites)
            fit_prompts(mixture, room_for(config))
            summary = write_mixture(
                out, mixture, context.rulebook, config.seed, data.held_out, data.test_share
            )
        WorldFolder(out).write_summary(summary)
        return {**summary["rows"], "left_out": sum(sum(of.values()) for of in mixture.left_out.values())}

    return context.stage(
        "data",
        build,
        config={
            "sources": {p: list(map(identity_of, sources_of(data, p))) for p in given_parts(data)},
            "settings": [data.held_out, data.test_share, data.too_long],
            "longest": config.longest_response,
            "rulebook": context.rulebook.digest,
            "suites": [[suite.name, suite.version] for suite in suites],
            "tokenizer": content_of(str(config.model.path)),
            "context": config.model.context,
            **template_keys(config.model),
        },
        inputs={},
        modules=["harness.worlds.mixture"],
    )


def check_data(config: RunConfig, rulebook: Rulebook) -> None:
    """Raises InputError for the first bad row, source or prompt of one's own data, before the first stage."""
    mixture, room = read_parts(config.data, config.seed, rulebook), room_for(config)
    fit_prompts(mixture, room)
    limits = Limits(config.sft.max_length, config.reward_model.max_length, room.prompt)
    check_lengths(mixture, room.tokenizer, limits)


def room_for(config: RunConfig) -> Room:
    """What a prompt may have, in the given model's tokens."""
    tokenizer = given_tokenizer(config.model)
    context = min(config.model.context, context_of(str(config.model.path)) or config.model.context)
    return Room(tokenizer, context - config.longest_response - 1, config.data.too_long is TooLong.DROP)


MAKERS = {DataSource.SANDBOX: _sandbox, DataSource.REAL: _real, DataSource.FILES: _mixture}


def summary_of(data: Artifact) -> dict[str, Any]:
    return WorldFolder(data.path).summary()
