"""Run lm-eval on a model in memory; its per-item results become scores and rows of metrics.csv."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from evals.capability.task import LM_EVAL, LoadedTask
from evals.judges.measures import Panel, Tally
from evals.models.given_texts.understood import GivenTexts
from evals.statistics import resample_counts, standard_error
from evals.values.errors import InputError
from evals.values.metrics_table import MetricRow, blank_row

if TYPE_CHECKING:  # a server is measured, and a record read, without torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

AGGREGATE_DRAWS, AGGREGATE_ITEMS = 1000, 400_000  # bootstrap: draws, and items of all draws together
TEXT_LIKELIHOODS = ("perplexity", "weighted_perplexity", "bits_per_byte")  # lm-eval's names; no scores
# Means over items that are no shares, though some values may lie between 0 and 1: in nats, or out of 100.
NO_SHARES = re.compile(r"likelihood_diff|(bleu|rouge\w+)_(max|diff)")


@dataclass(frozen=True)
class CapabilityScore:
    """A metric of one task: the mean of `outcomes`, {item: 0 to 1}; n items.

    `stderr` is lm-eval's: sample standard deviation / sqrt(n), NaN for one item. `n_truncated` items were
    longer than the model's context and lost their beginning. A score that is no mean over items (BBQ's bias,
    StereoSet's icat) has no outcomes; its standard error and 95 % interval are from a bootstrap over items.
    """

    task: str
    metric: str
    value: float
    stderr: float
    n: int
    n_truncated: int = 0
    outcomes: Mapping[str, float] = field(default_factory=dict, repr=False)
    ci_low: float = math.nan
    ci_high: float = math.nan
    higher_is_better: bool = True
    num_fewshot: int = 0


def score_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[LoadedTask],
    *,
    batch_size: int,
    progress: Callable[[int], None] | None = None,
) -> list[CapabilityScore]:
    """Scores of loaded tasks; `progress` is told the number of items just finished."""
    from evals.capability.language_model import InMemoryLM
    from evals.capability.lm_eval_tasks import quiet

    was_training = model.training
    try:
        with quiet():
            lm = InMemoryLM(model, tokenizer, batch_size=batch_size, progress=progress)
            return [score for task in tasks for score in _score(lm, task)]
    finally:
        model.train(was_training)


def score_server_tasks(
    texts: GivenTexts,
    tasks: Sequence[LoadedTask],
    *,
    known: Mapping[str, list[Any]] | None = None,
    keep: Callable[[str, list[Any]], object] = lambda key, answer: None,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[CapabilityScore], dict[tuple[str, int], str]]:
    """The same of a server that says how likely given texts are, and why items have no answer and are left out.

    `known` and `keep` as of `ServerLM`: a second call with what was kept asks for the rest.
    """
    from evals.capability.lm_eval_tasks import quiet
    from evals.capability.server_language_model import ServerLM

    with quiet():
        lm = ServerLM(texts, known=known, keep=keep, progress=progress)
        return [score for task in tasks for score in _score(lm, task)], lm.unscored


def _score(lm: Any, loaded: LoadedTask) -> list[CapabilityScore]:
    from lm_eval.evaluator import evaluate

    task = loaded.task
    if task.chat and not lm.tokenizer.chat_template:
        fix = "set chat: false for the task, or give the tokenizer a chat template"
        raise InputError(f"task {task.name!r} needs a chat template, the tokenizer has none", fix=fix)
    lm.truncated.clear()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # means of no items, which are NaN
            results = evaluate(
                lm,
                {"tasks": loaded.lm_eval_tasks},
                samples=loaded.samples,
                bootstrap_iters=0,
                log_samples=True,
                apply_chat_template=task.chat,
            )
    except (KeyError, ImportError, OSError) as error:
        if task.form != LM_EVAL:
            raise
        # Some of lm-eval's own tasks ask a service, or a package, for their scores.
        told = f"{type(error).__name__}: {error}".splitlines()[0][:150]
        problem = f"lm-eval's task {task.name!r} cannot be scored ({told})"
        fix = "give what lm-eval's file of the task asks for, or leave the task out"
        raise InputError(problem, field="capability.tasks", fix=fix) from None
    truncated = sum(lm.truncated.values())
    samples = {
        name: [row for row in rows if (name, row["doc_id"]) not in lm.unscored]
        for name, rows in results["samples"].items()
    }
    scores = [
        _summary(task.name, metric, outcomes, truncated)
        for metric, outcomes in _outcomes(loaded, samples).items()
    ]
    scores += _aggregates(loaded, samples, truncated)
    return [replace(score, **_about(loaded, score.metric)) for score in scores]


def _about(loaded: LoadedTask, metric: str) -> dict[str, Any]:
    """What lm-eval's tasks say of a metric; subjects of one task say the same."""
    built = next(iter(loaded.lm_eval_tasks.values()))
    better = built.higher_is_better().get(metric.partition("@")[0], True)
    return {"higher_is_better": bool(better), "num_fewshot": int(built.get_config("num_fewshot") or 0)}


