"""Where a comparison flips: a claim's paired differences over the values of a swept number. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from evals.values.metrics_table import MetricRow
from harness.findings.frontier import Difference, Scores
from harness.findings.papers_claims import claims_about
from harness.findings.trends import LEAST_VALUES, sweeps
from harness.findings.wording import ALGORITHMS, MethodName

FOLLOWED = (1, 2, 3, 9)  # claims about the main models, each at every value


@dataclass(frozen=True)
class Followed:
    """One comparison of claim `number`, `first` minus `second`: (value, difference) in order of the value."""

    number: int
    first: str
    second: str
    what: str
    points: tuple[tuple[float, Difference], ...]

    @property
    def zeros(self) -> list[float]:
        """Where the difference passes 0, between two values on the line that joins them over log(value)."""
        found = []
        for (x, before), (y, after) in zip(self.points, self.points[1:], strict=False):
            a, b = before.value, after.value
            if a * b < 0:
                found.append(math.exp(math.log(x) + (math.log(y) - math.log(x)) * a / (a - b)))
        return found


def followed(rows: Sequence[MetricRow], suite: str, judge: str) -> dict[str, list[Followed]]:
    """By swept key, of each number that is swept alone over LEAST_VALUES values or more; else nothing."""
    keys = {sweep.key for sweep in sweeps({row.method: None for row in rows}) if not sweep.rest}
    found = {key: _followed(rows, key, suite, judge) for key in sorted(keys)}
    return {key: lines for key, lines in found.items() if lines}


def _followed(rows: Sequence[MetricRow], key: str, suite: str, judge: str) -> list[Followed]:
    by_value: dict[float, list[MetricRow]] = {}
    for row in rows:
        name = MethodName.parse(row.method)
        if (value := _value(name.variant, key)) is not None:
            by_value.setdefault(value, []).append(replace(row, method=name.base))
    lines: dict[tuple[int, str, str, str], list[tuple[float, Difference]]] = {}
    for value in sorted(by_value):
        scores = Scores(by_value[value])
        for claim in (claim for algorithm in ALGORITHMS for claim in claims_about(algorithm)):
            for part in claim.parts(scores, suite, judge) if claim.number in FOLLOWED else ():
                if part.difference is not None:
                    line = lines.setdefault((claim.number, part.first, part.second, part.what), [])
                    line.append((value, part.difference))
    return [Followed(*of, tuple(line)) for of, line in sorted(lines.items()) if len(line) >= LEAST_VALUES]


def _value(variant: str, key: str) -> float | None:
    """Of a variant that differs in `key` alone."""
    name, _, text = variant.partition("=")
    if name != key or "," in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < math.inf else None
