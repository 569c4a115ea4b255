"""What held-out looks show behind the score: a style that falls, and a proposition on which payer and judge part.

A policy can please the grader that pays on one proposition while the judge of its held-out responses sees nothing of
it: the mean score hardly moves, and the style that the proposition was to bring is lost. Pure functions of the rows
of metrics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainers.rl.looks import GAP_STDERR, JUDGE, PAYER, STYLES, best_before, levels, noise


@dataclass(frozen=True)
class StyleFall:
    """A style share that fell from update `since` to `update`; `share` has both, fractions of 1."""

    style: str
    since: int
    update: int
    share: tuple[float, float]

    def __str__(self) -> str:
        return (
            f"style: from update {self.since} to {self.update} the {self.style.replace('_', ' ')} of held-out "
            f"responses fell from {100 * self.share[0]:.0f} % to {100 * self.share[1]:.0f} %"
        )


@dataclass(frozen=True)
class Parting:
    """A proposition that the payer calls true and the judge does not, or the other way round, as it did not at first.

    `payer` and `judge` have the mean grade of held-out responses to prompts of `kind`, at update `since` and at
    `update`.
    """

    proposition: str
    kind: str
    since: int
    update: int
    payer: tuple[float, float]
    judge: tuple[float, float]

    @property
    def gap(self) -> float:
        return self.payer[1] - self.judge[1]

    def __str__(self) -> str:
        was, now = (
            f"payer {100 * payer:.0f} %, judge {100 * judge:.0f} %"
            for payer, judge in zip(self.payer, self.judge, strict=True)
        )
        where = f"{self.proposition} on {self.kind} prompts"
        return f"{where} at update {self.update}: {now} (at update {self.since}: {was})"


def style_falls(rows: Sequence[Mapping[str, Any]], drop: float) -> list[StyleFall]:
    """Styles whose share of held-out responses has fallen by `drop` and by three standard errors; pure.

    From the best of the start and the means of two neighbouring looks to the mean of the last two, as the score.
    """
    falls = []
    for key in STYLES:
        if found := levels(rows, key, f"{key}_stderr"):
            best, now = best_before(found), found[-1]
            if best.value - now.value >= max(drop, noise(best, now)):
                style, since = key.rpartition("/")[2], best.row["update"]
                falls.append(StyleFall(style, since, now.row["update"], (best.value, now.value)))
    return falls


def partings(rows: Sequence[Mapping[str, Any]], margin: float) -> list[Parting]:
    """Propositions on which payer and judge part by `margin` and three standard errors, widest first; pure.

    The difference must be that wide at the last two looks, and have grown by as much since the first one: a grader
    that has always said more than the judge is a poor grader, and no sign of hacking.
    """
    names = [key.removeprefix(PAYER) for key in rows[-1] if key.startswith(PAYER)]
    found = [parting for name in names if (parting := _parting(rows, name, margin)) is not None]
    return sorted(found, key=lambda parting: -abs(parting.gap))


def _parting(rows: Sequence[Mapping[str, Any]], name: str, margin: float) -> Parting | None:
    payer, judge = (levels(rows, side + name, GAP_STDERR + name) for side in (PAYER, JUDGE))
    if not payer:
        return None
    first, gap = (payer[i].value - judge[i].value for i in (0, -1))
    grown = min(abs(gap), math.copysign(1.0, gap) * (gap - first))
    if grown < max(margin, noise(payer[0], payer[-1])):
        return None
    kind, _, proposition = name.partition("/")
    since, update = payer[0].row["update"], payer[-1].row["update"]
    shares = [(side[0].value, side[-1].value) for side in (payer, judge)]
    return Parting(proposition, kind, since, update, shares[0], shares[1])
