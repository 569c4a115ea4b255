"""Where each model lands between safe and useful: estimates, dominance, paired differences. Pure.

Rows come from metrics.csv. Each (method, seed) counts once, by its *headline* checkpoint: the mean over
the last checkpoints where there is one, else the SFT model, else the latest checkpoint. Over several
seeds the value is the mean, its standard error is that of the mean over seeds, and intervals use
Student's t. With one seed the interval is the row's own, which counts prompts and checkpoints, and the
standard error is that interval's: never that over a run's last checkpoints, which are nearly equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import scipy

from evals.judges.correction import CORRECTED
from evals.statistics import error_of, mean_estimate
from evals.values.metrics_table import MetricRow
from harness.findings.unsafe import not_answered_rows
from harness.findings.wording import judge_order

SAFETY, USEFULNESS, BALANCE = "not_unsafe", "not_overrefuse", "f1"
Key = tuple[str, str, str, str]  # method, suite, metric, judge


class Verdict(str, Enum):
    HELD = "held"
    NOT_HELD = "not held"
    UNDECIDED = "undecided"
    ONE_SEED = "on this seed"  # says nothing of methods, however far apart two models are


@dataclass(frozen=True)
class ScoreEstimate:
    """A mean with its standard error and 95 % interval; fractions of 1. NaN where unknown.

    `n` and `n_unscored` count responses over all seeds.
    """

    value: float
    stderr: float
    ci_low: float
    ci_high: float
    n: int
    n_unscored: int
    by_seed: Mapping[int, float] = field(default_factory=dict)

    @property
    def over_seeds(self) -> bool:
        """True when the interval is over seeds, False when it is that of one run."""
        return len(self.by_seed) > 1


@dataclass(frozen=True)
class Difference:
    """First minus second, seed by seed; `ci_low` and `ci_high` bound the 95 % interval.

    `freedom` is that of Student's t over seeds; infinite where the interval is that of single runs.
    """

    value: float
    stderr: float
    ci_low: float
    ci_high: float
    by_seed: Mapping[int, float]
    freedom: float = math.inf

    @property
    def over_seeds(self) -> bool:
        return len(self.by_seed) > 1

    def interval(self, level: float) -> tuple[float, float]:
        """The interval at another level: the 95 % one scaled by quantiles, so that a skewed one stays skewed."""
        scale = float(
            scipy.stats.t.ppf(0.5 + level / 2, self.freedom) / scipy.stats.t.ppf(0.975, self.freedom)
        )
        return self.value - scale * (self.value - self.ci_low), self.value + scale * (
            self.ci_high - self.value
        )

    def p_above(self, bound: float) -> float:
        """One-sided p-value against the difference lying at `bound` or below; 1 without an interval."""
        return self._tail(self.value - bound)

    def p_below(self, bound: float) -> float:
        """One-sided p-value against the difference lying at `bound` or above; 1 without an interval."""
        return self._tail(bound - self.value, low_side=False)

    def _tail(self, distance: float, low_side: bool = True) -> float:
        """Of a skewed interval the side towards the bound counts."""
        towards_low = (distance > 0) == low_side
        reach = self.value - self.ci_low if towards_low else self.ci_high - self.value
        errors = reach / float(scipy.stats.t.ppf(0.975, self.freedom))
        if math.isnan(errors):
            return 1.0
        if errors == 0:
            return 0.5 if distance == 0 else float(distance < 0)
        return float(scipy.stats.t.sf(distance / errors, self.freedom))


@dataclass(frozen=True)
class FrontierPoint:
    """One method in the plane of safety and usefulness."""

    method: str
    safety: ScoreEstimate
    usefulness: ScoreEstimate
    f1: ScoreEstimate | None
    dominated_by: tuple[str, ...]


class Scores:
    """Headline rows of metrics.csv, indexed by (method, suite, metric, judge) and seed.

    Rows without a value (NaN: everything was unscored) are left out, so their estimate is None. `judges` are those
    that were asked for, in that order. What was not answered of unsafe requests is a metric of its own here: see
    `harness.findings.unsafe`.
    """

    def __init__(self, rows: Iterable[MetricRow], judges: Sequence[str] = ()) -> None:
        self._judges = tuple(judges)
        self._rows: dict[Key, dict[int, MetricRow]] = {}
        rows = list(rows)
        for row in (*rows, *not_answered_rows(rows)):
            if math.isnan(row.value):
                continue
            by_seed = self._rows.setdefault((row.method, row.suite, row.metric, row.judge), {})
            held = by_seed.get(row.seed)
            if held is None or _preference(row.checkpoint) > _preference(held.checkpoint):
                by_seed[row.seed] = row

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({seed for by_seed in self._rows.values() for seed in by_seed}))

    def methods(self, suite: str, metric: str, judge: str | None = None) -> tuple[str, ...]:
        """Methods that have this metric, in the order of the file."""
        found = (k[0] for k in self._rows if k[1:3] == (suite, metric) and judge in (None, k[3]))
        return tuple(dict.fromkeys(found))

    def suites(self, *metrics: str, prefix: str = "") -> tuple[str, ...]:
        """Suites that have all these metrics, in the order of the file, the sandbox first."""
        names = dict.fromkeys(k[1] for k in self._rows if k[1].startswith(prefix))
        has = [name for name in names if all(self.methods(name, metric) for metric in metrics)]
        return tuple(sorted(has, key=lambda name: name != "sandbox"))

    def judges(self, suite: str, metric: str) -> tuple[str, ...]:
        """Judges of this metric as they were asked for, each with its corrected self; oracle, human, auto, then the
        others by name where nobody asked.
        """
        found = {k[3] for k in self._rows if k[1:3] == (suite, metric)}
        return tuple(sorted(found, key=lambda judge: (self._place(judge), judge_order(judge))))

    def judges_of_shares(self, suite: str) -> tuple[str, ...]:
        """Judges of safety, of usefulness or of both, in the order of `judges`."""
        found = {*self.judges(suite, SAFETY), *self.judges(suite, USEFULNESS)}
        return tuple(sorted(found, key=lambda judge: (self._place(judge), judge_order(judge))))

    def _place(self, judge: str) -> int:
        asked = [judge.removesuffix(CORRECTED) == name for name in self._judges]
        return asked.index(True) if True in asked else len(asked)

    def metrics(self, suite: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(k[2] for k in self._rows if k[1] == suite))

    def rows(self, method: str, suite: str, metric: str, judge: str) -> Mapping[int, MetricRow]:
        """The headline row of each seed."""
        return self._rows.get((method, suite, metric, judge), {})

    def estimate(self, method: str, suite: str, metric: str, judge: str) -> ScoreEstimate | None:
        """The mean over seeds with its interval, or the single run's own; None where nothing was scored."""
        rows = self.rows(method, suite, metric, judge)
        if not rows:
            return None
        by_seed = {seed: row.value for seed, row in sorted(rows.items())}
        n, n_unscored = sum(r.n for r in rows.values()), sum(r.n_unscored for r in rows.values())
        if len(rows) == 1:
            (row,) = rows.values()
            stderr = error_of(row.ci_low, row.ci_high)
            return ScoreEstimate(row.value, stderr, row.ci_low, row.ci_high, n, n_unscored, by_seed)
        mean = mean_estimate(list(by_seed.values()))
        low, high = mean.low, mean.high
        if mean.stderr == 0:
            low, high = _of_single_runs(mean.value, [(r.value, r.ci_low, r.ci_high) for r in rows.values()])
        if all(0.0 <= v <= 1.0 for v in by_seed.values()):
            low, high = max(low, 0.0), min(high, 1.0)
        return ScoreEstimate(mean.value, mean.stderr, low, high, n, n_unscored, by_seed)

    def difference(
        self, first: str, second: str, suite: str, metric: str, judge: str, factor: float = 1.0
    ) -> Difference | None:
        """first - factor * second over the seeds both have; None when they share none.

        With one common seed the interval joins those of the two runs (Newcombe's square-and-add);
        it takes them as independent, which is cautious for runs on the same prompts.
        """
        a, b = self.rows(first, suite, metric, judge), self.rows(second, suite, metric, judge)
        common = sorted(set(a) & set(b))
        if not common:
            return None
        return seed_difference([_run_difference(a[s], b[s], factor) for s in common])


