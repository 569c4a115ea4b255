"""Capability of a model through lm-eval, kept by what it depends on: one at hand, or a server that scores texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from evals.capability import (
    CapabilityScore,
    CapabilityTask,
    LoadedTask,
    capability_rows,
    load_tasks,
    real_tasks,
    score_server_tasks,
    score_tasks,
)
from evals.capability.task import LM_EVAL
from evals.values.errors import InputError, UndecidableError
from evals.values.grades import Unscored, check_unscored
from evals.values.jsonl_rows import read_jsonl, write_jsonl
from evals.values.metrics_table import MetricRow
from harness.keys.evaluate import CapabilityKeys, EvaluateConfig
from harness.record.evaluation import ABOUT, CAPABILITY
from harness.runtime.console import Console
from harness.storage.digest import digest, digest_files
from harness.storage.disk import writing
from harness.storage.provenance import module_versions
from harness.storage.store import Store
from harness.subjects.local_model import LocalModel
from harness.subjects.model import Model
from harness.subjects.outcome import AppendLog
from harness.subjects.server_model import ServerModel


def tasks_of(keys: CapabilityKeys) -> list[CapabilityTask]:
    """Those whose released files lie in `capability.root`; without one, lm-eval's own tasks by their names.

    Raises InputError for a task that has no such file, or no few-shot examples where some are asked for.
    """
    if keys.root is not None:
        found = real_tasks(Path(keys.root), keys.tasks or None)
    else:
        found = [CapabilityTask(name, LM_EVAL) for name in keys.tasks]
    unknown = sorted(keys.num_fewshot.keys() - {task.name for task in found})
    if unknown:
        field = f"capability.num_fewshot.{unknown[0]}"
        raise InputError("no such task is measured", field=field, fix="name one that is")
    return [replace(task, num_fewshot=keys.num_fewshot.get(task.name)) for task in found]


def capability_record(tasks: Sequence[CapabilityTask], limit: int, seed: int) -> dict[str, Any]:
    """What a later comparison must know: of each task its version and examples, and how items are chosen."""
    about = {task.name: {"version": _version(task), "num_fewshot": task.num_fewshot} for task in tasks}
    return {"tasks": about, "limit": limit, "seed": seed}


def outcome_rows(scores: Sequence[CapabilityScore]) -> list[dict[str, Any]]:
    """The outcome of each item, by its id and never by its text; of scores that are no shares, none."""
    keep = ("task", "metric", "n_truncated", "outcomes", *ABOUT)
    shares = [score for score in scores if all(0 <= value <= 1 for value in score.outcomes.values())]
    return [{name: asdict(score)[name] for name in keep} for score in shares]


def _version(task: CapabilityTask) -> str:
    """A digest of a local task's file; lm-eval's own version for its tasks."""
    return f"lm-eval {version('lm-eval')}" if task.path is None else digest_files([task.path])


def scores_of(
    model: LocalModel, tasks: Sequence[LoadedTask], batch_size: int, console: Console
) -> list[CapabilityScore]:
    """Every score of loaded tasks by one model."""
    total = sum(task.items for task in tasks)
    with console.stage(f"capability: {model.name}", total=total, unit="items") as advance:
        return score_tasks(*model.loaded, tasks, batch_size=batch_size, progress=advance)


def server_scores_of(
    model: ServerModel, tasks: Sequence[LoadedTask], max_unscored: float, shelf: Path, console: Console
) -> list[CapabilityScore]:
    """Every score by a server, whose answers are on the disk as they come, so that none is asked for twice.

    Raises UndecidableError where too many items have no answer.
    """
    texts = model.texts
    if isinstance(texts, Unscored):
        raise UndecidableError(f"capability cannot be measured: {texts.reason}")
    total = sum(task.items for task in tasks)
    header = {"answers": dict(model.identity), "said": model.said}
    with AppendLog(shelf / digest(header) / "answers.jsonl", header) as log:
        known = {str(row.get("request")): list(row.get("answer") or ()) for row in log.rows}

        def keep(key: str, answer: list[Any]) -> None:
            log.append([{"request": key, "answer": answer}])

        with console.stage(f"capability: {model.name}", total=total, unit="items") as advance:
            given = {"known": known, "keep": keep, "progress": advance}
            scores, unscored = score_server_tasks(texts, tasks, **given)  # type: ignore[arg-type]
    what, then = "items of capability tasks have no answer", "the same command asks for the missing ones"
    check_unscored(len(unscored), total, max_unscored, what, unscored.values(), then)
    return scores


def capability_scores(
    config: EvaluateConfig, model: LocalModel | ServerModel, shelf: Path, console: Console
) -> list[CapabilityScore]:
    """Scores of the tasks that are shares of items, with every item's outcome under its id."""
    keys = config.capability
    tasks = tasks_of(keys)

    def build(out: Path) -> dict[str, Any]:
        loaded = load_tasks(tasks, limit=keys.limit, seed=config.seed)
        if isinstance(model, ServerModel):
            answers = shelf.with_name("capability_answers")
            scores = server_scores_of(model, loaded, config.max_unscored, answers, console)
        else:
            scores = scores_of(model, loaded, keys.batch_size, console)
        write_jsonl(out / "scores.jsonl", (asdict(score) for score in scores))
        return {f"{score.task} {score.metric}": score.value for score in scores}

    artifact = Store(shelf.parent).get(
        shelf.name,
        {
            "model": dict(model.identity) | ({"said": model.said} if isinstance(model, ServerModel) else {}),
            "tasks": [(task.name, task.num_fewshot) for task in tasks],
            "files": digest_files([task.path for task in tasks if task.path is not None]),
            "limit": keys.limit,
            "seed": config.seed,
        },
        {},
        module_versions(["lm-eval"], ["evals.capability"]),
        build,
    )
    scores = read_jsonl(artifact.path / "scores.jsonl", lambda row: CapabilityScore(**dict(row.values)))
    return [score for score in scores if all(0 <= value <= 1 for value in score.outcomes.values())]


