"""Pairs whose order turns round from one reward to the other. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evals.values.conversation import ResponseType
from harness.gate.measures import Pairs
from harness.subjects.completions import CompletionSet
from trainers.reward.reward import Breakdown

DECIDING = 3  # features named for a flip


@dataclass(frozen=True)
class Flip:
    """A pair that the baseline ranks right and the candidate wrong, the rewards on both.

    `better` and `worse` are rows of the completions; `*_gap` is the reward of the better less that of the
    worse. `deciding` has the (feature or term, change of its part of the gap) that did most of it.
    """

    better: int
    worse: int
    baseline_gap: float
    candidate_gap: float
    deciding: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class FlipCount:
    """All ordered pairs of one response type; `worst` has those turned wrong, the widest gap first."""

    response_type: ResponseType
    pairs: int
    turned_wrong: int
    turned_right: int
    worst: tuple[Flip, ...]


def flips(
    completions: CompletionSet, pairs: Pairs, baseline: Breakdown, candidate: Breakdown, examples: int
) -> list[FlipCount]:
    """Count flips by response type; pairs that a side could not score are left out.

    A tie is neither right nor wrong: an order turns wrong where it was right and is now strictly wrong.
    """
    before = baseline.total[pairs.better] - baseline.total[pairs.worse]
    after = candidate.total[pairs.better] - candidate.total[pairs.worse]
    types = np.asarray([t.value for t in completions.types], dtype=object)[pairs.better]
    found = []
    for response_type in completions.response_types:
        member = (types == response_type.value) & np.isfinite(before) & np.isfinite(after)
        broken = member & (before > 0) & (after < 0)
        order = np.flatnonzero(broken)[np.argsort(after[broken], kind="stable")][:examples]
        worst = tuple(_flip(i, pairs, before, after, baseline, candidate) for i in order.tolist())
        mended = int((member & (before < 0) & (after > 0)).sum())
        found.append(FlipCount(response_type, int(member.sum()), int(broken.sum()), mended, worst))
    return found


def _flip(
    i: int, pairs: Pairs, before: np.ndarray, after: np.ndarray, baseline: Breakdown, candidate: Breakdown
) -> Flip:
    better, worse = int(pairs.better[i]), int(pairs.worse[i])
    return Flip(
        better, worse, float(before[i]), float(after[i]), _deciding(better, worse, baseline, candidate)
    )


def _deciding(
    better: int, worse: int, baseline: Breakdown, candidate: Breakdown
) -> tuple[tuple[str, float], ...]:
    """What moved the gap down: features where both sides know them, else terms."""
    known = bool(baseline.contributions and candidate.contributions)
    parts = [side.contributions if known else side.terms for side in (baseline, candidate)]
    model = [
        {} if not known else {n: v for n, v in s.terms.items() if n == "reward_model"}
        for s in (baseline, candidate)
    ]
    before, after = ({**part, **extra} for part, extra in zip(parts, model, strict=True))
    changes = {
        name: _gap(after, name, better, worse) - _gap(before, name, better, worse)
        for name in {**before, **after}
    }
    falling = sorted((change, name) for name, change in changes.items() if change < 0.0)
    return tuple((name, change) for change, name in falling[:DECIDING])


def _gap(parts: dict[str, np.ndarray], name: str, better: int, worse: int) -> float:
    """The part's gap; 0 where this side has no such part, or it does not apply to the type."""
    values: Sequence[float] = parts[name][[better, worse]].tolist() if name in parts else (0.0, 0.0)
    first, second = (0.0 if np.isnan(value) else value for value in values)
    return float(first - second)
