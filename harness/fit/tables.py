"""What the console, the summary and the page of `rbrbench fit` show: text ready to print. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evals.values.conversation import ResponseType
from harness.findings.wording import REWARDS, percent, plain, points
from harness.report.plots.rule_contributions import feature_label
from harness.report.reward import ABLATIONS
from trainers.reward.diagnosis import REWARD_MODEL, Diagnosis
from trainers.reward.ranking import RankingError
from trainers.reward.reward_weights import RewardWeights
from trainers.reward.rule_effects import RuleEffect

NOTHING = "–"
Cell = tuple[str, str]  # a value and, below or beside it, its interval
EMPTY: Cell = (NOTHING, "")
RULE_COLUMNS = (
    *("weight", "ideal − other", "contribution", "share of variance"),
    *("error without", "error, refitted"),
)


@dataclass(frozen=True)
class TextTable:
    """A heading column and text cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


@dataclass(frozen=True)
class FitTables:
    """Everything that is shown, but the pictures and the pairs."""

    headline: str
    notes: tuple[str, ...]
    errors: TextTable
    fits: TextTable
    ablations: TextTable
    rules: tuple[TextTable, ...]


def fit_tables(diagnoses: Sequence[Diagnosis], weights: RewardWeights, notes: Sequence[str]) -> FitTables:
    return FitTables(
        headline=_headline(diagnoses),
        notes=tuple(notes),
        errors=_errors(diagnoses),
        fits=_fits(weights),
        ablations=_ablations(diagnoses),
        rules=tuple(_rules(d) for d in diagnoses),
    )


def has_reward_model(diagnoses: Sequence[Diagnosis]) -> bool:
    return any("rm" in d.errors for d in diagnoses)


def _headline(diagnoses: Sequence[Diagnosis]) -> str:
    """Means over response types."""
    reward = "rm+rbr" if has_reward_model(diagnoses) else "rbr"
    total = percent(_mean([d.error.value for d in diagnoses]))
    worst = max(diagnoses, key=lambda d: d.error.value if math.isfinite(d.error.value) else -1.0)
    text = f"{REWARDS[reward]} ranks {total} of worse completions above the ideal one"
    if reward == "rm+rbr":
        text += f", the reward model alone {percent(_mean([d.errors['rm'].value for d in diagnoses]))}"
    if len(diagnoses) > 1 and worst.error.value > 0.0:
        worst_error = percent(worst.error.value)
        text += f" (mean of {len(diagnoses)} response types; the most in {_type(worst)}: {worst_error})"
    return text


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan


def _errors(diagnoses: Sequence[Diagnosis]) -> TextTable:
    rewards = [name for name in REWARDS if any(name in d.errors for d in diagnoses)]
    rows = tuple((_type(d), (*(_error(d.errors[name]) for name in rewards), *_counts(d))) for d in diagnoses)
    columns = (*(REWARDS[name] for name in rewards), "prompts", "pairs", "unscored pairs")
    return TextTable("ranking error, held-out prompts", columns, rows)


def _counts(d: Diagnosis) -> tuple[Cell, ...]:
    return tuple(
        (f"{count:,}".replace(",", " "), "") for count in (d.error.prompts, d.error.pairs, d.error.unscored)
    )


def _error(error: RankingError) -> Cell:
    if not math.isfinite(error.value):
        return EMPTY
    return percent(error.value), f"{100 * error.low:.1f} to {100 * error.high:.1f}"


def _fits(weights: RewardWeights) -> TextTable:
    columns = (
        "prompts",
        "completions",
        "pairs",
        "left out",
        "held-out prompts",
        "hinge loss",
        "gap",
        "largest weight",
    )
    rows = tuple((_name(t), _fit_cells(weights, t)) for t in weights.response_types)
    return TextTable("fit", columns, rows)


def _fit_cells(weights: RewardWeights, response_type: ResponseType) -> tuple[Cell, ...]:
    fit = weights.fits[response_type]
    counts = (fit.prompts, fit.responses, fit.pairs, fit.dropped, fit.held_out_prompts)
    largest = max((abs(w) for w in weights.by_type.get(response_type, {}).values()), default=math.nan)
    return (
        *((f"{count:,}".replace(",", " "), "") for count in counts),
        (f"{fit.hinge:.4g}", ""),
        ("not claimed" if fit.gap is None else f"{fit.gap:.0e}", ""),
        (f"{largest:.2f}" if math.isfinite(largest) else NOTHING, ""),
    )


def _ablations(diagnoses: Sequence[Diagnosis]) -> TextTable:
    """Rows by name, one column a response type: the error, and by how much it is above the fitted one's."""
    names = [name for name in ABLATIONS if any(a.name == name for d in diagnoses for a in d.ablations)]
    found = {(a.name, d.response_type): a for d in diagnoses for a in d.ablations}
    rows = []
    for name in names:
        cells = []
        for d in diagnoses:
            a = found.get((name, d.response_type))
            if a is None or not math.isfinite(a.error.value):
                cells.append(EMPTY)
            else:
                change = f"{points(a.change.low)} to {points(a.change.high)}"
                cells.append((percent(a.error.value), "" if name == "fitted" else change))
        rows.append((ABLATIONS[name], tuple(cells)))
    return TextTable("in place of the fitted weights", tuple(_type(d) for d in diagnoses), tuple(rows))


def _rules(d: Diagnosis) -> TextTable:
    model = d.variance[REWARD_MODEL]
    first: tuple[tuple[str, tuple[Cell, ...]], ...] = ()
    if math.isfinite(model) and "rm" in d.errors:
        first = (("reward model", (EMPTY, EMPTY, EMPTY, _share(model), EMPTY, EMPTY)),)
    rows = tuple((feature_label(e.name), _rule_cells(e, d)) for e in d.effects)
    return TextTable(_type(d), RULE_COLUMNS, (*first, *rows))


def _rule_cells(effect: RuleEffect, d: Diagnosis) -> tuple[Cell, ...]:
    costs = [
        (percent(error), points(error - d.error.value)) if math.isfinite(error) else EMPTY
        for error in (effect.error_without, effect.error_refitted)
    ]
    return (
        _signed(effect.weight),
        _signed(effect.gap),
        _signed(effect.contribution),
        _share(d.variance[effect.name]),
        *costs,
    )


def _signed(value: float) -> Cell:
    return (f"{value:+.2f}".replace("-", "−"), "") if math.isfinite(value) else EMPTY


def _share(value: float) -> Cell:
    return percent(value).replace("-", "−"), ""


def _type(d: Diagnosis) -> str:
    return _name(d.response_type)


def _name(response_type: ResponseType) -> str:
    return plain(response_type.value)
