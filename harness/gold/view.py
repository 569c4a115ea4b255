"""What the terminal shows of `rbrbench gold`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from harness.gold.tables import GoldTables, TextTable

# A terminal is narrow: what is left out stands in the summary and on the page.
SHOWN = (
    "true / judged",
    "accuracy",
    "balanced accuracy",
    "AUROC",
    "Brier score",
    "tuned: balanced",
    "labels",
)
TAUGHT = ("teacher says true", "agreement", "its commoner verdict", "mean difference")


def show(tables: GoldTables, console: Console) -> None:
    """Tables for a person; nothing in them is read as markup."""
    for table in tables.propositions:
        console.print(_narrow(table))
    for table in tables.teacher:
        console.print(_narrow(table, TAUGHT))
    for table in tables.hostile:
        console.print(Text(f"attacks on {table.title}", style="bold"))
        console.print(_table(table, beside=True))
    console.print(Text("graders side by side, percent", style="bold"))
    for overview in tables.overviews:
        console.print(_upright(overview))
    for note in tables.notes:
        console.print(Text(note, style="bright_black"))
    console.print(Text(tables.headline, style="bold"))


def _narrow(table: TextTable, shown: Sequence[str] = SHOWN) -> Table:
    places = [place for place, column in enumerate(table.columns) if column in shown]
    rows = tuple((name, tuple((cells[place][0], "") for place in places)) for name, cells in table.rows)
    return _table(TextTable(table.title, tuple(table.columns[place] for place in places), rows))


def _table(table: TextTable, beside: bool = False) -> Table:
    drawn = Table(Column(table.title, overflow="fold"), box=SIMPLE_HEAD)
    for column in table.columns:
        drawn.add_column(column, justify="left" if column in ("kind", "labels", "moves most") else "right")
    for name, cells in table.rows:
        drawn.add_row(Text(name), *(Text(_cell(cell, beside)) for cell in cells))
    return drawn


def _upright(table: TextTable) -> Table:
    """Metrics as rows, graders as columns: there are more metrics than a terminal is wide."""
    drawn = Table(Column(table.title, min_width=18, overflow="fold"), box=SIMPLE_HEAD)
    for name, _ in table.rows:
        drawn.add_column(name, justify="right", overflow="fold")
    for place, column in enumerate(table.columns):
        cells = [cells[place] if place < len(cells) else ("", "") for _, cells in table.rows]
        drawn.add_row(Text(column), *(Text(_cell(cell, False)) for cell in cells))
    return drawn


def _cell(cell: tuple[str, str], beside: bool) -> str:
    value, interval = cell
    return f"{value}{' ' if beside else chr(10)}({interval})" if interval else value
