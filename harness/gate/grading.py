"""What the graders of the two sides say: classes that move, and propositions they disagree on. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evals.values.conversation import ResponseType, types_in_order
from evals.values.grades import Grades
from harness.gate.rewards import RewardSide
from harness.subjects.completions import CompletionSet

HALF = 0.5  # a grade above it says that a proposition of yes or no is true


@dataclass(frozen=True)
class Move:
    """Completions whose class by grades goes from `before` to `after`; `truly` counts their true classes."""

    response_type: ResponseType
    before: str
    after: str
    count: int
    truly: dict[str, int]


@dataclass(frozen=True)
class Disagreement:
    """Two sides' grades of one proposition, over completions that both graded.

    `mean_gap` and `max_gap` are of |P candidate - P baseline|; `turned` is the share whose answer turns.
    `*_right` is the share that agrees with the completions' labels, NaN where there is none. `reworded`:
    the two were asked different questions.
    """

    proposition: str
    n: int
    mean_gap: float
    max_gap: float
    turned: float
    baseline_right: float
    candidate_right: float
    reworded: bool


@dataclass(frozen=True)
class UnscoredCount:
    """Completions of one response type that a side gave no reward, and the commonest reason."""

    response_type: ResponseType
    n: int
    baseline: int
    candidate: int
    baseline_reason: str
    candidate_reason: str


def class_moves(completions: CompletionSet, baseline: RewardSide, candidate: RewardSide) -> list[Move]:
    """Every move between two classes, the commonest first within its response type."""
    if baseline.classes is None or candidate.classes is None:
        return []
    counts: dict[tuple[ResponseType, str, str], Counter[str]] = {}
    for i, response_type in enumerate(completions.types):
        before, after = baseline.classes[i], candidate.classes[i]
        if before is not None and after is not None and before != after:
            counts.setdefault((response_type, before, after), Counter())[completions.classes[i]] += 1
    moves = [Move(*key, sum(truly.values()), dict(truly.most_common())) for key, truly in counts.items()]
    order = types_in_order(m.response_type for m in moves)
    return sorted(moves, key=lambda m: (order.index(m.response_type), -m.count, m.before, m.after))


def disagreements(
    completions: CompletionSet, baseline: RewardSide, candidate: RewardSide
) -> list[Disagreement]:
    """Propositions that both sides graded, the widest mean gap first."""
    shared = [t for t in completions.response_types if t in baseline.grades and t in candidate.grades]
    names = dict.fromkeys(
        n for t in shared for n in candidate.grades[t].propositions if n in baseline.grades[t].propositions
    )
    found = [_disagreement(name, shared, completions, baseline, candidate) for name in names]
    return sorted((d for d in found if d.n), key=lambda d: (-d.mean_gap, d.proposition))


def unscored(completions: CompletionSet, baseline: RewardSide, candidate: RewardSide) -> list[UnscoredCount]:
    """Counts by response type."""
    found = []
    for response_type in completions.response_types:
        rows = completions.rows(response_type)
        sides = [_missing(side, rows) for side in (baseline, candidate)]
        counts, reasons = zip(*sides, strict=True)
        found.append(UnscoredCount(response_type, len(rows), *counts, *reasons))
    return found


def _missing(side: RewardSide, rows: np.ndarray) -> tuple[int, str]:
    reasons = [side.breakdown.reasons[i] for i in rows.tolist() if i in side.breakdown.reasons]
    return len(reasons), Counter(reasons).most_common(1)[0][0] if reasons else ""


def _disagreement(
    name: str,
    types: list[ResponseType],
    completions: CompletionSet,
    baseline: RewardSide,
    candidate: RewardSide,
) -> Disagreement:
    shared = [t for t in types if all(name in side.grades[t].propositions for side in (baseline, candidate))]
    a, b = (_column(side.grades, shared, name) for side in (baseline, candidate))
    labels = np.concatenate([_labels(completions, t, name) for t in shared])
    known = np.isfinite(a) & np.isfinite(b)
    if not known.any():
        return Disagreement(name, 0, np.nan, np.nan, np.nan, np.nan, np.nan, False)
    a, b, labels = a[known], b[known], labels[known]
    gaps = np.abs(b - a)
    cuts = [_cut(side, name) for side in (baseline, candidate)]
    asked = [side.questions.get(name) for side in (baseline, candidate)]
    return Disagreement(
        proposition=name,
        n=len(gaps),
        mean_gap=float(gaps.mean()),
        max_gap=float(gaps.max()),
        turned=float(((a > cuts[0]) != (b > cuts[1])).mean()),
        baseline_right=_right(a, labels, cuts[0]),
        candidate_right=_right(b, labels, cuts[1]),
        reworded=None not in asked and asked[0] != asked[1],
    )


def _column(grades: Mapping[ResponseType, Grades], types: list[ResponseType], name: str) -> np.ndarray:
    return np.concatenate([grades[t].column(name) for t in types])


def _labels(completions: CompletionSet, response_type: ResponseType, name: str) -> np.ndarray:
    """The truth of a proposition [completions of the type]; NaN where it is not labelled."""
    truths = [completions.labelled[i].propositions.get(name) for i in completions.rows(response_type)]
    return np.array([np.nan if truth is None else float(truth) for truth in truths])


def _cut(side: RewardSide, name: str) -> float:
    """The grade above which the side's proposition holds."""
    known = side.rulebook is not None and side.rulebook.propositions.get(name)
    return known.cut if known else HALF


def _right(values: np.ndarray, labels: np.ndarray, cut: float) -> float:
    known = np.isfinite(labels)
    return float(((values[known] > cut) == (labels[known] > HALF)).mean()) if known.any() else float("nan")
