"""The document of `rbrbench fit`: what the reward is worth, what each rule does, the pairs that it ranks wrongly."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from evals.values.conversation import ResponseType
from harness.findings.wording import REWARDS, percent, plain, points
from harness.fit.engine import FitResult
from harness.report.document import (
    Answer,
    Card,
    Cards,
    Cell,
    Document,
    Figure,
    Fold,
    Row,
    Screen,
    Section,
    Table,
    Text,
)
from harness.report.figures import folder_figures, placed
from harness.report.page import write_pages
from harness.report.plots.rule_contributions import feature_label
from harness.report.reward import ABLATIONS
from trainers.reward.diagnosis import REWARD_MODEL, Diagnosis
from trainers.reward.ranking import RankingError
from trainers.reward.reward_weights import RewardWeights
from trainers.reward.rule_effects import RuleEffect

RULE_COLUMNS = (
    *("weight", "ideal − other", "contribution", "share of variance"),
    *("error without", "error, refitted"),
)
FIT_COLUMNS = (
    *("prompts", "completions", "pairs", "left out", "held-out prompts"),
    *("hinge loss", "gap", "largest weight"),
)
NAME_WIDTH = 22  # of the terminal's first column
RULE_SCREEN = ("weight", "contribution", "share of variance", "error, refitted")
FIT_SCREEN = ("prompts", "pairs", "left out", "hinge loss", "gap", "largest weight")
RULES_SHOWN = 8  # of each response type on the terminal; all stand in the summary and on the page
ERRORS = (
    "Ranking error: share of pairs (ideal, other) of one prompt in which the other completion earns more. 95 % "
    "intervals by bootstrap over prompts."
)
ABLATED = (
    "Ranking error on the same held-out prompts with something else in place of the fitted weights; below it the "
    "95 % interval of the change against the fitted reward, in points, paired by prompt."
)
RULES = (
    "Ideal − other: mean difference of the feature between the ideal completion and the others of its prompt. "
    "Contribution: weight times that, in reward units. Share of the reward's variance among completions of one "
    "prompt; negative where a term works against the whole. The error without a rule: its part of the reward taken "
    "away; refitted: everything else fitted anew without it. Leaving out a proposition leaves the classes that are "
    "made of it."
)
FITTED = "The hinge loss is convex; gap is the certified distance to its optimum, relative, at most."
FOOTER = (
    "weights.json is the reward; figures in full precision: metrics.csv, rules.csv, ablations.csv, "
    "learning_curve.csv, rewards.jsonl, worst_pairs.jsonl."
)


def write_fit_report(result: FitResult) -> tuple[Document, Path]:
    """Draw plots, summary.md and fit.html into the fit's folder; the document and the page's path.

    The same results give the same bytes.
    """
    document = fit_document(result, folder_figures(result.folder))
    return document, write_pages(document, result.folder, "fit.html")


def fit_document(result: FitResult, figures: Sequence[Figure] = ()) -> Document:
    return Document(
        name=result.config.name,
        command="rbrbench fit",
        title="a rule-based reward, fitted",
        headline=_headline(result.diagnoses),
        sections=tuple(_sections(result, figures)),
        notes=result.notes,
        footer=FOOTER,
        screen=("rules", "ablations", "fit", "errors"),
    )


def _sections(result: FitResult, figures: Sequence[Figure]) -> Iterator[Section]:
    diagnoses = result.diagnoses
    of_rules = placed(figures, "rules")
    others = tuple(figure for figure in figures if figure not in of_rules)
    yield Section(
        "errors",
        "Ranking error",
        "Does the reward rank completions rightly?",
        (Text(ERRORS), _errors(diagnoses), *others),
        "Ranking error",
    )
    yield Section("ablations", "Ablations", "What the fit is worth", (Text(ABLATED), _ablations(diagnoses)))
    rules = (Fold(table.title, (table,)) for table in map(_rules, diagnoses))
    yield Section("rules", "Rules", "What each rule does", (Text(RULES), *of_rules, *rules))
    cards = tuple(_cards(d, result) for d in diagnoses)
    pairs = Fold("Prompts and completions (may contain offensive text)", cards, kind="samples")
    yield Section("pairs", "Worst pairs", "The worst-ranked pairs, and what decides them", (pairs,), "")
    yield Section("fit", "Fit", "The fit", (Text(FITTED), _fits(result.weights)))


def _headline(diagnoses: Sequence[Diagnosis]) -> str:
    """Means over response types."""
    reward = "rm+rbr" if any("rm" in d.errors for d in diagnoses) else "rbr"
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


def _errors(diagnoses: Sequence[Diagnosis]) -> Table:
    rewards = [name for name in REWARDS if any(name in d.errors for d in diagnoses)]
    rows = tuple(Row(_type(d), (*(_error(d.errors[n]) for n in rewards), *_counts(d))) for d in diagnoses)
    columns = (*(REWARDS[name] for name in rewards), "prompts", "pairs", "unscored pairs")
    screen = Screen(name_width=NAME_WIDTH)
    return Table("ranking error, held-out prompts", columns, rows, screen=screen)


def _counts(d: Diagnosis) -> tuple[Cell, ...]:
    return tuple(map(_count, (d.error.prompts, d.error.pairs, d.error.unscored)))


def _count(count: int) -> Cell:
    return Cell(f"{count:,}".replace(",", " "))


def _error(error: RankingError) -> Cell:
    if not math.isfinite(error.value):
        return Cell()
    return Cell(percent(error.value), interval=f"{100 * error.low:.1f} to {100 * error.high:.1f}")


def _fits(weights: RewardWeights) -> Table:
    rows = tuple(Row(plain(t.value), _fit_cells(weights, t)) for t in weights.response_types)
    return Table("fit", FIT_COLUMNS, rows, screen=Screen(FIT_SCREEN, name_width=NAME_WIDTH))


def _fit_cells(weights: RewardWeights, response_type: ResponseType) -> tuple[Cell, ...]:
    fit = weights.fits[response_type]
    counts = (fit.prompts, fit.responses, fit.pairs, fit.dropped, fit.held_out_prompts)
    largest = max((abs(w) for w in weights.by_type.get(response_type, {}).values()), default=math.nan)
    return (
        *map(_count, counts),
        Cell(f"{fit.hinge:.4g}"),
        Cell("not claimed" if fit.gap is None else f"{fit.gap:.0e}"),
        Cell(f"{largest:.2f}") if math.isfinite(largest) else Cell(),
    )


def _ablations(diagnoses: Sequence[Diagnosis]) -> Table:
    """Rows by name, one column a response type: the error, and by how much it is above the fitted one's."""
    names = [name for name in ABLATIONS if any(a.name == name for d in diagnoses for a in d.ablations)]
    found = {(a.name, d.response_type): a for d in diagnoses for a in d.ablations}
    rows = []
    for name in names:
        cells = []
        for d in diagnoses:
            a = found.get((name, d.response_type))
            if a is None or not math.isfinite(a.error.value):
                cells.append(Cell())
            else:
                change = f"{points(a.change.low)} to {points(a.change.high)}"
                cells.append(Cell(percent(a.error.value), interval="" if name == "fitted" else change))
        rows.append(Row(ABLATIONS[name], tuple(cells)))
    columns = tuple(map(_type, diagnoses))
    screen = Screen(name_width=NAME_WIDTH)
    return Table("in place of the fitted weights", columns, tuple(rows), screen=screen)


