"""Minimise a mean hinge loss to its optimum, with a certificate.

    minimise over lower <= w <= upper:   mean_i max(0, b_i - a_i . w) + l2 / 2 |w|^2

The problem is convex. With slack variables it is a linear (l2 = 0) or quadratic program whose
constraints are many and whose unknowns are few, so a primal-dual interior-point method (Mehrotra's
predictor-corrector) needs some tens of passes over the rows, each costing rows x features^2.

The certificate is a lower bound of the optimum. For any multipliers alpha in [0, 1] of the rows,

    mean_i alpha_i b_i + sum_j min over w_j in the box of (l2 / 2 w_j^2 - r_j w_j),
    r = mean_i alpha_i a_i,

is one, whatever led to alpha: it does not depend on the method having worked.

Inequalities beyond the box, c_k . w >= d_k, are rows of one more hinge that is steep enough to hold them exactly: an
exact penalty (Nocedal and Wright 2006, section 17.2), whose lower bound is one of the constrained problem too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy
from threadpoolctl import threadpool_limits

CHUNK = 4096  # rows of one product: they stay in the processor's cache
MAX_ITERATIONS = 200
ABSOLUTE = 1e-9  # a mean hinge below this counts as zero: the data are separable
TINY_L2 = (1e-6, 1e-9)  # in units of 1 / rows
STEEP = 10.0  # how much more a broken inequality costs than it could gain


@dataclass(frozen=True)
class Optimum:
    """`objective` at `weights` lies between the optimum, at least `bound`, and `bound + gap`."""

    weights: np.ndarray  # [features]
    objective: float
    hinge: float
    bound: float
    iterations: int

    @property
    def gap(self) -> float:
        """Distance to the optimum, at most, relative to the objective; an objective that counts as 0 has none."""
        if self.objective <= ABSOLUTE:
            return 0.0
        return max(0.0, self.objective - self.bound) / max(self.objective, ABSOLUTE)


def minimise_hinge(
    rows: np.ndarray,
    offsets: np.ndarray,
    *,
    l2: float = 0.0,
    lower: np.ndarray,
    upper: np.ndarray,
    tolerance: float = 1e-7,
    inequalities: tuple[np.ndarray, np.ndarray] | None = None,
) -> Optimum:
    """`rows` a [rows, features], `offsets` b [rows], box [features]; finite, lower < upper.

    `inequalities` are c [inequalities, features] and d [inequalities], and can hold inside the box.

    Without L2 the optimum may be a whole face (any long enough w separates separable data). The
    answer is then its point of smallest norm: a small enough L2 term leaves the optimum of a
    piecewise linear function unchanged (Friedlander and Tseng, SIAM J. Optim. 18, 2007), and
    whether it was small enough is checked against the bound of the problem without it.
    """
    if inequalities is not None and len(inequalities[0]):
        steep = _with_inequalities(rows, offsets, *inequalities)
        found = minimise_hinge(*steep, l2=l2, lower=lower, upper=upper, tolerance=tolerance)
        hinge = mean_hinge(rows, offsets, found.weights)
        objective = hinge + l2 / 2.0 * float(found.weights @ found.weights)
        return replace(found, objective=objective, hinge=hinge)
    problem = rows, offsets, lower.astype(np.float64), upper.astype(np.float64), tolerance
    # One BLAS thread: the products are small, and sums do not depend on the number of cores.
    # Multipliers of rows far from the hinge vanish and may overflow a quotient: such a step has room enough.
    with threadpool_limits(limits=1, user_api="blas"), np.errstate(over="ignore", invalid="ignore"):
        return _interior_point(*problem, l2)[0] if l2 > 0.0 else _least_optimum(*problem)


def _with_inequalities(
    rows: np.ndarray, offsets: np.ndarray, left: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The rows whose mean hinge is that of `rows` plus the steep price of each inequality that is broken."""
    total = len(rows) + len(left)
    share = total / len(rows)
    price = STEEP * total * len(left) * max(1.0, float(np.abs(rows).max()))
    return np.vstack([rows * share, left * price]), np.concatenate([offsets * share, right * price])


def _least_optimum(
    rows: np.ndarray, offsets: np.ndarray, lower: np.ndarray, upper: np.ndarray, tolerance: float
) -> Optimum:
    for tiny in TINY_L2:
        least, point = _interior_point(rows, offsets, lower, upper, tolerance, tiny / len(rows))
        bound = max(0.0, lower_bound(rows, offsets, _balanced(point, rows), 0.0, lower, upper))
        answer = Optimum(least.weights, least.hinge, least.hinge, bound, least.iterations)
        if answer.gap <= 5.0 * tolerance or answer.hinge <= ABSOLUTE:
            return answer
    return _interior_point(rows, offsets, lower, upper, tolerance, 0.0)[0]


