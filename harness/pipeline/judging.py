"""Stages 10 to 12: evaluate's engine on every checkpoint: responses first, then each judge apart, then capability."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from evals.capability import CapabilityTask, load_tasks, real_tasks
from evals.judges.card import JudgeCard
from evals.judges.judgement import Judge, Judgement
from evals.judges.measures import SFT
from evals.judges.refusal_words import RefusalWordsJudge
from evals.judges.rulebook_judge import RulebookJudge
from evals.suites import Suite
from evals.suites.suite import make_suite
from evals.values.clusters import AUTO as TOLD
from evals.values.clusters import TOPIC
from evals.values.conversation import ResponseType
from evals.values.errors import InputError
from evals.values.jsonl_rows import Row, read_jsonl, read_prompts, write_jsonl
from harness.evaluate.capability import scores_of
from harness.evaluate.judging import asked_judges, asked_suites, judgements_of
from harness.evaluate.measuring import suite_clusters
from harness.evaluate.respond import responses_of
from harness.evaluate.trust import find_labels, judge_cards
from harness.keys.data import DataSource
from harness.keys.evaluation import (
    AUTO,
    ORACLE,
    OWN_SUITE,
    SANDBOX_TASKS,
    WORDS,
    CapabilityConfig,
    EvaluationConfig,
)
from harness.keys.methods import Method
from harness.keys.run import RunConfig
from harness.keys.subject import DecodingKeys, LocalKeys
from harness.pipeline.context import Context
from harness.pipeline.graders import asked_grader
from harness.pipeline.reinforcement import checkpoints_of
from harness.pipeline.spending import judges_asked
from harness.pipeline.world import summary_of
from harness.record.evaluation import Evaluation
from harness.storage.digest import digest_files
from harness.storage.store import Artifact
from harness.subjects.local_model import LocalModel
from harness.subjects.outcome import Outcome
from harness.worlds.folder import EVAL_PROMPTS_FILE, KNOWLEDGE_FOLDER, SANDBOX_FILE, WorldFolder
from harness.worlds.sandbox.oracle import oracle_grader

LOGS = "logs"  # of a stage that is not finished: a killed one goes on from them


def all_suites(context: Context, data: Artifact) -> list[Suite]:
    """The world's own, where it has one, then those that are asked."""
    own = [world_suite(data)] if summary_of(data)["suite"] else []
    return [*own, *asked_suites(context.config.evaluation, context.config.data.root)]


def world_suite(data: Artifact) -> Suite:
    """The prompts that the world keeps for evaluation."""
    path = data.path / EVAL_PROMPTS_FILE
    return make_suite(str(summary_of(data)["suite"]), path, read_prompts(path))


def models_of(context: Context, method: Method, model: Artifact) -> dict[str, LocalModel]:
    """{checkpoint: the model as evaluate knows it}."""
    config = context.config
    decoding = DecodingKeys(config.evaluation.max_new_tokens, batch_size=config.evaluation.batch_size)
    return {
        checkpoint: LocalModel(
            method.name if checkpoint == SFT else f"{method.name} {checkpoint}",
            LocalKeys(str(folder), config.model.precision.value),
            decoding,
            config.seed,
            threads=None,  # the run has set them, for training too
        )
        for checkpoint, folder in checkpoints_of(method, model).items()
    }


def respond(context: Context, method: Method, data: Artifact, model: Artifact, suite: Suite) -> Artifact:
    """Greedy responses of each checkpoint to the suite's prompts; writes CHECKPOINT.jsonl."""
    config = context.config

    def build(out: Path) -> dict[str, Any]:
        written = 0
        for checkpoint, subject in models_of(context, method, model).items():
            outcomes = responses_of(subject, suite, out / LOGS / checkpoint, context.console)
            write_jsonl(out / f"{checkpoint}.jsonl", (outcome.as_json() for outcome in outcomes))
            subject.unload()
            written += len(outcomes)
        shutil.rmtree(out / LOGS)
        return {"responses": written}

    return context.stage(
        _label("responses", method, data, suite),
        build,
        config={
            "max_new_tokens": config.evaluation.max_new_tokens,
            "ppo": method.is_ppo,
            "suite": [suite.name, suite.version],
        },
        inputs={"data": data.part(*_own_prompts(data, suite)), "model": model},
        modules=["evals.models.sampling"],
        glue=["harness.evaluate.respond", "harness.subjects.local_model"],
        resumable=True,
    )


def _label(stage: str, method: Method, data: Artifact, suite: Suite) -> str:
    """The world's own suite needs no name."""
    own = _is_own(data, suite)
    return f"{stage}: {method.name}" if own else f"{stage}: {method.name} {suite.name}"


