"""Stage 1: the data, as a world folder; every later stage reads only that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evals.models.load import load_tokenizer
from harness.keys.run import DataSource
from harness.pipeline.context import Context
from harness.pipeline.language_models import content_of
from harness.storage.store import Artifact
from harness.worlds.folder import WorldFolder
from harness.worlds.sandbox.generate import write_sandbox
from harness.worlds.sources import real_digest, write_real_world


def make_data(context: Context) -> Artifact:
    """Write the sandbox, or convert the real data sets, into one folder of JSONL files."""
    return _sandbox(context) if context.config.data.source is DataSource.SANDBOX else _real(context)


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
        tokenizer = load_tokenizer(given) if given else None
        with context.console.stage("data", total=None, unit="files"):
            summary = write_real_world(out, root, config.real, config.seed, context.rulebook, tokenizer)
        WorldFolder(out).write_summary(summary)
        return {key: value for key, value in summary.items() if not isinstance(value, (list, dict))}

    settings = {"real": config.real, "files": real_digest(root), "rulebook": context.rulebook.digest}
    if given:
        settings["tokenizer"] = content_of(given)
    return context.stage("data", build, config=settings, inputs={}, modules=["harness.worlds.sources"])


def summary_of(data: Artifact) -> dict[str, Any]:
    return WorldFolder(data.path).summary()
