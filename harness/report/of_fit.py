"""The document of `rbrbench fit`, from its record: what the reward is worth, what each rule does, the worst pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.values.conversation import ResponseType, types_in_order
from evals.values.metrics_table import MetricRow
from harness.findings.wording import REWARDS, distinct_labels, percent, plain, points
from harness.record.reward_rows import TABLES, WORST
from harness.record.run import JsonRow, ResultsFolder, number, spending_notes
from harness.report.document import (
    Answer,
    Card,
    Cards,
    Cell,
    Document,
    Figure,
    Fold,
    Screen,
    Section,
    Table,
    TableRow,
    Text,
)
from harness.report.figures import folder_figures, placed
from harness.report.page import write_pages
from harness.report.plots.rule_contributions import feature_label
from harness.report.reward import ABLATIONS
from trainers.reward.diagnosis import REWARD_MODEL

RULE_COLUMNS = (
    *("weight", "ideal − other", "contribution", "share of variance"),
    *("error without", "error, refitted"),
)
FIT_COLUMNS = (
    *("prompts", "completions", "pairs", "left out", "held-out prompts"),
    *("hinge loss", "gap", "largest weight"),
)
RULE_NUMBERS = (
    *("weight", "gap", "contribution", "variance_share"),
    *("error", "error_without", "error_refitted"),
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


@dataclass(frozen=True)
class _Judged:
    """What the record has of one response type: errors by reward, ablations by name, rules, worst pairs."""

    response_type: str
    errors: Mapping[str, MetricRow]
    ablations: Mapping[str, JsonRow]
    rules: Sequence[JsonRow]
    worst: Sequence[JsonRow]

    @property
    def title(self) -> str:
        return plain(self.response_type)

    @property
    def error(self) -> MetricRow:
        """Of the whole reward: with the reward model, where there is one."""
        return self.errors["rm+rbr"] if "rm+rbr" in self.errors else self.errors["rbr"]


@distinct_labels()
def write_fit_report(path: Path) -> tuple[Document, Path]:
    """Draw plots, summary.md and fit.html into a fit's folder; the document and the page's path.

    The same record gives the same bytes. Raises InputError for bad files.
    """
    document = fit_document(ResultsFolder(path), folder_figures(path))
    return document, write_pages(document, path, "fit.html")


def fit_document(folder: ResultsFolder, figures: Sequence[Figure] = ()) -> Document:
    judged = _judged(folder)
    return Document(
        name=folder.name,
        command="rbrbench fit",
        title="a rule-based reward, fitted",
        headline=_headline(judged),
        sections=tuple(_sections(judged, folder.json("weights.json"), figures)),
        notes=(*folder.manifest["notes"], *spending_notes(folder.manifest)),
        footer=FOOTER,
        screen=("rules", "ablations", "fit", "errors"),
    )


def _judged(folder: ResultsFolder) -> list[_Judged]:
    """By response type, in the order of the fit."""
    rules, _, ablations = TABLES
    changes = ("error", "change_low", "change_high", "prompts", "pairs", "unscored")
    compared = folder.table(ablations, changes, ("response_type", "ablation"))
    features = folder.table(rules, RULE_NUMBERS, ("response_type", "feature"))
    pairs = folder.rows(WORST, {"response_type": str, "prompt_id": str, "gap": float, "deciding": dict})

    def of(kind: str, rows: Sequence[JsonRow]) -> list[JsonRow]:
        return [row for row in rows if row["response_type"] == kind]

    return [
        _Judged(
            kind,
            {row.method: row for row in folder.metrics if row.suite == f"synthetic/{kind}"},
            {row["ablation"]: row for row in of(kind, compared)},
            of(kind, features),
            of(kind, pairs),
        )
        for kind in dict.fromkeys(row["response_type"] for row in compared)
    ]


def _sections(judged: Sequence[_Judged], weights: JsonRow, figures: Sequence[Figure]) -> Iterator[Section]:
    of_rules = placed(figures, "rules")
    others = tuple(figure for figure in figures if figure not in of_rules)
    yield Section(
        "errors",
        "Ranking error",
        "Does the reward rank completions rightly?",
        (Text(ERRORS), _errors(judged), *others),
        "Ranking error",
    )
    yield Section("ablations", "Ablations", "What the fit is worth", (Text(ABLATED), _ablations(judged)))
    rules = (Fold(table.title, (table,)) for table in map(_rules, judged))
    yield Section("rules", "Rules", "What each rule does", (Text(RULES), *of_rules, *rules))
    pairs = Fold(
        "Prompts and completions (may contain offensive text)", tuple(map(_cards, judged)), kind="samples"
    )
    yield Section("pairs", "Worst pairs", "The worst-ranked pairs, and what decides them", (pairs,), "")
    yield Section("fit", "Fit", "The fit", (Text(FITTED), _fits(weights)))


def _headline(judged: Sequence[_Judged]) -> str:
    """Means over response types."""
    reward = "rm+rbr" if any("rm" in d.errors for d in judged) else "rbr"
    total = percent(_mean([d.error.value for d in judged]))
    worst = max(judged, key=lambda d: d.error.value if math.isfinite(d.error.value) else -1.0)
    text = f"{REWARDS[reward]} ranks {total} of worse completions above the ideal one"
    if reward == "rm+rbr":
        text += f", the reward model alone {percent(_mean([d.errors['rm'].value for d in judged]))}"
    if len(judged) > 1 and worst.error.value > 0.0:
        worst_error = percent(worst.error.value)
        text += f" (mean of {len(judged)} response types; the most in {worst.title}: {worst_error})"
    return text


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan


def _errors(judged: Sequence[_Judged]) -> Table:
    rewards = [name for name in REWARDS if any(name in d.errors for d in judged)]
    rows = tuple(TableRow(d.title, (*(_error(d.errors[n]) for n in rewards), *_counts(d))) for d in judged)
    columns = (*(REWARDS[name] for name in rewards), "prompts", "pairs", "unscored pairs")
    screen = Screen(name_width=NAME_WIDTH)
    return Table("ranking error, held-out prompts", columns, rows, screen=screen)


def _counts(d: _Judged) -> tuple[Cell, ...]:
    return tuple(_count(d.ablations["fitted"][name]) for name in ("prompts", "pairs", "unscored"))


def _count(count: float) -> Cell:
    return Cell(f"{count:,.0f}".replace(",", " "))


def _error(error: MetricRow) -> Cell:
    if not math.isfinite(error.value):
        return Cell()
    return Cell(percent(error.value), interval=f"{100 * error.ci_low:.1f} to {100 * error.ci_high:.1f}")


def _fits(weights: JsonRow) -> Table:
    kinds = [kind.value for kind in types_in_order(map(ResponseType, weights["fits"]))]
    rows = tuple(
        TableRow(plain(k), _fit_cells(weights["fits"][k], weights["weights"].get(k, {}))) for k in kinds
    )
    return Table("fit", FIT_COLUMNS, rows, screen=Screen(FIT_SCREEN, name_width=NAME_WIDTH))


def _fit_cells(fit: JsonRow, by_name: Mapping[str, float]) -> tuple[Cell, ...]:
    counts = (fit[name] for name in ("prompts", "responses", "pairs", "dropped", "held_out_prompts"))
    largest = max((abs(weight) for weight in by_name.values()), default=math.nan)
    return (
        *map(_count, counts),
        Cell(f"{number(fit, 'hinge'):.4g}"),
        Cell("not claimed" if fit["gap"] is None else f"{fit['gap']:.0e}"),
        Cell(f"{largest:.2f}") if math.isfinite(largest) else Cell(),
    )


def _ablations(judged: Sequence[_Judged]) -> Table:
    """Rows by name, one column a response type: the error, and by how much it is above the fitted one's."""
    names = [name for name in ABLATIONS if any(name in d.ablations for d in judged)]
    rows = tuple(TableRow(ABLATIONS[name], tuple(_ablation(d, name) for d in judged)) for name in names)
    screen = Screen(name_width=NAME_WIDTH)
    return Table("in place of the fitted weights", tuple(d.title for d in judged), rows, screen=screen)