def _is_own(data: Artifact, suite: Suite) -> bool:
    return bool(suite.name == summary_of(data)["suite"])


def _own_prompts(data: Artifact, suite: Suite) -> list[str]:
    """The file of the data that the suite was read from, if it was."""
    return [EVAL_PROMPTS_FILE] if _is_own(data, suite) else []


def stored_outcomes(responses: Artifact) -> dict[str, list[Outcome]]:
    """{checkpoint: outcomes}, as they were written."""
    return {file.stem: read_jsonl(file, lambda row: Outcome(**row.values)) for file in _numbered(responses)}


def stored_judgements(judged: Artifact) -> dict[str, list[Judgement]]:
    """{checkpoint: judgements}, as they were written."""

    def parse(row: Row) -> Judgement:
        return Judgement(**{**row.values, "response_type": ResponseType(row.values["response_type"])})

    return {file.stem: read_jsonl(file, parse) for file in _numbered(judged)}


def _numbered(artifact: Artifact) -> list[Path]:
    return sorted(artifact.path.glob("*.jsonl"), key=lambda p: (len(p.stem), p.stem))


@dataclass(frozen=True)
class Reporter:
    """A judge before it is made, and what its verdicts depend on: artifacts, modules, an identity of its own.

    `reads`: files of the data.
    """

    name: str
    make: Callable[[], Judge]
    inputs: Mapping[str, Artifact] = field(default_factory=dict)
    reads: Sequence[str] = ()
    modules: Sequence[str] = ()
    identity: str = ""
    logs: Path | None = None  # where verdicts are kept for other runs and evaluations; None: in the stage


def reporters(context: Context, data: Artifact, judge: Artifact | None) -> list[Reporter]:
    """Who reports: the sandbox's oracle, or refusals by words on real prompts; the judge that the run
    has trained; and the judges that were asked for, whose verdicts depend on their identity alone.
    """
    sandbox = context.config.data.source is DataSource.SANDBOX
    own = [_oracle(context, data) if sandbox else _words()]
    own += [] if judge is None else [_auto(context, judge)]
    logs = context.store.root / "judgements"
    return own + [
        Reporter(name, partial(_itself, asked), identity=asked.identity, logs=logs)
        for name, asked in judges_asked(context.config).items()
    ]


def _itself(judge: Judge) -> Judge:
    return judge


def cards_of(context: Context, by: Sequence[Reporter]) -> dict[str, JudgeCard]:
    """Each judge on people's labels, where `evaluation.card` names some."""
    config = context.config
    labels, _ = find_labels(config.evaluation.card, config.data.root)
    if labels is None:
        return {}
    judges = {one.name: one.make() for one in by}
    shelf = context.store.root / "cards"
    return judge_cards(judges, labels, config.evaluation.card.limit, config.seed, shelf, context.console)


def _oracle(context: Context, data: Artifact) -> Reporter:
    def make() -> Judge:
        return RulebookJudge(context.rulebook, oracle_grader(WorldFolder(data.path).sandbox), ORACLE)

    modules = ["evals.judges.rulebook_judge", "harness.worlds.sandbox.oracle"]
    return Reporter(ORACLE, make, reads=[SANDBOX_FILE], modules=modules)


def _words() -> Reporter:
    return Reporter(WORDS, RefusalWordsJudge, modules=["evals.judges.refusal_words"])


def _auto(context: Context, judge: Artifact) -> Reporter:
    def make() -> Judge:
        return RulebookJudge(context.rulebook, asked_grader(context, judge), AUTO)

    modules = ["evals.judges.rulebook_judge", "evals.graders.language_model"]
    return Reporter(AUTO, make, {"judge": judge}, modules=modules)


def judge_responses(
    context: Context, method: Method, data: Artifact, responses: Artifact, suite: Suite, by: Reporter
) -> Artifact:
    """One judge's judgements of stored responses; writes CHECKPOINT.jsonl."""

    def build(out: Path) -> dict[str, Any]:
        judge = by.make()
        for checkpoint, outcomes in stored_outcomes(responses).items():
            said = judgements_of(judge, by.identity, suite, outcomes, by.logs or out / LOGS, context.console)
            rows = (asdict(j) | {"response_type": j.response_type.value} for j in said)
            write_jsonl(out / f"{checkpoint}.jsonl", rows)
        shutil.rmtree(out / LOGS, ignore_errors=True)
        return {"identity": judge.identity}

    return context.stage(
        f"{_label('judged', method, data, suite)} {by.name}",
        build,
        config={
            "judge": by.name,
            "identity": by.identity,
            "rulebook": context.rulebook.digest,
            "suite": [suite.name, suite.version],
        },
        inputs={
            "data": data.part(*_own_prompts(data, suite), *by.reads),
            "responses": responses,
            **by.inputs,
        },
        modules=by.modules,
        glue=["harness.evaluate.judging"],
        resumable=True,
    )


