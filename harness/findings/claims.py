"""The paper's claims, re-tested on a metrics table: paired differences and a verdict for each. Pure.

Several claims are tested at once, so each is held to the level that Holm's step-down test leaves it, and shown with
the interval of that level. One seed decides nothing about a method.

To add a claim: write a function that lists its parts and enter it in `claims_about`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from evals.statistics import holm_levels
from harness.findings.frontier import (
    BALANCE,
    SAFETY,
    USEFULNESS,
    Difference,
    Scores,
    Verdict,
    average,
)
from harness.findings.wording import ALGORITHMS, method_label, plain, type_order

CAPABILITY_MARGIN = 0.02  # the paper gives none; 2 points
FAR_LOWER = 0.5  # "far lower": less than half of the other's error
ALPHA = 0.05  # over all claims that are shown

ACCURACY_METRICS = ("acc_norm", "acc", "exact_match")  # the field's order of preference


@dataclass(frozen=True)
class ClaimPart:
    """One comparison inside a claim: `first` minus `second`, and what it says of the claim.

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
    equivalence: bool = False
    verdict: Verdict = Verdict.UNDECIDED
    level: float = 0.95  # of the interval that decides

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
        return replace(self, verdict=verdict, level=1 - (2 * alpha if self.equivalence else alpha))


def _increase(first: str, second: str, what: str, difference: Difference | None) -> ClaimPart:
    """A claim that the difference is positive."""
    if difference is None:
        return ClaimPart(first, second, what, None, 1.0, 1.0)
    holds, fails = (min(1.0, 2 * p) for p in (difference.p_above(0.0), difference.p_below(0.0)))
    return ClaimPart(first, second, what, difference, holds, fails)


def _decrease(first: str, second: str, what: str, difference: Difference | None) -> ClaimPart:
    part = _increase(first, second, what, difference)
    return replace(part, p_holds=part.p_fails, p_fails=part.p_holds)


def _equal(
    first: str, second: str, what: str, difference: Difference | None, margin: float, detail: bool
) -> ClaimPart:
    """A claim that the difference lies within ± margin: two one-sided tests."""
    if difference is None:
        return ClaimPart(first, second, what, None, 1.0, 1.0, detail, equivalence=True)
    holds = max(difference.p_above(-margin), difference.p_below(margin))
    fails = min(difference.p_above(margin), difference.p_below(-margin))
    return ClaimPart(first, second, what, difference, holds, fails, detail, equivalence=True)


@dataclass(frozen=True)
class Claim:
    """`judged` says whether the claim depends on who judges the responses."""

    number: int
    statement: str
    parts: Callable[[Scores, str, str], list[ClaimPart]]
    judged: bool = True


@dataclass(frozen=True)
class ClaimResult:
    """`p_value` is that of the claim or of its contrary, whichever the data lean to, before Holm's correction."""

    claim: Claim
    parts: tuple[ClaimPart, ...]
    verdict: Verdict
    p_value: float


def check_claims(scores: Scores, suite: str, judge: str) -> list[ClaimResult]:
    """Every claim whose methods were measured, judged by `judge` on `suite`; of PPO's models where there are any."""
    found: dict[int, tuple[Claim, list[ClaimPart]]] = {}
    for claim in (claim for algorithm in ALGORITHMS for claim in claims_about(algorithm)):
        parts = [part for part in claim.parts(scores, suite, judge) if part.difference is not None]
        if parts and claim.number not in found:
            found[claim.number] = claim, parts
    asked = [found[number] for number in sorted(found)]
    p_values = [_p_value(parts) for _, parts in asked]
    levels = holm_levels(p_values, ALPHA)
    results = []
    for (claim, parts), p_value, alpha in zip(asked, p_values, levels, strict=True):
        decided = tuple(part.decided(alpha, len(parts)) for part in parts)
        results.append(ClaimResult(claim, decided, joint_verdict(decided), p_value))
    return results


def _p_value(parts: Sequence[ClaimPart]) -> float:
    """Of a claim: all its needed parts hold (the largest p-value), or one of all fails (Bonferroni)."""
    holds = max((part.p_holds for part in parts if not part.detail), default=1.0)
    return min(holds, 1.0, len(parts) * min(part.p_fails for part in parts))