def mean_hinge(rows: np.ndarray, offsets: np.ndarray, weights: np.ndarray) -> float:
    """mean_i max(0, b_i - a_i . w)."""
    return float(np.maximum(0.0, offsets - rows @ weights).mean())


def lower_bound(
    rows: np.ndarray, offsets: np.ndarray, alpha: np.ndarray, l2: float, lower: np.ndarray, upper: np.ndarray
) -> float:
    """The certificate above, for multipliers `alpha` [rows] in 0..1."""
    alpha = np.clip(alpha, 0.0, 1.0)
    reduced = alpha @ rows / len(rows)
    best = np.where(reduced > 0.0, upper, lower) if l2 == 0.0 else np.clip(reduced / l2, lower, upper)
    return float(alpha @ offsets / len(rows) + (l2 / 2.0 * best**2 - reduced * best).sum())


def _balanced(point: _Point, rows: np.ndarray) -> np.ndarray:
    """The multipliers [rows], moved a little where they are free, so that their rows balance.

    That makes those of the problem with a tiny L2 term a sharp bound for the problem without it. Where
    the box binds (a sign constraint), the sum keeps the share that the box's multipliers carry.
    """
    free = np.minimum(point.alpha, point.beta) ** 2  # squared: those close to 0 or 1 stay put
    leftover = point.alpha @ rows + point.gamma - point.zeta
    system = _weighted_gram(rows, free)
    correction = np.linalg.lstsq(system, leftover, rcond=1e-12)[0]
    return point.alpha - free * (rows @ correction)


