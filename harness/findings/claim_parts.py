"""One comparison inside a claim: what the difference says of the claim, and of its contrary. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from statistics import stdev

from evals.statistics import seeds_for_difference, seeds_for_margin
from harness.findings.frontier import Difference, Verdict

EFFECT = 0.05  # a difference that matters


class Tested(Enum):
    """Of a difference that is not 0 (two-sided), of one within ± a margin, or above minus a margin (one-sided)."""

    DIFFERENCE = "difference"
    EQUIVALENCE = "equivalence"
    NO_LOSS = "no loss"


@dataclass(frozen=True)
class ClaimPart:
    """One comparison inside a claim: `first` minus `second`, and what it says of the claim. A slope has no `second`.

    `p_holds` and `p_fails` are the p-values of what the claim says and of its contrary: two-sided for a
    difference, the larger and the smaller of two one-sided ones for an equivalence. `detail` parts are shown, and
    can only refute the claim: an average that holds does not need each of its members to be decided.
    """

    first: str
    second: str
    what: str
    difference: Difference | None
    p_holds: float
    p_fails: float
    detail: bool = False
    test: Tested = Tested.DIFFERENCE
    verdict: Verdict = Verdict.UNDECIDED
    level: float = 0.95  # of the interval that decides
    matters: float = EFFECT  # the difference to be found with 80 % power; of a margin, the margin
    seeds: int | None = None  # that it takes; None where that is not known

    @property
    def interval(self) -> tuple[float, float]:
        return self.difference.interval(self.level) if self.difference else (math.nan, math.nan)

    def decided(self, alpha: float, parts: int) -> ClaimPart:
        """With the verdict at `alpha`; one of `parts` that can refute a claim does so at its share of it."""
        against = self.p_fails < self.p_holds
        alpha = alpha / parts if against else alpha
        verdict = Verdict.UNDECIDED
        if self.difference is not None and not self.difference.over_seeds:
            verdict = Verdict.ONE_SEED
        elif min(self.p_holds, self.p_fails) < alpha:
            verdict = Verdict.NOT_HELD if against else Verdict.HELD
        return replace(
            self, verdict=verdict, level=1 - (alpha if self.test is Tested.DIFFERENCE else 2 * alpha)
        )

    def powered(self, alpha: float) -> ClaimPart:
        """With the seeds that it takes at `alpha`, by the spread that these seeds have."""
        values = list(self.difference.by_seed.values()) if self.difference is not None else []
        if len(values) < 2:
            return self
        spread = stdev(values)
        if self.test is Tested.DIFFERENCE:
            return replace(self, seeds=seeds_for_difference(spread, self.matters, alpha))
        both = self.test is Tested.EQUIVALENCE
        return replace(self, seeds=seeds_for_margin(spread, self.matters, alpha, both_sides=both))


def increase(first: str, second: str, what: str, difference: Difference | None) -> ClaimPart:
    """A claim that the difference is positive."""
    if difference is None:
        return ClaimPart(first, second, what, None, 1.0, 1.0)
    holds, fails = (min(1.0, 2 * p) for p in (difference.p_above(0.0), difference.p_below(0.0)))
    return ClaimPart(first, second, what, difference, holds, fails)


def decrease(first: str, second: str, what: str, difference: Difference | None) -> ClaimPart:
    part = increase(first, second, what, difference)
    return replace(part, p_holds=part.p_fails, p_fails=part.p_holds)


def equal(
    first: str, second: str, what: str, difference: Difference | None, margin: float, detail: bool
) -> ClaimPart:
    """A claim that the difference lies within ± margin: two one-sided tests."""
    if difference is None:
        return ClaimPart(first, second, what, None, 1.0, 1.0, detail, Tested.EQUIVALENCE, matters=margin)
    holds = max(difference.p_above(-margin), difference.p_below(margin))
    fails = min(difference.p_above(margin), difference.p_below(-margin))
    return ClaimPart(
        first, second, what, difference, holds, fails, detail, Tested.EQUIVALENCE, matters=margin
    )


def no_loss(first: str, second: str, what: str, difference: Difference | None, margin: float) -> ClaimPart:
    """A claim that the difference lies above -margin: one one-sided test."""
    if difference is None:
        return ClaimPart(first, second, what, None, 1.0, 1.0, test=Tested.NO_LOSS, matters=margin)
    holds, fails = difference.p_above(-margin), difference.p_below(-margin)
    return ClaimPart(first, second, what, difference, holds, fails, test=Tested.NO_LOSS, matters=margin)
