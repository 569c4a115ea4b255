"""The paper's claims, re-tested on a metrics table: paired differences and a verdict for each. Pure.

Several claims are tested at once, so each is held to the level that Holm's step-down test leaves it in its family,
and shown with the interval of that level. The families, margins, slopes and effects are fixed here, before any run
(`papers_claims`). One seed decides nothing about a method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evals.statistics import holm_levels
from harness.findings.claim_parts import ClaimPart
from harness.findings.frontier import Scores, Verdict
from harness.findings.papers_claims import Claim, claims_about
from harness.findings.wording import ALGORITHMS

ALPHA = 0.05  # over all claims of a family that are shown


@dataclass(frozen=True)
class ClaimResult:
    """`p_value` is that of the claim or of its contrary, whichever the data lean to, before Holm's correction."""

    claim: Claim
    parts: tuple[ClaimPart, ...]
    verdict: Verdict
    p_value: float


def check_claims(scores: Scores, suite: str, judge: str) -> list[ClaimResult]:
    """Every claim whose methods were measured, judged by `judge` on `suite`; of PPO's models where there are any.

    Holm's correction is over the claims of one family that are here.
    """
    found: dict[int, tuple[Claim, list[ClaimPart]]] = {}
    for claim in (claim for algorithm in ALGORITHMS for claim in claims_about(algorithm)):
        parts = [part for part in claim.parts(scores, suite, judge) if part.difference is not None]
        if parts and claim.number not in found:
            found[claim.number] = claim, parts
    results = [
        result
        for family in (1, 2)
        for result in _of_family([found[number] for number in found if found[number][0].family == family])
    ]
    return sorted(results, key=lambda result: result.claim.number)


def _of_family(asked: Sequence[tuple[Claim, list[ClaimPart]]]) -> list[ClaimResult]:
    p_values = [_p_value(parts) for _, parts in asked]
    results = []
    for (claim, parts), p_value, alpha in zip(asked, p_values, holm_levels(p_values, ALPHA), strict=True):
        # Power is for the strictest level, which is known beforehand.
        decided = tuple(part.decided(alpha, len(parts)).powered(ALPHA / len(asked)) for part in parts)
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
