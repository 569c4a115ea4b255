"""Graders side by side: what is known of each over all propositions, and its pace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from evals.graders.calibration import MEAN
from evals.graders.hostile import ALL, CONTROL
from harness.findings.wording import points
from harness.record.run import JsonRow, number
from harness.report.document import NOTHING, Cell, Screen, Table, TableRow
from harness.report.gold_cells import metric_cell, share_text

OVERVIEW_COLUMNS = (
    *("accuracy", "balanced accuracy", "TPR", "TNR", "AUROC", "Brier score", "calibration error"),
    *("tuned: accuracy", "tuned: balanced", "moved by attacks", "unscored"),
)
# Of a thousand responses, by the keys of a pace.
PACES = {
    "seconds": "seconds for 1,000 responses",
    "tokens": "tokens for 1,000 responses",
    "cost": "cost of 1,000 responses",
}


@dataclass(frozen=True)
class GoldGrader:
    """What the record has of one grader: rows at 0.5 and tuned, by proposition and in the same order."""

    name: str
    fixed: list[JsonRow]
    tuned: list[JsonRow]
    attacks: list[JsonRow]
    calibration_error: float
    about: JsonRow

    def mean(self, row: str = MEAN) -> JsonRow:
        return next(r for r in self.fixed if r["proposition"] == row)

    def tuned_mean(self, row: str) -> JsonRow:
        """Empty where nothing was tuned: every number of it is then unknown."""
        return next((r for r in self.tuned if r["proposition"] == row), {})


def overview(graders: Sequence[GoldGrader], row: str, title: str, first: bool) -> Table:
    """Of the graders' `row`, a mean over propositions; the `first` table has their pace too."""
    rows = [TableRow(grader.name, _overview_cells(grader, row)) for grader in graders]
    half = Cell("50.0")  # what any constant answer has by definition
    majority = Cell(share_text(number(graders[0].mean(row), "majority"))), half, Cell(), Cell(), half
    against = (f"accuracy − {graders[0].name}",) if len(graders) > 1 else ()
    paces = _paces(graders) if first else ()
    width = len(OVERVIEW_COLUMNS) + len(against)
    rows = [
        replace(line, cells=(*line.cells, *[Cell()] * (width - len(line.cells)), *cells))
        for line, cells in zip(rows, _paced(graders, paces), strict=True)
    ]
    screen = Screen(heading="graders side by side, percent" if first else "", upright=True)
    lines = (*rows, TableRow("majority answer", majority))
    columns = (*OVERVIEW_COLUMNS, *against, *(PACES[name] for name in paces))
    return Table(title, columns, lines, screen=screen)


def _paces(graders: Sequence[GoldGrader]) -> tuple[str, ...]:
    """What is known of the cost of any."""
    return tuple(name for name in PACES if any(math.isfinite(_pace(one, name)) for one in graders))


def _paced(graders: Sequence[GoldGrader], paces: Sequence[str]) -> list[tuple[Cell, ...]]:
    return [tuple(Cell(_amount(_pace(one, name))) for name in paces) for one in graders]


def _pace(grader: GoldGrader, name: str) -> float:
    return number(grader.about.get("pace", {}), name)


def _amount(value: float) -> str:
    if not math.isfinite(value):
        return NOTHING
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def _overview_cells(grader: GoldGrader, row: str) -> tuple[Cell, ...]:
    """What is known of all propositions together alone stands in the row MEAN."""
    fixed, tuned, whole = grader.mean(row), grader.tuned_mean(row), row == MEAN
    gap = grader.about["against_first"]
    last = () if gap is None or not whole else (_gap(gap),)
    return (
        *(metric_cell(fixed, m) for m in ("accuracy", "balanced_accuracy", "tpr", "tnr", "auroc")),
        metric_cell(fixed, "brier", percent=False),
        Cell(share_text(grader.calibration_error)) if whole else Cell(),
        *(metric_cell(tuned, m) for m in ("accuracy", "balanced_accuracy")),
        Cell(_moved(grader.attacks)) if whole else Cell(),
        Cell(share_text(number(grader.about, "unscored_share"))) if whole else Cell(),
        *last,
    )


def _gap(gap: JsonRow) -> Cell:
    value, low, high = (points(number(gap, name)) for name in ("value", "low", "high"))
    return Cell(value, interval=f"{low} to {high}")


def _moved(attacks: Sequence[JsonRow]) -> str:
    if not attacks:
        return NOTHING
    control = next(row for row in attacks if row["kind"] == CONTROL)
    every = next(row for row in attacks if row["attack"] == ALL)
    return f"{every['mean']:.3f} / {control['mean']:.3f}"
