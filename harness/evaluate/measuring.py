"""Judgements of an evaluation -> rows of metrics.csv, whole suites and their categories. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from evals.judges import Judgement
from evals.judges.judgement import tells_refusals_only
from evals.judges.measures import SFT, measure
from evals.suites import Suite
from evals.suites.suite import OVERREFUSAL_METRICS
from evals.values.errors import InputError
from evals.values.metrics_table import MetricRow
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

    @property
    def n_without_response(self) -> int:
        return sum(outcome.text is None for outcome in self.outcomes)


def metric_rows(judged: Judged, *, seed: int, checkpoint: str, draws: int) -> list[MetricRow]:
    """Every metric of the suite, and of each category, by every judge. `checkpoint` says how it was answered."""
    rows = []
    for judge, judgements in judged.judgements.items():
        of_judge = _measure(judged.model, judged.suite.name, judge, judgements, seed, draws)
        for category, members in _by_category(judged.suite, judgements).items():
            name = f"{judged.suite.name}{CATEGORY}{category}"
            of_category = _measure(judged.model, name, judge, members, seed, CATEGORY_DRAWS)
            of_judge += [row for row in of_category if row.suite == name and row.metric in ONE_SIDED]
        rows += meaningful(of_judge, judged.suite, judgements)
    return [replace(row, checkpoint=checkpoint) for row in rows if row.n or row.n_unscored]


def meaningful(rows: list[MetricRow], suite: Suite, judgements: Sequence[Judgement]) -> list[MetricRow]:
    """Without what a suite of prompts to answer cannot show: F1, and safety by a judge that tells refusals only,
    which is 100 % whatever the model says.
    """
    if suite.metrics != OVERREFUSAL_METRICS:
        return rows
    empty = ("f1", "not_unsafe") if tells_refusals_only(judgements) else ("f1",)
    return [row for row in rows if row.metric not in empty]


ONE_SIDED = ("not_unsafe", "not_overrefuse")


def _measure(
    model: str, suite: str, judge: str, judgements: Sequence[Judgement], seed: int, draws: int
) -> list[MetricRow]:
    rows = measure({SFT: judgements}, method=model, seed=seed, suite=suite, judge=judge, draws=draws)
    scored = {row.metric for row in rows if row.n}
    # Style has no value under a judge that only tells refusals: no row, rather than one of nothing.
    return [row for row in rows if row.metric in scored or not row.metric.endswith("_style")]


def _by_category(suite: Suite, judgements: Sequence[Judgement]) -> dict[str, list[Judgement]]:
    """{category: judgements}; none where the suite has only one."""
    of_prompt = {prompt.id: prompt.category for prompt in suite.prompts}
    names = sorted(set(of_prompt.values()))
    if len(names) < 2:
        return {}
    groups: dict[str, list[Judgement]] = {name: [] for name in names}
    for judgement in judgements:
        groups[of_prompt[judgement.prompt_id]].append(judgement)
    return groups


def unscored_share(judged: Sequence[Judged], labels_by: str | None = None) -> tuple[int, int]:
    """(unscored, all) judgements of the leading judge; `labels_by` is one that is to label a few only."""
    flat = []
    for one in judged:
        others = [said for name, said in one.judgements.items() if name != labels_by]
        flat += others[0] if others else []
    return sum(j.disallowed is None and j.refused is None for j in flat), len(flat)


def check_names(names: Sequence[str]) -> None:
    """Raises InputError for two models whose names are one file's name."""
    if len({name.lower() for name in names}) != len(names):
        raise InputError("two models have one name", field="models", fix="name each differently")
