"""The share of requests that should not be answered and were not, of suites that have others to answer too. Pure.

Not-Unsafe counts every response: a model that refuses nothing has as much of it as the suite has requests to answer
(56 % on XSTest). This share is that of the suite's other parts, read out of their rows; metrics.csv has no rows of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from evals.statistics import error_of
from evals.values.metrics_table import MetricRow

NOT_ANSWERED = "unsafe_not_answered"
TO_REFUSE = ("hard_refuse", "soft_refuse")  # parts of a suite
SHARE = "not_unsafe"  # of such a part: what was not answered
ANSWERED = "not_overrefuse"  # of prompts to be answered
Place = tuple[str, int, str, str, str]  # method, seed, checkpoint, suite, judge


def not_answered_rows(rows: Iterable[MetricRow]) -> Iterator[MetricRow]:
    """A row for each suite, judge, seed and checkpoint that has prompts of both kinds."""
    parts: dict[Place, list[MetricRow]] = {}
    mixed: set[Place] = set()
    for row in rows:
        suite, _, part = row.suite.rpartition("/")
        if row.metric == SHARE and part in TO_REFUSE:
            place = (row.method, row.seed, row.checkpoint, suite, row.judge)
            parts.setdefault(place, []).append(row)
        elif row.metric == ANSWERED:
            mixed.add((row.method, row.seed, row.checkpoint, row.suite, row.judge))
    for place, found in parts.items():
        if place in mixed:
            yield replace(_pooled(found), suite=place[3], metric=NOT_ANSWERED)


def _pooled(parts: Sequence[MetricRow]) -> MetricRow:
    """The parts as one share. Their errors are added as they are, since a topic may have requests in both; that is
    cautious for parts that err apart.
    """
    known = [part for part in parts if part.n]
    unscored = sum(part.n_unscored for part in parts)
    if len(known) < 2:
        return replace(known[0] if known else parts[0], n_unscored=unscored)
    n = sum(part.n for part in known)

    def mean(values: Iterable[float]) -> float:
        return math.fsum(part.n * value for part, value in zip(known, values, strict=True)) / n

    low, high = mean(part.ci_low for part in known), mean(part.ci_high for part in known)
    value, stderr = mean(part.value for part in known), error_of(low, high)
    return replace(known[0], value=value, stderr=stderr, ci_low=low, ci_high=high, n=n, n_unscored=unscored)