def _ablation(d: _Judged, name: str) -> Cell:
    a = d.ablations.get(name)
    if a is None or not math.isfinite(a["error"]):
        return Cell()
    change = f"{points(a['change_low'])} to {points(a['change_high'])}"
    return Cell(percent(a["error"]), interval="" if name == "fitted" else change)


def _rules(d: _Judged) -> Table:
    """The reward model's row has a share of the variance only."""
    shown = [row for row in d.rules if row["feature"] != REWARD_MODEL or "rm" in d.errors]
    rows = tuple(
        TableRow(
            "reward model" if row["feature"] == REWARD_MODEL else feature_label(row["feature"]),
            _rule_cells(row),
        )
        for row in shown
    )
    screen = Screen(RULE_SCREEN, rows=RULES_SHOWN, title=f"{d.title}: rules", name_width=NAME_WIDTH)
    return Table(d.title, RULE_COLUMNS, rows, screen=screen)


def _rule_cells(row: JsonRow) -> tuple[Cell, ...]:
    costs = [
        Cell(percent(error), interval=points(error - row["error"])) if math.isfinite(error) else Cell()
        for error in (row["error_without"], row["error_refitted"])
    ]
    return (
        *(_signed(row[name]) for name in ("weight", "gap", "contribution")),
        Cell(percent(row["variance_share"]).replace("-", "−")),
        *costs,
    )


def _cards(d: _Judged) -> Cards:
    """The worst pairs of a response type; their texts are a model's."""
    cards = []
    for pair in d.worst:
        deciding = ", ".join(
            f"{feature_label(name)} {_figure(part)}" for name, part in pair["deciding"].items()
        )
        tags = f"{pair['prompt_id']} · ideal earns {_figure(pair['gap'])} against the other · "
        cards.append(
            Card(
                tags + f"decided by: {deciding or 'no single part'}",
                "\n".join(f"{turn['role']}: {turn['content']}" for turn in pair["prompt"]),
                (Answer("ideal", pair["ideal"]), Answer(plain(pair["other_class"]), pair["other"])),
            )
        )
    return Cards(d.title, tuple(cards), "Every scored pair is ranked rightly.")


def _signed(value: float) -> Cell:
    return Cell(_figure(value)) if math.isfinite(value) else Cell()


def _figure(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