@dataclass
class _Point:
    """Unknowns and multipliers, all but w positive. The objective is scaled to a sum over rows."""

    w: np.ndarray  # [features]
    slack: np.ndarray  # [rows] a.w + xi - b, multiplier alpha
    xi: np.ndarray  # [rows] the hinge's upper bound, multiplier beta = 1 - alpha
    above: np.ndarray  # [features] w - lower, multiplier gamma
    below: np.ndarray  # [features] upper - w, multiplier zeta
    alpha: np.ndarray
    beta: np.ndarray
    gamma: np.ndarray
    zeta: np.ndarray

    def pairs(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        return (
            (self.slack, self.alpha),
            (self.xi, self.beta),
            (self.above, self.gamma),
            (self.below, self.zeta),
        )

    def mean_product(self) -> float:
        total = sum(float(primal @ dual) for primal, dual in self.pairs())
        return total / sum(len(primal) for primal, _ in self.pairs())


def _interior_point(
    rows: np.ndarray, offsets: np.ndarray, lower: np.ndarray, upper: np.ndarray, tolerance: float, l2: float
) -> tuple[Optimum, _Point]:
    curvature = l2 * len(rows)
    point = _start(rows, offsets, curvature, lower, upper)
    best: Optimum | None = None
    bound = 0.0  # a hinge is never negative
    for iteration in range(MAX_ITERATIONS):
        bound = max(bound, lower_bound(rows, offsets, point.alpha, l2, lower, upper))
        hinge = mean_hinge(rows, offsets, point.w)
        objective = hinge + l2 / 2.0 * float(point.w @ point.w)
        if best is None or objective < best.objective:
            best = Optimum(point.w.copy(), objective, hinge, bound, iteration)
        best = replace(best, bound=bound, iterations=iteration)
        if best.gap <= tolerance or best.objective <= ABSOLUTE * tolerance:
            break
        if not _advance(point, rows, curvature):
            break
    assert best is not None
    return best, point


def _start(
    rows: np.ndarray, offsets: np.ndarray, curvature: float, lower: np.ndarray, upper: np.ndarray
) -> _Point:
    """A point inside every constraint, primal and dual."""
    inside = np.minimum(1.0, (upper - lower) / 4.0)
    w = np.clip(np.zeros(len(lower)), lower + inside, upper - inside)
    excess = offsets - rows @ w
    xi = np.maximum(excess, 0.0) + 1.0
    half = np.full(len(rows), 0.5)
    # gamma - zeta equals the gradient left over, so that the dual constraint holds from the start.
    left = curvature * w - half @ rows
    scale = 1.0 + np.abs(left)
    gamma, zeta = np.maximum(left, 0.0) + scale, np.maximum(-left, 0.0) + scale
    return _Point(w, xi - excess, xi, w - lower, upper - w, half, half.copy(), gamma, zeta)


def _advance(point: _Point, rows: np.ndarray, curvature: float) -> bool:
    """One predictor-corrector step in place; False when rounding leaves no way forward."""
    system = _System(point, rows, curvature)
    if system.factor is None:
        return False
    mean = point.mean_product()
    predictor = system.direction([-primal * dual for primal, dual in point.pairs()])
    lengths = _step_lengths(point, predictor, curvature, 1.0)
    target = mean * (_mean_after(point, predictor, lengths) / mean) ** 3
    # The corrector trusts the predictor's second-order error, which a short step does not bear out: left
    # alone, the method may then cycle. A step that makes no progress is taken again without it.
    for corrector in (1.0, 0.0):
        step = system.direction(
            [
                target - p * d - corrector * dp * dd
                for (p, d), (dp, dd) in zip(point.pairs(), predictor.pairs(), strict=True)
            ]
        )
        lengths = _step_lengths(point, step, curvature, 0.995)
        if _mean_after(point, step, lengths) < mean:
            break
    point.w += lengths[0] * step.w
    for (p, d), (dp, dd) in zip(point.pairs(), step.pairs(), strict=True):
        p += lengths[0] * dp
        d += lengths[1] * dd
    return max(lengths) > 1e-10 and bool(np.isfinite(point.w).all())


def _mean_after(point: _Point, step: _Point, lengths: tuple[float, float]) -> float:
    """The mean product that a step of these primal and dual lengths leads to."""
    pairs = list(zip(point.pairs(), step.pairs(), strict=True))
    total = sum(float((p + lengths[0] * dp) @ (d + lengths[1] * dd)) for (p, d), (dp, dd) in pairs)
    return total / sum(len(p) for (p, _), _ in pairs)


class _System:
    """The Newton equations at a point, reduced to a [features, features] system."""

    def __init__(self, point: _Point, rows: np.ndarray, curvature: float) -> None:
        self.point, self.rows = point, rows
        self.depth = point.slack + point.alpha * point.xi / point.beta
        matrix = _weighted_gram(rows, point.alpha / self.depth)
        diagonal = curvature + point.gamma / point.above + point.zeta / point.below
        matrix[np.diag_indices_from(matrix)] += diagonal
        self.curvature = curvature
        self.residual = curvature * point.w - point.alpha @ rows - point.gamma + point.zeta
        self.factor = _factor(matrix)

    def direction(self, targets: list[np.ndarray]) -> _Point:
        """Solve for the products' changes `targets`: of slack.alpha, xi.beta, above.gamma, below.zeta."""
        p, (t_slack, t_xi, t_above, t_below) = self.point, targets
        load = (t_slack - p.alpha * t_xi / p.beta) / self.depth
        right = load @ self.rows + t_above / p.above - t_below / p.below - self.residual
        dw = scipy.linalg.cho_solve(self.factor, right)
        dual = load - p.alpha / self.depth * (moved := self.rows @ dw)
        dxi = (t_xi + p.xi * dual) / p.beta
        return _Point(
            dw,
            moved + dxi,
            dxi,
            dw,
            -dw,
            dual,
            -dual,
            (t_above - p.gamma * dw) / p.above,
            (t_below + p.zeta * dw) / p.below,
        )


def _factor(matrix: np.ndarray) -> tuple[np.ndarray, bool] | None:
    """Cholesky factor; a trace of ridge is added where rounding made the matrix singular."""
    scale = float(np.trace(matrix)) / len(matrix)
    for ridge in (0.0, 1e-14, 1e-12, 1e-10, 1e-8):
        try:
            return scipy.linalg.cho_factor(matrix + ridge * scale * np.eye(len(matrix)), lower=True)
        except (scipy.linalg.LinAlgError, ValueError):
            continue
    return None


def _weighted_gram(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A^T diag(weights) A, [features, features]."""
    gram = np.zeros((rows.shape[1], rows.shape[1]))
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        gram += (part.T * weights[start : start + CHUNK]) @ part
    return gram


def _step_lengths(point: _Point, step: _Point, curvature: float, share: float) -> tuple[float, float]:
    """How far each side may go before a variable reaches zero, times `share`, at most 1."""
    primal = min(_room(p, dp) for (p, _), (dp, _) in zip(point.pairs(), step.pairs(), strict=True))
    dual = min(_room(d, dd) for (_, d), (_, dd) in zip(point.pairs(), step.pairs(), strict=True))
    if curvature > 0.0:  # the quadratic term ties both sides together
        primal = dual = min(primal, dual)
    return min(1.0, share * primal), min(1.0, share * dual)


def _room(value: np.ndarray, change: np.ndarray) -> float:
    shrinking = change < 0.0
    return float((value[shrinking] / -change[shrinking]).min(initial=np.inf))