def test_capability(context: Context, method: Method, data: Artifact, model: Artifact) -> Artifact:
    """Knowledge tasks through lm-eval, on each checkpoint; writes capability.jsonl."""
    config = context.config

    def build(out: Path) -> dict[str, Any]:
        tasks = load_tasks(capability_tasks(context, data), limit=config.capability.limit, seed=config.seed)
        rows: list[dict[str, Any]] = []
        for checkpoint, subject in models_of(context, method, model).items():
            scores = scores_of(subject, tasks, config.capability.batch_size, context.console)
            rows += [asdict(score) | {"checkpoint": checkpoint} for score in scores]
            subject.unload()
        write_jsonl(out / "capability.jsonl", rows)
        return {
            f"{s['task']} {s['metric']}": s["value"]
            for s in rows
            if s["checkpoint"] == rows[-1]["checkpoint"]
        }

    return context.stage(
        f"capability: {method.name}",
        build,
        config={
            **capability_settings(config.capability),
            "suite": summary_of(data)["suite"],
            "ppo": method.is_ppo,
        },
        inputs={
            "data": data.part(*([KNOWLEDGE_FOLDER] if config.capability.root is None else [])),
            "model": model,
        },
        modules=["evals.capability"],
        packages=["lm-eval"],
        glue=["harness.evaluate.capability"],
    )


def check_evaluation(config: RunConfig) -> None:
    """Raises InputError, before anything is trained, for suites, judges, labels or a baseline that are not there."""
    keys = config.evaluation
    if keys.baseline:
        Evaluation(keys.baseline)
    _check_clusters(keys, asked_suites(keys, config.data.root), config.data.source)
    asked_judges(keys)
    labels, why = find_labels(keys.card, config.data.root)
    if keys.card.labels != "none" and labels is None:
        fix = "give evaluation.card.path=, or evaluation.card.labels=none"
        raise InputError(why, field="evaluation.card", fix=fix)


def _check_clusters(keys: EvaluationConfig, suites: Sequence[Suite], source: DataSource) -> None:
    """The sandbox's own suite tells topics and categories, a real one categories alone."""
    with keys.as_typed():
        for suite in suites:
            suite_clusters(suite, keys.cluster)
        if keys.cluster == TOPIC and source is DataSource.REAL:
            problem = f"the run's own suite {OWN_SUITE[source]!r} does not tell each prompt's topic"
            raise InputError(problem, field="cluster", fix=f"use {TOLD}, or another of its values")


def check_capability(config: RunConfig) -> None:
    """Raises InputError, before anything is trained, for tasks that this run could not measure at its end."""
    tasks, root = config.capability.tasks, config.capability.root
    if not tasks:
        return
    if root is not None and not Path(root).is_dir():
        raise InputError(
            "no such folder", path=root, field="capability.root", fix="give the folder of the tasks' files"
        )
    if root is None and config.data.source is not DataSource.SANDBOX:
        raise InputError(
            "is not set, and real data has no tasks of its own",
            field="capability.root",
            fix="give the folder of the tasks' files, or capability.tasks=[]",
        )
    known = SANDBOX_TASKS if root is None else tuple(task.name for task in real_tasks(root))
    if unknown := [name for name in tasks if name not in known]:
        raise InputError(
            f"there is no task {unknown[0]!r} here",
            path=root,
            field="capability.tasks",
            fix=f"use some of {', '.join(known)}",
        )


def capability_settings(config: CapabilityConfig) -> dict[str, Any]:
    """What decides the scores: of real tasks' files the contents, not where they lie. Raises InputError."""
    settings = {k: v for k, v in asdict(config).items() if k not in ("batch_size", "margin")}
    if config.root is not None:
        tasks = real_tasks(config.root, config.tasks)
        settings["root"] = digest_files([task.path for task in tasks if task.path is not None])
    return settings


def capability_tasks(context: Context, data: Artifact) -> list[CapabilityTask]:
    config = context.config.capability
    if config.root is not None:
        return real_tasks(config.root, config.tasks)
    return [CapabilityTask(name, name, WorldFolder(data.path).knowledge(name)) for name in config.tasks]
