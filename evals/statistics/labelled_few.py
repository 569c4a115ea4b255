"""A share that a judge told, mended by the labels that people gave to a few of the responses, by type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy

from evals.statistics.intervals import Estimate
from evals.statistics.judge_error import (
    VERDICTS,
    Stratum,
    f1_of_shares,
    prediction_powered,
    prediction_powered_f1,
    share_by_type,
)
from evals.values.errors import UndecidableError

ENOUGH_LABELS = 20  # with fewer a share near 0 or 1 is told nearer to it than it is, by up to two points
UNLIKELY = 0.01  # p-value below which labels do not look like a random draw
NOTHING = 1e-20  # a variance of rounding alone
EXPECTED = 5  # labels that a cell of the chi-square needs at least


@dataclass(frozen=True)
class LabelledFew:
    """Responses of several types, few of them labelled: arrays of one length, one place a response.

    `types`: what each is (a response type, say). `judged`: the judge's verdict, 0, 1 or NaN (unscored). `labels`:
    people's, 0, 1 or NaN (not labelled). `weights`: of a labelled one, 1 over the probability with which it was
    drawn, up to a factor; 1 everywhere for a random draw. `clusters`: what each errs together with (its topic, say);
    None where responses are independent.
    """

    types: np.ndarray
    judged: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    repeats: float = 1.0  # responses that a prompt has: so many count as one where a draw is tested
    clusters: np.ndarray | None = None

    @cached_property
    def draw(self) -> tuple[float, float]:
        return draw_p_values(self)

    @property
    def typed(self) -> bool:
        """Whether the types must be weighed, at the cost of a wider interval: the labels' are not those of all."""
        return self.draw[0] < UNLIKELY or bool(np.ptp(self.weights[self.labelled]) > 0)

    @property
    def random(self) -> bool:
        """Whether the estimate for a random draw may be used: the labels have the verdicts of all."""
        return self.draw[1] >= UNLIKELY

    @property
    def paired(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `prediction_powered` takes them."""
        there = self.labelled
        return self.labels[there], self.judged[there], self.judged[~there]

    @property
    def labelled(self) -> np.ndarray:
        return ~np.isnan(self.labels)

    def by_type(self) -> Iterator[np.ndarray]:
        """For each type, which responses are of it."""
        return (self.types == kind for kind in sorted(set(self.types.tolist())))

    @property
    def widening(self) -> float:
        """How many times wider than that of independent responses the interval is, 1 or more.

        The root of the design effect (Kish), from what each response moves the share post-stratified by verdict, with
        Student's t over the clusters that have labels. Where nothing moves it, a cluster's labels count as one.
        """
        if self.clusters is None or not self.labelled.any():
            return 1.0
        place = np.unique(self.clusters, return_inverse=True)[1].reshape(-1)
        there = len(np.unique(place[self.labelled]))
        moved = self._moved()
        alone, sums = float(moved @ moved), np.bincount(place, weights=moved)
        effect = float(self.labelled.sum()) / there
        if alone > NOTHING and len(sums) > 1:
            effect = float(sums @ sums) * len(sums) / (len(sums) - 1) / alone
        reach = float(scipy.stats.t.ppf(0.975, max(1, there - 1)) / scipy.stats.norm.ppf(0.975))
        return float(np.sqrt(max(1.0, effect))) * reach

    def _moved(self) -> np.ndarray:
        """What each response adds to the share beyond its part [responses]: by its verdict, and by its label."""
        kept = self if self.typed else replace(self, types=np.zeros(len(self.types)))
        moved, size = np.zeros(len(self.types)), len(self.types)
        common = float(self.weights[self.labelled] @ self.labels[self.labelled])
        common /= float(self.weights[self.labelled].sum())
        for here in kept.by_type():
            shares = np.zeros(size)
            for cell in (here & told(self.judged) for told in VERDICTS):
                mine = cell & self.labelled
                weight = self.weights[mine] / (self.weights[mine].sum() or 1.0)
                share = float(weight @ self.labels[mine]) if mine.any() else common
                shares[cell] = share
                moved[mine] += weight * cell.sum() / size * (self.labels[mine] - share)
            moved[here] += (shares[here] - shares[here].mean()) / size
        return moved

    def strata(self) -> list[list[Stratum]]:
        """A list a type: no, yes, unscored. Labels of unequal weight count as so many of equal weight: Kish's number,
        and no more than as many of the heaviest weigh as much. What was rarely drawn is otherwise told by few labels
        that count as many: intervals held the truth in 86 % of draws.
        """
        return [[self._stratum(here & told(self.judged)) for told in VERDICTS] for here in self.by_type()]

    def _stratum(self, here: np.ndarray) -> Stratum:
        labelled = here & self.labelled
        if not labelled.any():
            return Stratum(int(here.sum()), 0, 0)
        weights, heaviest = self.weights[labelled], float(self.weights[self.labelled].max())
        labels = min(effective(weights), float(weights.sum()) / heaviest)
        positives = labels * float(weights @ self.labels[labelled] / weights.sum())
        return Stratum(int(here.sum()), labels, positives)


def corrected_share(few: LabelledFew, level: float = 0.95) -> Estimate:
    """The share of positives, corrected for the judge's errors by the labels.

    `prediction_powered` where the labels look like a random draw. Where their types do not, or their weights
    differ, the share is post-stratified by type and verdict (`share_by_type`); where only the verdicts do not, by
    verdict. Right where, among the responses of one type and verdict,
    the labelled ones are a random draw, or are drawn with the probabilities that `weights` tell. Raises
    UndecidableError for fewer than 2 labels.
    """
    if few.labelled.sum() < 2:
        raise UndecidableError("the correction needs at least 2 human labels")
    if not few.typed and few.random:
        return prediction_powered(*few.paired, level)
    kept = few if few.typed else replace(few, types=np.zeros(len(few.types)))
    return share_by_type(kept.strata(), level)


def corrected_f1(safe: LabelledFew, useful: LabelledFew, level: float = 0.95) -> Estimate:
    """F1 of two corrected shares: by `prediction_powered_f1` where both are so, else from their limits."""
    if not any(few.typed for few in (safe, useful)) and safe.random and useful.random:
        return prediction_powered_f1(safe.paired, useful.paired, level)
    return f1_of_shares(corrected_share(safe, level), corrected_share(useful, level), level)


def effective(weights: np.ndarray) -> float:
    """As many labels of equal weight tell as much (Kish, Survey Sampling, 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def draw_p_values(few: LabelledFew) -> tuple[float, float]:
    """Do the labels look like a random draw of all? p-values of (their types, their verdicts within types).

    Pearson's chi-square of the labelled against all, by weight, with the correction for a draw without return.
    Nothing that could differ gives 1.
    """
    of_type = np.unique(few.types, return_inverse=True)[1]
    verdict = np.select([told(few.judged) for told in VERDICTS], [0, 1, 2])
    weights = np.where(few.labelled, few.weights, 0.0)
    within = [_chi_square(verdict[here], weights[here]) for here in few.by_type()]
    return _p_value([_chi_square(of_type, weights)], few.repeats), _p_value(within, few.repeats)


def _p_value(parts: list[tuple[float, int]], repeats: float) -> float:
    freedom = sum(part[1] for part in parts)
    return float(scipy.stats.chi2.sf(sum(part[0] for part in parts) / repeats, freedom)) if freedom else 1.0


def _chi_square(cells: np.ndarray, weights: np.ndarray) -> tuple[float, int]:
    """(statistic, degrees of freedom) of what `weights` draw from `cells`; rare cells are put together."""
    size = effective(weights) if weights.any() else 0.0
    left = 1 - size / len(cells)
    pairs = sorted(
        (size * float((cells == name).mean()), size * float(weights[cells == name].sum() / weights.sum()))
        for name in (np.unique(cells) if size else ())
    )
    while len(pairs) > 1 and pairs[0][0] < EXPECTED:
        (expected, found), (more, others), *rest = pairs
        pairs = sorted([(expected + more, found + others), *rest])
    if len(pairs) < 2 or left <= 0:
        return 0.0, 0
    return sum((found - expected) ** 2 / expected for expected, found in pairs) / left, len(pairs) - 1