def joint_verdict(parts: Sequence[ClaimPart]) -> Verdict:
    """Held when every part holds, not held when one does not, else undecided; one seed says neither."""
    needed = [part for part in parts if not part.detail]
    if any(part.verdict is Verdict.ONE_SEED for part in parts):
        return Verdict.ONE_SEED
    if any(part.verdict is Verdict.NOT_HELD for part in parts):
        return Verdict.NOT_HELD
    held = bool(needed) and all(part.verdict is Verdict.HELD for part in needed)
    return Verdict.HELD if held else Verdict.UNDECIDED


def capability_metrics(scores: Scores) -> dict[str, tuple[str, str]]:
    """Each capability task's suite name with the (metric, judge) that stands for it."""
    found = {}
    for suite in scores.suites(prefix="capability/"):
        metric = next((m for m in ACCURACY_METRICS if m in scores.metrics(suite)), None)
        if metric is not None:
            found[suite] = metric, scores.judges(suite, metric)[0]
    return found


def _higher(
    metric: str, what: str, first: str, *seconds: str
) -> Callable[[Scores, str, str], list[ClaimPart]]:
    def parts(scores: Scores, suite: str, judge: str) -> list[ClaimPart]:
        differences = [(s, scores.difference(first, s, suite, metric, judge)) for s in seconds]
        return [_increase(first, second, what, difference) for second, difference in differences]

    return parts


def _both(
    *sources: Callable[[Scores, str, str], list[ClaimPart]],
) -> Callable[[Scores, str, str], list[ClaimPart]]:
    return lambda scores, suite, judge: [p for source in sources for p in source(scores, suite, judge)]


def _as_capable(second: str, *firsts: str) -> Callable[[Scores, str, str], list[ClaimPart]]:
    return lambda scores, suite, judge: [p for first in firsts for p in _equivalence(scores, first, second)]


def _equivalence(scores: Scores, first: str, second: str) -> Iterable[ClaimPart]:
    """The average over tasks, then the tasks."""
    by_task = {
        task: scores.difference(first, second, task, metric, judge)
        for task, (metric, judge) in capability_metrics(scores).items()
    }
    known = {task: d for task, d in by_task.items() if d is not None}
    tests = [("mean capability", average(list(known.values())), False)]
    tests += [
        (plain(task.removeprefix("capability/")), difference, True) for task, difference in known.items()
    ]
    for what, difference, detail in tests:
        yield _equal(first, second, what, difference, CAPABILITY_MARGIN, detail)


def _ranking_parts(scores: Scores, suite: str, judge: str) -> list[ClaimPart]:
    parts = []
    suites = scores.suites("ranking_error", prefix="synthetic/")
    for synthetic in sorted(suites, key=lambda name: type_order(name.removeprefix("synthetic/"))):
        key = synthetic, "ranking_error", scores.judges(synthetic, "ranking_error")[0]
        tested = scores.difference("rm+rbr", "rm", *key, factor=FAR_LOWER)
        what = f"ranking error, {plain(synthetic.removeprefix('synthetic/'))}, less half the RM's"
        parts.append(_decrease("rm+rbr", "rm", what, tested))
    return parts


def claims_about(algorithm: str) -> tuple[Claim, ...]:
    """The paper's claims, which are about PPO, said of the models that `algorithm` trained."""
    methods = [f"{family}_{algorithm}" for family in ("rbr", "human", "helpful")]
    rbr, human, helpful = methods
    rbr_name, human_name, helpful_name = map(method_label, methods)
    return (
        Claim(
            1,
            f"{rbr_name} has a higher F1 than {human_name} and than {helpful_name}.",
            _higher(BALANCE, "F1", rbr, human, helpful),
        ),
        Claim(
            2,
            f"{rbr_name} is safer than {helpful_name}.",
            _higher(SAFETY, "Not-Unsafe", rbr, helpful),
        ),
        Claim(
            3,
            f"{rbr_name} over-refuses less than {human_name}.",
            _higher(USEFULNESS, "Not-Overrefuse", rbr, human),
        ),
        Claim(
            4,
            f"Capability of {rbr_name} and {human_name} stays within 2 points of {helpful_name}'s.",
            _as_capable(helpful, rbr, human),
            judged=False,
        ),
        Claim(
            7,
            "RM + RBR has a far lower ranking error than the RM alone (less than half), in every response type.",
            _ranking_parts,
            judged=False,
        ),
        Claim(
            9,
            f"{rbr_name} beats RBR-SFT on both axes.",
            _both(
                _higher(SAFETY, "Not-Unsafe", rbr, "rbr_sft"),
                _higher(USEFULNESS, "Not-Overrefuse", rbr, "rbr_sft"),
            ),
        ),
    )
