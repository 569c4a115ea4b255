"""What a swept number does to a metric: its values in order, and one slope a seed. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from evals.statistics import error_of
from harness.findings.frontier import Difference, Scores, seed_difference
from harness.findings.wording import MethodName

LEAST_VALUES = 3  # of the number: two make no trend


@dataclass(frozen=True)
class Sweep:
    """The models that differ in one swept number alone: (its value, the model's name), in order of the value.

    `rest` is what else was swept, with the value that all of them share; "" where nothing was.
    """

    base: str
    key: str
    rest: str
    points: tuple[tuple[float, str], ...]

    def is_of(self, base: str, key: str) -> bool:
        """Whether `key` alone is swept, of this model."""
        return (self.base, self.key, self.rest) == (base, key, "")


def sweeps(methods: Iterable[str]) -> list[Sweep]:
    """Every number that is swept among `methods`, each with two or more values above 0."""
    found: dict[tuple[str, str, str], dict[float, str]] = {}
    for method in methods:
        name = MethodName.parse(method)
        settings = [part.partition("=") for part in name.variant.split(",") if part]
        for place, (key, _, value) in enumerate(settings):
            rest = ",".join("".join(other) for i, other in enumerate(settings) if i != place)
            if (number := _number(value)) is not None:
                found.setdefault((name.base, key, rest), {})[number] = method
    return [Sweep(*of, tuple(sorted(points.items()))) for of, points in found.items() if len(points) > 1]


def slope(
    scores: Scores, points: Sequence[tuple[float, str]], suite: str, metric: str, judge: str
) -> Difference | None:
    """By least squares, for each doubling of the number; over the seeds that have all values, by Student's t.

    None where fewer than LEAST_VALUES values, or no such seed. With one seed its interval is that of its rows.
    """
    if len(points) < LEAST_VALUES:
        return None
    rows = [scores.rows(method, suite, metric, judge) for _, method in points]
    x = np.log2([value for value, _ in points])
    shares = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    runs = []
    for seed in sorted(set.intersection(*(set(of) for of in rows))):
        found = [of[seed] for of in rows]
        value = math.fsum(share * row.value for share, row in zip(shares, found, strict=True))
        errors = [error_of(row.ci_low, row.ci_high) for row in found]
        reach = 1.96 * math.hypot(*(share * error for share, error in zip(shares, errors, strict=True)))
        runs.append(Difference(value, reach / 1.96, value - reach, value + reach, {seed: value}))
    return seed_difference(runs) if runs else None


def _number(text: str) -> float | None:
    """Above 0, since its doublings are counted; None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < math.inf else None
