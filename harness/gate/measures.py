"""Errors of two rewards on the completions, by group: overall, response type, completion class. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evals.values.clusters import PROMPT
from evals.values.conversation import ResponseType
from harness.gate.paired import Errors
from harness.subjects.completions import CompletionSet
from trainers.reward.examples import ordered_pairs

RANKING_ERROR, CLASS_ERROR = "ranking_error", "class_error"
OVERALL = "overall"


@dataclass(frozen=True)
class TrialGroup:
    """One comparison: a measure on all completions, a response type, or one class of a type."""

    measure: str
    response_type: ResponseType | None
    completion_class: str | None
    errors: Errors
    unscored: int  # trials left out because a side could not score them
    units: str = "prompts"  # what `errors` run over
    problem: str = ""  # why nothing can be said, whatever the errors are

    @property
    def label(self) -> str:
        parts = [self.response_type.value if self.response_type else OVERALL, self.completion_class]
        return "/".join(part for part in parts if part)


@dataclass(frozen=True)
class Pairs:
    """Ordered pairs of completions to one prompt, by the true classes; every array is [pairs]."""

    better: np.ndarray
    worse: np.ndarray
    ideal: np.ndarray  # whether the better one is of the best class

    @classmethod
    def of(cls, completions: CompletionSet) -> Pairs:
        better, worse = ordered_pairs(completions.prompts, completions.rank)
        return cls(better, worse, completions.rank[better] == 0)


def ranking_groups(
    completions: CompletionSet,
    pairs: Pairs,
    baseline: np.ndarray,
    candidate: np.ndarray,
    cluster: str = PROMPT,
) -> list[TrialGroup]:
    """Ranking errors: pairs (ideal, other) of one prompt where the other has the higher reward; by `cluster`.

    `baseline` and `candidate` are rewards [completions]. A tie is half an error, as in `trainers.reward.ranking`.
    """
    better, worse = pairs.better[pairs.ideal], pairs.worse[pairs.ideal]
    a, b = (wrong(total[better] - total[worse]) for total in (baseline, candidate))
    classes = np.asarray(completions.classes, dtype=object)[worse]
    return _groups(RANKING_ERROR, completions, better, classes, a, b, cluster)


def class_groups(
    completions: CompletionSet,
    baseline: Sequence[str | None],
    candidate: Sequence[str | None],
    cluster: str = PROMPT,
) -> list[TrialGroup]:
    """Class errors: completions whose class by grades is not the true one."""
    truth = completions.classes
    a, b = (
        np.array([np.nan if c is None else float(c != t) for c, t in zip(side, truth, strict=True)])
        for side in (baseline, candidate)
    )
    classes = np.asarray(truth, dtype=object)
    return _groups(CLASS_ERROR, completions, np.arange(len(completions)), classes, a, b, cluster)


def wrong(gaps: np.ndarray) -> np.ndarray:
    """1 where the better completion has less reward, one half where both have the same, NaN where unscored."""
    return np.where(np.isnan(gaps), np.nan, np.where(gaps < 0.0, 1.0, np.where(gaps == 0.0, 0.5, 0.0)))


def _groups(
    measure: str,
    completions: CompletionSet,
    rows: np.ndarray,
    classes: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    cluster: str,
) -> list[TrialGroup]:
    """Trials `rows` (their completion's index) with errors a and b, by group; all groups over all prompts or topics."""
    counted = completions.counted(cluster)
    unit_of = np.unique(np.asarray(counted.ids, dtype=object), return_inverse=True)[1].reshape(-1)
    units = int(unit_of.max()) + 1
    types = np.asarray([t.value for t in completions.types], dtype=object)[rows]
    scored = ~(np.isnan(a) | np.isnan(b))

    def group(response_type: ResponseType | None, name: str | None, member: np.ndarray) -> TrialGroup:
        kept = member & scored
        sums = [
            np.bincount(unit_of[rows[kept]], weights=values, minlength=units)
            for values in (a[kept], b[kept], np.ones(int(kept.sum())))
        ]
        missing = int((member & ~scored).sum())
        return TrialGroup(measure, response_type, name, Errors(*sums), missing, counted.plural)

    found = [group(None, None, np.ones(len(rows), dtype=bool))]
    for response_type in completions.response_types:
        of_type = types == response_type.value
        found.append(group(response_type, None, of_type))
        for name in completions.class_order:
            member = of_type & (classes == name)
            if member.any():
                found.append(group(response_type, name, member))
    return found


def strata_of(completions: CompletionSet, cluster: str = PROMPT) -> list[str]:
    """The response type of each prompt [prompts], in the order that the groups' errors run; "" of each topic, or
    category, which may have prompts of several types.
    """
    counted = completions.counted(cluster)
    if counted.kind != PROMPT:
        return [""] * len(set(counted.ids))
    by_prompt = dict(zip(completions.prompts, completions.types, strict=True))
    return [by_prompt[id].value for id in sorted(by_prompt)]