# --- of an evaluation --------------------------------------------------------------------------


def check_capability(config: EvaluateConfig, models: Sequence[Model]) -> None:
    """Raises InputError where no model can be measured, before anything is asked: a server is asked whether it can."""
    if not config.capability.wanted:
        return
    why = [_without_likelihoods(model) for model in models]
    if all(why):
        raise InputError(
            f"needs log-probabilities of given texts: {'; '.join(dict.fromkeys(why))}",
            field="capability",
            fix="remove capability.root and capability.tasks, or give subject.path=",
        )


def _without_likelihoods(model: Model) -> str:
    """Why a model cannot say how likely given texts are; "" where it can."""
    if isinstance(model, ServerModel):
        return model.texts.reason if isinstance(model.texts, Unscored) else ""
    return "" if isinstance(model, LocalModel) else "recorded responses have none"


def asked_scores(
    config: EvaluateConfig, console: Console, store: Path, model: Model
) -> list[CapabilityScore] | None:
    """None where none are asked for, or the model does not say how likely given texts are."""
    if not config.capability.wanted or _without_likelihoods(model):
        return None
    assert isinstance(model, LocalModel | ServerModel)
    return capability_scores(config, model, store / "capability", console)


def write_capability(
    config: EvaluateConfig, console: Console, store: Path, folder: Path, model: Model
) -> list[MetricRow]:
    """Rows of metrics.csv, and each item's outcome in `folder`; none where `asked_scores` has none."""
    scores = asked_scores(config, console, store, model)
    if scores is None:
        return []
    with writing(folder):
        (folder / CAPABILITY).mkdir(exist_ok=True)
        write_jsonl(folder / CAPABILITY / f"{model.name}.jsonl", outcome_rows(scores))
    rows_of_table = capability_rows({"sft": scores}, method=model.name, seed=config.seed, draws=config.draws)
    return [replace(row, checkpoint="items") for row in rows_of_table]
