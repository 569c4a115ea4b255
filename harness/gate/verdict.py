"""From changes to a verdict: worse, no worse, or cannot tell. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from evals.statistics import benjamini_hochberg, weighted_holm
from harness.gate.measures import CLASS_ERROR, RANKING_ERROR, Group
from harness.gate.paired import Change
from harness.keys.gate import Correction, RegressConfig

NEEDED = {
    RANKING_ERROR: "an ideal completion and another",
    CLASS_ERROR: "a completion",
}
TRIALS = {RANKING_ERROR: "pairs", CLASS_ERROR: "completions"}


class GateVerdict(str, Enum):
    NO_WORSE = "no worse"
    WORSE = "worse"
    CANNOT_TELL = "cannot tell"
    NOT_TESTED = "not tested"  # shown, and no part of the verdict

    @property
    def exit_code(self) -> int:
        return {"no worse": 0, "worse": 1, "cannot tell": 3}[self.value]


@dataclass(frozen=True)
class Check:
    """One row of the gate's table. `p_adjusted` counts how many comparisons were made; NaN: not tested."""

    measure: str
    label: str  # overall, response type, or response type/class
    change: Change
    unscored: int
    tolerance: float | None
    p_adjusted: float
    verdict: GateVerdict
    reason: str = ""


@dataclass(frozen=True)
class GateOutcome:
    verdict: GateVerdict
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]


def decide(
    groups: Sequence[Group], changes: Sequence[Change], unscored: Sequence[str], config: RegressConfig
) -> GateOutcome:
    """The verdict. `unscored` says where too much is unscored; that alone leaves nothing to decide.

    Worse: a check whose adjusted p-value is below 1 - level, its null a rise of the tolerance or less.
    Cannot tell: too few prompts, or a rise of the margin is not ruled out; asked of the whole set and of
    each response type, and not of single classes. No worse: the rest.
    """
    adjusted = _adjusted(groups, changes, config)
    checks = tuple(_check(g, c, p, config) for g, c, p in zip(groups, changes, adjusted, strict=True))
    worse = tuple(f"{_name(t)}: {t.reason}" for t in checks if t.verdict is GateVerdict.WORSE)
    open_ = tuple(f"{_name(t)}: {t.reason}" for t in checks if t.verdict is GateVerdict.CANNOT_TELL)
    if unscored:
        return GateOutcome(GateVerdict.CANNOT_TELL, tuple(unscored), checks)
    if worse:
        return GateOutcome(GateVerdict.WORSE, worse, checks)
    if open_:
        return GateOutcome(GateVerdict.CANNOT_TELL, open_, checks)
    return GateOutcome(GateVerdict.NO_WORSE, (), checks)


def tolerance_of(group: Group, config: RegressConfig) -> float | None:
    allowed = config.tolerance
    return {"ranking_error": allowed.ranking_error, "class_error": allowed.class_error}[group.measure]


def _adjusted(groups: Sequence[Group], changes: Sequence[Change], config: RegressConfig) -> list[float]:
    """Adjusted p-values; NaN for what is not tested or has too few prompts."""
    tested = [
        i
        for i, (group, change) in enumerate(zip(groups, changes, strict=True))
        if tolerance_of(group, config) is not None and change.prompts >= config.min_prompts
    ]
    p_values = [changes[i].p_value for i in tested]
    if config.correction is Correction.HOLM:
        adjusted = weighted_holm(p_values, _weights([groups[i] for i in tested]))
    else:
        adjusted = benjamini_hochberg(p_values)
    found = [float("nan")] * len(groups)
    for i, p in zip(tested, adjusted, strict=True):
        found[i] = p
    return found


def _weights(groups: Sequence[Group]) -> list[float]:
    """Half of the error rate for the whole set, a quarter for response types, a quarter for single classes."""
    levels = [(g.measure, g.response_type is None, g.completion_class is None) for g in groups]
    return [(0.5 if whole else 0.25) / levels.count((m, whole, c)) for m, whole, c in levels]


def _check(group: Group, change: Change, p: float, config: RegressConfig) -> Check:
    tolerance = tolerance_of(group, config)
    verdict, reason = _judge(group, change, p, config)
    return Check(group.measure, group.label, change, group.unscored, tolerance, p, verdict, reason)


def _judge(group: Group, change: Change, p: float, config: RegressConfig) -> tuple[GateVerdict, str]:
    tolerance = tolerance_of(group, config)
    if tolerance is None:
        return GateVerdict.NOT_TESTED, "no tolerance is set"
    if p < 1.0 - config.level:
        limits = f"{100 * change.low:+.1f} to {100 * change.high:+.1f}"
        return GateVerdict.WORSE, (
            f"rose by {100 * change.change:.1f} points ({limits}), more than {100 * tolerance:g}, adjusted p {p:.2g}"
        )
    is_class = group.completion_class is not None
    for problem in _gaps(group, change, config):
        return (GateVerdict.NOT_TESTED if is_class else GateVerdict.CANNOT_TELL), problem
    return GateVerdict.NO_WORSE, ""


def _gaps(group: Group, change: Change, config: RegressConfig) -> Iterator[str]:
    if change.prompts < config.min_prompts:
        count = f"{change.prompts} prompts have" if change.prompts else "no prompt has"
        yield f"{count} {NEEDED[group.measure]} that both rewards scored; {config.min_prompts} are needed"
    elif change.trials < (least := least_trials(config)):
        yield (
            f"a rise of {100 * config.margin:g} points may leave no trace in {change.trials} "
            f"{TRIALS[group.measure]}; {least} are needed"
        )
    elif change.upper > config.margin:
        yield (
            f"a rise of {100 * config.margin:g} points is not ruled out: with {change.prompts} prompts it may "
            f"be {100 * change.upper:.1f}"
        )


def least_trials(config: RegressConfig) -> int:
    """Trials in which a rise of the margin shows at least once, with the chance `level`.

    With fewer, two rewards that agree on all of them rule nothing out, though every resampling agrees too.
    """
    return (
        math.ceil(math.log(1.0 - config.level) / math.log(1.0 - config.margin)) if config.margin < 1.0 else 1
    )


def _name(check: Check) -> str:
    return f"{check.measure.replace('_', ' ')}, {check.label.replace('_', ' ')}"