def _aggregates(
    loaded: LoadedTask, samples: Mapping[str, Sequence[Any]], truncated: int
) -> list[CapabilityScore]:
    """Scores within [-1, 1] that a single lm-eval task makes of all its items."""
    from lm_eval.api.metrics import mean
    from lm_eval.api.registry import get_aggregation

    if len(samples) != 1:
        return []
    ((name, rows),) = samples.items()
    no_scores = [mean, *(get_aggregation(kind) for kind in TEXT_LIKELIHOODS)]
    found = []
    for metric, aggregate in loaded.lm_eval_tasks[name].aggregation().items():
        values = [row[metric] for row in rows if metric in row and row["filter"] == rows[0]["filter"]]
        if aggregate not in no_scores and values:
            score = _aggregate(loaded.task.name, metric, aggregate, values, truncated)
            found += [score] if abs(score.value) <= 1 else []
    return found


def _aggregate(
    task: str, metric: str, aggregate: Callable[[Sequence[Any]], float], values: list[Any], truncated: int
) -> CapabilityScore:
    """The score of all items, with a bootstrap's standard error and 95 % interval."""
    n, rng = sum(map(_concerns, values)), np.random.default_rng(0)
    draws = max(100, min(AGGREGATE_DRAWS, AGGREGATE_ITEMS // len(values)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # means of no items, which are NaN
        value = float(aggregate(values))
        places = (rng.integers(len(values), size=len(values)) for _ in range(draws))
        drawn = [float(aggregate([values[i] for i in chosen])) for chosen in places]
        low, high = np.nanpercentile(drawn, (2.5, 97.5))
        stderr = float(np.nanstd(drawn, ddof=1))
    return CapabilityScore(task, metric, value, stderr, n, truncated, ci_low=float(low), ci_high=float(high))


def _concerns(value: Any) -> bool:
    """Whether an item counts in a score: of another category than the score's it is NaN, or NaN in part."""
    return not np.isnan(np.asarray(value, dtype=float)).any()


def _outcomes(loaded: LoadedTask, samples: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, float]]:
    """{metric: {item: outcome}} of the metrics that are means over items.

    Perplexities, differences of log-likelihoods and the like are not shares and have no outcome by item.
    """
    from lm_eval.api.metrics import mean

    by_metric: dict[str, dict[str, float]] = {}
    for name, rows in samples.items():
        aggregation = loaded.lm_eval_tasks[name].aggregation()
        for row in rows:
            item = f"{name}/{row['doc'].get('id', row['doc_id'])}"
            for metric in row["metrics"]:
                if aggregation.get(metric) is mean and not NO_SHARES.fullmatch(metric):
                    label = metric if row["filter"] == "none" else f"{metric}@{row['filter']}"
                    by_metric.setdefault(label, {})[item] = float(row[metric])
    return by_metric


def _summary(task: str, metric: str, outcomes: dict[str, float], truncated: int) -> CapabilityScore:
    values = np.array(list(outcomes.values()))
    value = float(values.mean()) if len(values) else math.nan
    return CapabilityScore(task, metric, value, standard_error(values), len(values), truncated, outcomes)


def capability_rows(
    scores_by_checkpoint: Mapping[str, Sequence[CapabilityScore]],
    *,
    method: str,
    seed: int,
    draws: int = 2000,
    bootstrap_seed: int = 0,
) -> list[MetricRow]:
    """Rows of metrics.csv: suite `capability/TASK`, judge "", one a checkpoint and their mean.

    As `measures.measure` does: Wilson's interval for a checkpoint, and for the mean one that counts the
    items as well, of which all checkpoints answer the same.
    """
    by_metric: dict[tuple[str, str], dict[str, Mapping[str, float]]] = {}
    rows = []
    for checkpoint, scores in scores_by_checkpoint.items():
        for score in scores:
            if score.outcomes:
                by_metric.setdefault((score.task, score.metric), {})[checkpoint] = score.outcomes
            else:
                blank = blank_row(method=method, seed=seed, suite=f"capability/{score.task}", judge="")
                rows.append(_aggregate_row(blank, checkpoint, score))
    for (task, metric), outcomes in by_metric.items():
        tally = _tally(outcomes)
        blank = blank_row(method=method, seed=seed, suite=f"capability/{task}", judge="")
        counts = resample_counts(["all"] * len(tally.hits), draws, np.random.default_rng(bootstrap_seed))
        rows += Panel(list(outcomes), counts, blank).share_rows(tally, metric, blank.suite)
    return rows


def _aggregate_row(blank: MetricRow, checkpoint: str, score: CapabilityScore) -> MetricRow:
    """A score that is no mean over items has no mean over checkpoints either."""
    interval = {name: getattr(score, name) for name in ("value", "stderr", "ci_low", "ci_high", "n")}
    return replace(blank, checkpoint=checkpoint, metric=score.metric, **interval)


def _tally(outcomes: Mapping[str, Mapping[str, float]]) -> Tally:
    """Outcomes [items, checkpoints]; an item that a checkpoint lacks counts as unscored there."""
    items = sorted({item for of_checkpoint in outcomes.values() for item in of_checkpoint})
    values = np.array([[row.get(item, np.nan) for row in outcomes.values()] for item in items])
    scored = ~np.isnan(values)
    return Tally(np.where(scored, values, 0.0), scored.astype(float), (~scored).astype(float))
