"""From changes to a verdict: worse, no worse, or cannot tell. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from evals.judges.measures import SOFT_REFUSE
from evals.statistics import benjamini_hochberg, weighted_holm
from harness.gate.ceilings import CEILING_CHECKS
from harness.gate.measures import CLASS_ERROR, RANKING_ERROR, TrialGroup
from harness.gate.paired import Errors, PairedChange, rise_limit
from harness.keys.gate import Correction, GateVerdict, RegressConfig

NEEDED = {
    RANKING_ERROR: "an ideal completion and another",
    CLASS_ERROR: "a completion",
    **dict.fromkeys(CEILING_CHECKS.values(), "enough samples"),
}


@dataclass(frozen=True)
class Check:
    """One row of the gate's table. `p_adjusted` counts how many comparisons were made; NaN: not tested."""

    measure: str
    label: str  # overall, response type, or response type/class
    change: PairedChange
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
    groups: Sequence[TrialGroup],
    changes: Sequence[PairedChange],
    unscored: Sequence[str],
    config: RegressConfig,
) -> GateOutcome:
    """The verdict. `unscored` says where too much is unscored; that alone leaves nothing to decide.

    Worse: a check whose adjusted p-value is below 1 - level, its null a rise of the tolerance or less.
    Cannot tell: too few prompts, or a rise of the margin is not ruled out; asked of the whole set and of
    each response type, and not of single classes. Soft refusals that are too few alone are asked together, as
    other measures count them. No worse: the rest.
    """
    adjusted = _adjusted(groups, changes, config)
    asked = _asked(groups, changes, config)
    checks = tuple(_check(*row, config) for row in zip(groups, changes, asked, adjusted, strict=True))
    worse = tuple(f"{_name(t)}: {t.reason}" for t in checks if t.verdict is GateVerdict.WORSE)
    open_ = tuple(f"{_name(t)}: {t.reason}" for t in checks if t.verdict is GateVerdict.CANNOT_TELL)
    if unscored:
        return GateOutcome(GateVerdict.CANNOT_TELL, tuple(unscored), checks)
    if worse:
        return GateOutcome(GateVerdict.WORSE, worse, checks)
    if open_:
        return GateOutcome(GateVerdict.CANNOT_TELL, open_, checks)
    return GateOutcome(GateVerdict.NO_WORSE, (), checks)


def tolerance_of(group: TrialGroup, config: RegressConfig) -> float | None:
    allowed = config.tolerance
    of_ceilings = {CEILING_CHECKS[name]: value for name, value in allowed.of_ceilings.items()}
    return {RANKING_ERROR: allowed.ranking_error, CLASS_ERROR: allowed.class_error, **of_ceilings}[
        group.measure
    ]


def _adjusted(
    groups: Sequence[TrialGroup], changes: Sequence[PairedChange], config: RegressConfig
) -> list[float]:
    """Adjusted p-values; NaN for what is not tested or has too few prompts."""
    tested = [
        i
        for i, (group, change) in enumerate(zip(groups, changes, strict=True))
        if tolerance_of(group, config) is not None
        and change.prompts >= config.min_prompts
        and not group.problem
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


def _weights(groups: Sequence[TrialGroup]) -> list[float]:
    """Half of the error rate for the whole set, a quarter for response types, a quarter for single classes."""
    levels = [(g.measure, g.response_type is None, g.completion_class is None) for g in groups]
    return [(0.5 if whole else 0.25) / levels.count((m, whole, c)) for m, whole, c in levels]


@dataclass(frozen=True)
class _Asked:
    """What a group's "no worse" rests on: prompts with trials, and the one-sided limit of the rise."""

    prompts: int
    upper: float
    together: bool = False


def _is_soft(group: TrialGroup) -> bool:
    return group.response_type is not None and group.response_type.like in SOFT_REFUSE


def _asked(
    groups: Sequence[TrialGroup], changes: Sequence[PairedChange], config: RegressConfig
) -> list[_Asked]:
    """Each group by itself, but soft refusals with fewer than `least_prompts` by both kinds together."""
    soft: dict[str, list[Errors]] = {}
    for group in groups:
        if _is_soft(group) and group.completion_class is None:
            soft.setdefault(group.measure, []).append(group.errors)
    found = []
    for group, change in zip(groups, changes, strict=True):
        alone = _Asked(change.prompts, change.upper)
        few = _is_soft(group) and change.prompts < least_prompts(config)
        if few and len(both := soft.get(group.measure, [])) > 1:
            errors = Errors(*(sum(getattr(e, f.name) for e in both) for f in fields(Errors)))
            alone = _Asked(errors.prompts, rise_limit(errors, config.level), together=True)
        found.append(alone)
    return found


def _check(group: TrialGroup, change: PairedChange, asked: _Asked, p: float, config: RegressConfig) -> Check:
    tolerance = tolerance_of(group, config)
    verdict, reason = _judge(group, change, asked, p, config)
    return Check(group.measure, group.label, change, group.unscored, tolerance, p, verdict, reason)


def _judge(
    group: TrialGroup, change: PairedChange, asked: _Asked, p: float, config: RegressConfig
) -> tuple[GateVerdict, str]:
    tolerance = tolerance_of(group, config)
    if tolerance is None:
        return GateVerdict.NOT_TESTED, "no tolerance is set"
    if p < 1.0 - config.level:
        limits = f"{100 * change.low:+.1f} to {100 * change.high:+.1f}"
        return GateVerdict.WORSE, (
            f"rose by {100 * change.change:.1f} points ({limits}), more than {100 * tolerance:g}, adjusted p {p:.2g}"
        )
    is_class = group.completion_class is not None
    for problem in _gaps(group, change, asked, config):
        return (GateVerdict.NOT_TESTED if is_class else GateVerdict.CANNOT_TELL), problem
    return GateVerdict.NO_WORSE, ""


def _gaps(group: TrialGroup, change: PairedChange, asked: _Asked, config: RegressConfig) -> Iterator[str]:
    together = " of both soft refusals together" if asked.together else ""
    if group.problem:
        yield group.problem
    if change.prompts < config.min_prompts:
        count = f"{change.prompts} {group.units} have" if change.prompts else "no prompt has"
        yield f"{count} {NEEDED[group.measure]} that both rewards scored; {config.min_prompts} are needed"
    elif asked.prompts < (least := least_prompts(config)):
        yield (
            f"a rise of {100 * config.margin:g} points may leave no trace in {asked.prompts} {group.units}{together}; "
            f"{least} are needed"
        )
    elif asked.upper > config.margin:
        yield (
            f"a rise of {100 * config.margin:g} points is not ruled out: with {asked.prompts} "
            f"{group.units}{together} it may be {100 * asked.upper:.1f}"
        )


def least_prompts(config: RegressConfig) -> int:
    """Prompts in which a rise of the margin shows at least once, with the chance `level`: its pairs turn together.

    With fewer, two rewards that agree on all of them rule nothing out, though every resampling agrees too.
    """
    return math.ceil(-math.log(1.0 - config.level) / config.margin)


def _name(check: Check) -> str:
    return f"{check.measure.replace('_', ' ')}, {check.label.replace('_', ' ')}"