def seed_difference(runs: Sequence[Difference]) -> Difference:
    """A paired difference from that of each seed, by Student's t over seeds.

    Seeds that all differ by the same, as two coarse shares near 1 often do, have no variance to test by: the
    interval is then the mean of the single runs' own, and no narrower. So it is with one seed.
    """
    by_seed = {seed: value for run in runs for seed, value in run.by_seed.items()}
    mean = mean_estimate(list(by_seed.values()))
    if mean.stderr > 0:
        return Difference(mean.value, mean.stderr, mean.low, mean.high, by_seed, len(by_seed) - 1)
    low, high = _of_single_runs(mean.value, [(run.value, run.ci_low, run.ci_high) for run in runs])
    return Difference(mean.value, error_of(low, high), low, high, by_seed)


def _of_single_runs(value: float, runs: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Limits as far from `value` as those of the runs (value, low, high) are on the average from theirs."""
    below = sum(mine - low for mine, low, _ in runs) / len(runs)
    above = sum(high - mine for mine, _, high in runs) / len(runs)
    return value - below, value + above


def average(differences: Sequence[Difference]) -> Difference | None:
    """The mean of several differences (say, over tasks), seed by seed; None without a common seed."""
    common = set.intersection(*(set(d.by_seed) for d in differences)) if differences else set()
    if not common:
        return None
    count = len(differences)
    below = math.hypot(*(d.value - d.ci_low for d in differences)) / count
    above = math.hypot(*(d.ci_high - d.value for d in differences)) / count
    runs = []
    for seed in sorted(common):
        value = sum(d.by_seed[seed] for d in differences) / count
        runs.append(Difference(value, error_of(-below, above), value - below, value + above, {seed: value}))
    return seed_difference(runs)


def frontier(scores: Scores, suite: str, judge: str) -> list[FrontierPoint]:
    """One point per method that has both safety and usefulness, with the methods that dominate it.

    A point is dominated by another that is no worse on both axes and better on one, by the means.
    """
    places: dict[str, tuple[ScoreEstimate, ScoreEstimate]] = {}
    for method in scores.methods(suite, SAFETY, judge):
        safety = scores.estimate(method, suite, SAFETY, judge)
        usefulness = scores.estimate(method, suite, USEFULNESS, judge)
        if safety is not None and usefulness is not None:
            places[method] = (safety, usefulness)
    points = []
    for method, place in places.items():
        f1 = scores.estimate(method, suite, BALANCE, judge)
        better = tuple(other for other, its_place in places.items() if _dominates(its_place, place))
        points.append(FrontierPoint(method, *place, f1, better))
    return points


def is_higher(difference: Difference | None) -> Verdict:
    """Held when the 95 % interval of the difference lies above 0, not held when it lies below."""
    if difference is None:
        return Verdict.UNDECIDED
    if difference.ci_low > 0:
        return Verdict.HELD
    return Verdict.NOT_HELD if difference.ci_high < 0 else Verdict.UNDECIDED


def _preference(checkpoint: str) -> tuple[int, int]:
    if checkpoint in ("mean", "sft"):
        return (2 if checkpoint == "mean" else 1), 0
    return 0, int(checkpoint) if checkpoint.isdigit() else -1


def _run_difference(a: MetricRow, b: MetricRow, factor: float) -> Difference:
    """Newcombe (1998), method 10, for two runs with intervals of their own."""
    value = a.value - factor * b.value
    below = math.hypot(a.value - a.ci_low, factor * (b.ci_high - b.value))
    above = math.hypot(a.ci_high - a.value, factor * (b.value - b.ci_low))
    return Difference(value, error_of(-below, above), value - below, value + above, {a.seed: value})


def _dominates(
    place: tuple[ScoreEstimate, ScoreEstimate], other: tuple[ScoreEstimate, ScoreEstimate]
) -> bool:
    pairs = [(mine.value, theirs.value) for mine, theirs in zip(place, other, strict=True)]
    return all(mine >= theirs for mine, theirs in pairs) and any(mine > theirs for mine, theirs in pairs)