def _rules(d: Diagnosis) -> Table:
    model = d.variance[REWARD_MODEL]
    first: tuple[Row, ...] = ()
    if math.isfinite(model) and "rm" in d.errors:
        first = (Row("reward model", (Cell(), Cell(), Cell(), _share(model), Cell(), Cell())),)
    rows = tuple(Row(feature_label(e.name), _rule_cells(e, d)) for e in d.effects)
    title = f"{_type(d)}: rules"
    screen = Screen(RULE_SCREEN, rows=RULES_SHOWN, title=title, name_width=NAME_WIDTH)
    return Table(_type(d), RULE_COLUMNS, (*first, *rows), screen=screen)


def _rule_cells(effect: RuleEffect, d: Diagnosis) -> tuple[Cell, ...]:
    costs = [
        Cell(percent(error), interval=points(error - d.error.value)) if math.isfinite(error) else Cell()
        for error in (effect.error_without, effect.error_refitted)
    ]
    return (
        _signed(effect.weight),
        _signed(effect.gap),
        _signed(effect.contribution),
        _share(d.variance[effect.name]),
        *costs,
    )


def _cards(d: Diagnosis, result: FitResult) -> Cards:
    """The worst pairs of a response type; their texts are a model's."""
    mine = result.responses[d.response_type.value]
    cards = []
    for pair in d.worst:
        deciding = ", ".join(f"{feature_label(name)} {_figure(part)}" for name, part in pair.deciding)
        tags = f"{pair.prompt} · ideal earns {_figure(pair.gap)} against the other · "
        ideal, other = mine[pair.ideal], mine[pair.other]
        cards.append(
            Card(
                tags + f"decided by: {deciding or 'no single part'}",
                "\n".join(f"{m.role}: {m.content}" for m in ideal.prompt.messages),
                (Answer("ideal", ideal.text), Answer(plain(d.held.classes[pair.other]), other.text)),
            )
        )
    return Cards(_type(d), tuple(cards), "Every scored pair is ranked rightly.")


def _signed(value: float) -> Cell:
    return Cell(_figure(value)) if math.isfinite(value) else Cell()


def _figure(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _share(value: float) -> Cell:
    return Cell(percent(value).replace("-", "−"))


def _type(d: Diagnosis) -> str:
    return plain(d.response_type.value)
