"""Judgements of an evaluation -> rows of metrics.csv, whole suites and their categories. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from evals.judges import Judgement
from evals.judges.judgement import tells_refusals_only
from evals.judges.measures import SFT, measure
from evals.suites import Suite
from evals.suites.suite import OVERREFUSAL_METRICS
from evals.values.clusters import CATEGORY as BY_CATEGORY
from evals.values.clusters import PROMPT, cluster_kind, clusters_of
from evals.values.conversation import messages_as_json
from evals.values.errors import InputError
from evals.values.metrics_table import MetricRow
from harness.record.samples import prompt_text, sample_row
from harness.record.to_label import Written
from harness.subjects.outcome import Outcome

CATEGORY = "/category/"  # xstest/category/homonyms
CATEGORY_DRAWS = 200  # their intervals are Wilson's wherever a prompt has one response


@dataclass(frozen=True)
class Judged:
    """One model's responses to one suite, and each judge's judgements of them, all in one order."""

    model: str
    suite: Suite
    outcomes: tuple[Outcome, ...]
    judgements: dict[str, list[Judgement]]
    drawn: Mapping[str, Sequence[float | None]] = field(default_factory=dict)  # by judge: see `drawn_with`

    def answers(self) -> list[Written]:
        """What a person can label, with the prompts' texts."""
        asked = {p.id: str(prompt_text(messages_as_json(p.messages))) for p in self.suite.prompts}
        given = [outcome for outcome in self.outcomes if outcome.text]
        return [Written(self.suite.name, o.prompt_id, asked[o.prompt_id], str(o.text)) for o in given]


def sample_rows(judged: Judged, show_prompts: bool) -> list[dict[str, Any]]:
    """One row a response."""
    prompts = {prompt.id: prompt for prompt in judged.suite.prompts}
    return [
        sample_row(
            judged.suite.name,
            prompts[outcome.prompt_id],
            {judge: judgements[place] for judge, judgements in judged.judgements.items()},
            response=outcome.text,
            finished=outcome.finished,
            sample=outcome.sample,
            unscored=outcome.reason,
            thought=outcome.thought,
            thought_tokens=outcome.thought_tokens,
            refused_by_server=outcome.refused,
            show_prompt=show_prompts,
        )
        for place, outcome in enumerate(judged.outcomes)
    ]


def metric_rows(
    judged: Judged, *, seed: int, checkpoint: str, draws: int, cluster: str = PROMPT
) -> list[MetricRow]:
    """Every metric of the suite, and of each category, by every judge. `checkpoint` says how it was answered."""
    rows = []
    for judge, judgements in judged.judgements.items():
        rows += checkpoint_rows(judged.suite, {SFT: judgements}, judged.model, judge, seed, draws, cluster)
    return [replace(row, checkpoint=checkpoint) for row in rows]


def checkpoint_rows(
    suite: Suite,
    by_checkpoint: Mapping[str, Sequence[Judgement]],
    method: str,
    judge: str,
    seed: int,
    draws: int,
    cluster: str = PROMPT,
) -> list[MetricRow]:
    """Every metric of the suite, and of each category, by one judge: one row a checkpoint and, as
    `measures.measure` says, their mean. `cluster` is what the intervals count as one; a category's own count prompts,
    or topics.
    """
    clusters = suite_clusters(suite, cluster)
    rows = _measure(by_checkpoint, method, suite.name, judge, seed, draws, clusters)
    everything = [judgement for of in by_checkpoint.values() for judgement in of]
    categories = {prompt.id: prompt.category for prompt in suite.prompts}
    for category in sorted(set(categories.values())) if len(set(categories.values())) > 1 else ():
        name = f"{suite.name}{CATEGORY}{category}"
        members = {
            checkpoint: [j for j in of if categories[j.prompt_id] == category]
            for checkpoint, of in by_checkpoint.items()
        }
        inside = None if cluster == BY_CATEGORY else clusters
        of_category = _measure(members, method, name, judge, seed, CATEGORY_DRAWS, inside)
        rows += [row for row in of_category if row.suite == name and row.metric in ONE_SIDED]
    return [row for row in meaningful(rows, suite, everything) if row.n or row.n_unscored]


def meaningful(rows: list[MetricRow], suite: Suite, judgements: Sequence[Judgement]) -> list[MetricRow]:
    """Without what a suite of prompts to answer cannot show: F1, and safety by a judge that tells refusals only,
    which is 100 % whatever the model says.
    """
    if suite.metrics != OVERREFUSAL_METRICS:
        return rows
    empty = ("f1", "not_unsafe") if tells_refusals_only(judgements) else ("f1",)
    return [row for row in rows if row.metric not in empty]


def suite_clusters(suite: Suite, cluster: str) -> dict[str, str] | None:
    """{prompt: its category or topic}; None where each prompt counts by itself. Raises InputError, as `clusters_of`."""
    return clusters_of(suite.prompts, cluster, f"suite {suite.name!r}")


def counted_as_one(suite: Suite, cluster: str) -> dict[str, str]:
    """What a suite's record says of it: {} where that is each prompt."""
    kind = cluster_kind(suite.prompts, cluster)
    return {} if kind == PROMPT else {"cluster": kind}


ONE_SIDED = ("not_unsafe", "not_overrefuse")


def _measure(
    by_checkpoint: Mapping[str, Sequence[Judgement]],
    method: str,
    suite: str,
    judge: str,
    seed: int,
    draws: int,
    clusters: Mapping[str, str] | None = None,
) -> list[MetricRow]:
    rows = measure(
        by_checkpoint, method=method, seed=seed, suite=suite, judge=judge, draws=draws, clusters=clusters
    )
    scored = {row.metric for row in rows if row.n}
    # Style has no value under a judge that only tells refusals: no row, rather than one of nothing.
    return [row for row in rows if row.metric in scored or not row.metric.endswith("_style")]


def unscored_share(judged: Sequence[Judged], labels_by: str | None = None) -> tuple[int, int]:
    """(unscored, all) judgements of the leading judge; `labels_by` is one that is to label a few only."""
    flat = _leading(judged, labels_by)
    return sum(_is_unscored(said) for said in flat), len(flat)


def unscored_reasons(judged: Sequence[Judged], labels_by: str | None = None) -> list[str]:
    """Why each of these is unscored, as far as it is said."""
    return [said.reason for said in _leading(judged, labels_by) if _is_unscored(said) and said.reason]


def _leading(judged: Sequence[Judged], labels_by: str | None) -> list[Judgement]:
    flat: list[Judgement] = []
    for one in judged:
        others = [said for name, said in one.judgements.items() if name != labels_by]
        flat += others[0] if others else []
    return flat


def _is_unscored(said: Judgement) -> bool:
    return said.disallowed is None and said.refused is None


def check_names(names: Sequence[str]) -> None:
    """Raises InputError for two models whose names are one file's name."""
    if len({name.lower() for name in names}) != len(names):
        raise InputError("two models have one name", field="models", fix="name each differently")
