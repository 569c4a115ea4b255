"""The document of `rbrbench gold`, from its record: graders side by side, by proposition, attacked, and as taught."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from evals.graders.calibration import COLUMNS, MEAN, calibration_error
from evals.graders.level_agreement import LEVEL_COLUMNS
from harness.findings.wording import distinct_labels
from harness.gold.agreement import COLUMNS as COLUMNS_OF_TEACHER
from harness.gold.measure import ENOUGH
from harness.record.run import JsonRow, ResultsFolder, number
from harness.report.document import (
    NOTHING,
    Cell,
    Document,
    Figure,
    Heading,
    Part,
    Screen,
    Section,
    Table,
    TableRow,
    Text,
    Where,
)
from harness.report.figures import folder_figures
from harness.report.gold_cells import figure_text, metric_cell, share_text
from harness.report.gold_overview import GoldGrader, overview
from harness.report.page import write_pages
from harness.report.plots.reliability import curves_of

PROPOSITION_COLUMNS = (
    *("true / judged", "accuracy", "majority", "balanced accuracy", "TPR", "TNR", "AUROC", "Brier score"),
    *("tuned at", "tuned: accuracy", "tuned: balanced", "labels"),
)
AGREEMENT_COLUMNS = (
    *("teacher says true", "agreement", "its commoner verdict", "balanced agreement"),
    *("mean difference", "labels"),
)
OVERVIEWS = ((MEAN, "mean over propositions"), (ENOUGH, "mean over those with enough labels"))
HOSTILE_COLUMNS = ("kind", "mean change", "verdicts flipped", "unscored", "moves most")
# A terminal is narrow: what is left out stands in the summary and on the page.
SHOWN = Screen(
    ("true / judged", "accuracy", "balanced accuracy", "AUROC", "Brier score", "tuned: balanced", "labels"),
    intervals=False,
)
TAUGHT_SHOWN = Screen(
    ("teacher says true", "agreement", "its commoner verdict", "mean difference"), intervals=False
)
OVERVIEW = "Percent, but the Brier score and changes of a grade; 95 % intervals below each value."
SUMMARY_OVERVIEW = "Percent, but Brier score, thresholds and changes of a grade."
AGREED = (
    "Agreement is the share of completions on which both say true (0.5 or more) or both say false, in percent; mean "
    "difference is that of the two grades (0 to 1). By heads that did not see the prompt."
)
ATTACKED = (
    "The same responses, graded with and without each attack: mean absolute change of a grade (0 to 1), and share of "
    "verdicts that change."
)


LEVELS = (
    "Grades of several levels against the labelled ones. A level's score is 0 to 1, a grade the expected one. Kappa is "
    "of the nearest level, weighted by the squared distance of scores; exact is the share of nearest levels that are "
    "right, in percent. The error beside is that of the one score that errs least for all."
)
LEVEL_MEASURES = (
    "judged",
    "mean absolute error",
    "of one score for all",
    "weighted kappa",
    "exact level",
    "unscored",
)


@distinct_labels()
def write_gold_report(path: Path) -> tuple[Document, Path]:
    """Draw plots, summary.md and gold.html into a gold's folder; the document and the page's path.

    The same record gives the same bytes. Raises InputError for bad files.
    """
    folder = ResultsFolder(path)
    document = gold_document(folder, folder_figures(path))
    return document, write_pages(document, path, "gold.html")


def gold_document(folder: ResultsFolder, figures: Sequence[Figure] = ()) -> Document:
    graders = gold_graders(folder)
    taught, levels = tuple(_taught(folder)), tuple(_levels(folder))
    return Document(
        name=folder.name,
        command="rbrbench gold",
        title="graders against labels",
        headline=_headline(graders),
        sections=tuple(_sections(graders, levels, taught, figures)),
        notes=tuple(folder.manifest["notes"]),
        footer=f"Figures in full precision: {', '.join(_files(levels, taught))}; "
        "thresholds for use: thresholds.json.",
        screen=("propositions", "levels", "teacher", "attacks", "graders"),
    )


def gold_graders(folder: ResultsFolder) -> list[GoldGrader]:
    texts = ("thresholds", "grader", "proposition", "enough_to_learn", "enough_to_judge")
    rows = folder.table("calibration.csv", [c for c in COLUMNS if c not in texts], texts)
    attacks = folder.table(
        "hostile.csv",
        ("n", "unscored", "mean", "low", "high", "flips", "worst_mean"),
        ("grader", "attack", "kind", "worst"),
    )
    curves = curves_of(folder)

    def of(name: str, thresholds: str) -> list[JsonRow]:
        return [row for row in rows if (row["grader"], row["thresholds"]) == (name, thresholds)]

    return [
        GoldGrader(
            name,
            of(name, "0.5"),
            of(name, "tuned"),
            [row for row in attacks if row["grader"] == name],
            calibration_error([point._asdict() for point in curves.get(name, ())]),
            about,
        )
        for name, about in folder.manifest["graders"].items()
    ]


def _files(levels: Sequence[Table], taught: Sequence[Table]) -> Iterator[str]:
    yield from ("calibration.csv", "hostile.csv")
    yield from ("levels.csv",) if levels else ()
    yield from ("teacher.csv",) if taught else ()


def _sections(
    graders: Sequence[GoldGrader],
    levels: tuple[Table, ...],
    taught: tuple[Table, ...],
    figures: Sequence[Figure],
) -> Iterator[Section]:
    overviews = (overview(graders, *one, first=one is OVERVIEWS[0]) for one in OVERVIEWS)
    said = Text(OVERVIEW), Text(SUMMARY_OVERVIEW, Where.SUMMARY)
    yield Section("graders", "Graders", "Graders side by side", (*said, *overviews), "")
    yield Section("reliability", "Reliability", "Is a grade an honest probability?", tuple(figures), "")
    by_proposition = (_headed(_by_proposition(one), f"{one.name}, by proposition") for one in graders)
    yield Section("propositions", "Propositions", "By proposition", tuple(chain(*by_proposition)), "")
    if levels:
        parts = (Text(LEVELS), *chain(*(_headed(one, f"{one.title}, by levels") for one in levels)))
        yield Section("levels", "Levels", "Propositions with levels", parts, "")
    if taught:
        yield Section(
            "teacher", "Teacher", "Student and teacher", (Text(AGREED), *chain(*map(_headed, taught))), ""
        )
    attacks = [_headed(_hostile(one), f"Attacks on {one.name}") for one in graders if one.attacks]
    if attacks:
        title = "Responses that try to talk to their grader"
        yield Section("attacks", "Attacks", title, (Text(ATTACKED), *chain(*attacks)), "")


def _headline(graders: Sequence[GoldGrader]) -> str:
    best = max(graders, key=lambda grader: number(grader.mean(), "accuracy"))
    accuracy, majority, balanced = (
        share_text(number(best.mean(), metric)) for metric in ("accuracy", "majority", "balanced_accuracy")
    )
    return (
        f"{best.name}: mean accuracy {accuracy} % over propositions, where the majority answer reaches {majority} %; "
        f"balanced accuracy {balanced} %"
    )


def _headed(table: Table, summary: str = "") -> tuple[Part, ...]:
    """A table under its own title, which a summary says by the name `summary`."""
    return Heading(table.title), Heading(summary or table.title, where=Where.SUMMARY), table


def _by_proposition(grader: GoldGrader) -> Table:
    none: JsonRow = {}
    tuned = grader.tuned or [none] * len(grader.fixed)
    rows = (
        TableRow(f["proposition"], _proposition_cells(f, t)) for f, t in zip(grader.fixed, tuned, strict=True)
    )
    return Table(
        grader.name,
        PROPOSITION_COLUMNS,
        tuple(rows),
        words=("labels",),
        screen=SHOWN,
    )


def _proposition_cells(fixed: JsonRow, tuned: JsonRow) -> tuple[Cell, ...]:
    threshold = number(tuned, "threshold")
    return (
        Cell(f"{fixed['n_positive']:.0f} / {fixed['n']:.0f}"),
        metric_cell(fixed, "accuracy"),
        Cell(share_text(fixed["majority"])),
        *(metric_cell(fixed, m) for m in ("balanced_accuracy", "tpr", "tnr", "auroc")),
        metric_cell(fixed, "brier", percent=False),
        Cell(f"{threshold:.2f}" if math.isfinite(threshold) else NOTHING),
        *(metric_cell(tuned, m) for m in ("accuracy", "balanced_accuracy")),
        Cell(_lacking(fixed, learned=bool(tuned))),
    )


def _lacking(row: JsonRow, learned: bool) -> str:
    """What the labels of a proposition do not suffice for; "" where they suffice."""
    lacks = ["to learn from"] if learned and row["enough_to_learn"] == "false" else []
    lacks += ["to judge"] if row["enough_to_judge"] == "false" else []
    return f"too few {' and '.join(lacks)}" if lacks else ""


def _hostile(grader: GoldGrader) -> Table:
    rows = tuple(
        TableRow(
            row["attack"],
            (
                Cell(row["kind"]),
                Cell(figure_text(row["mean"]), interval=f"{row['low']:.3f} to {row['high']:.3f}"),
                Cell(share_text(row["flips"])),
                Cell(f"{row['unscored']:.0f} of {row['n'] + row['unscored']:.0f}"),
                Cell(f"{row['worst']} {row['worst_mean']:+.3f}" if row["worst"] else NOTHING),
            ),
        )
        for row in grader.attacks
    )
    return Table(
        grader.name,
        HOSTILE_COLUMNS,
        rows,
        words=("kind", "moves most"),
        screen=Screen(heading=f"attacks on {grader.name}", beside=True),
    )


def _levels(folder: ResultsFolder) -> Iterator[Table]:
    """A table a grader, where propositions have levels."""
    texts = ("grader", "proposition", "levels")
    rows = folder.table("levels.csv", [column for column in LEVEL_COLUMNS if column not in texts], texts)
    for grader in dict.fromkeys(row["grader"] for row in rows):
        mine = (TableRow(row["proposition"], _level_cells(row)) for row in rows if row["grader"] == grader)
        screen = Screen(LEVEL_MEASURES, heading=f"levels by {grader}", intervals=False)
        yield Table(grader, ("levels", *LEVEL_MEASURES), tuple(mine), words=("levels",), screen=screen)


def _level_cells(row: JsonRow) -> tuple[Cell, ...]:
    return (
        Cell(row["levels"]),
        Cell(f"{row['n']:.0f}"),
        metric_cell(row, "mean_absolute_error", percent=False),
        Cell(figure_text(row["constant_error"])),
        metric_cell(row, "kappa", percent=False),
        metric_cell(row, "exact"),
        Cell(f"{row['n_unscored']:.0f}"),
    )


def _taught(folder: ResultsFolder) -> Iterator[Table]:
    """A table a student."""
    texts = ("student", "teacher", "proposition", "enough_to_learn")
    rows = folder.table(
        "teacher.csv",
        [column for column in COLUMNS_OF_TEACHER if column not in texts],
        texts,
    )
    for student, teacher in dict.fromkeys((row["student"], row["teacher"]) for row in rows):
        title = f"{student} and its teacher {teacher}"
        mine = (TableRow(r["proposition"], _taught_cells(r)) for r in rows if r["student"] == student)
        yield Table(
            title,
            AGREEMENT_COLUMNS,
            tuple(mine),
            words=("labels",),
            screen=TAUGHT_SHOWN,
        )


def _taught_cells(row: JsonRow) -> tuple[Cell, ...]:
    return (
        Cell(f"{row['n_true']:.0f} / {row['n']:.0f}"),
        metric_cell(row, "agreement"),
        Cell(share_text(row["majority"])),
        Cell(share_text(row["balanced_agreement"])),
        Cell(figure_text(row["mean_difference"])),
        Cell("too few to learn from" if row["enough_to_learn"] == "false" else ""),
    )
