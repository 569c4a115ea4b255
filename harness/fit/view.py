"""What the terminal shows of `rbrbench fit`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from harness.fit.tables import FitTables, TextTable

NAME_WIDTH = 22  # fixed: of a narrow table only the columns of numbers are folded
SHOWN_RULES = 8  # of each response type; all stand in the summary and on the page
# A terminal is narrow: what is left out stands there too.
RULE_COLUMNS = ("weight", "contribution", "share of variance", "error, refitted")
FIT_COLUMNS = ("prompts", "pairs", "left out", "hinge loss", "gap", "largest weight")


def show(tables: FitTables, console: Console) -> None:
    """Tables for a person; nothing in them is read as markup."""
    for table in tables.rules:
        left = len(table.rows) - SHOWN_RULES
        shown = TextTable(f"{table.title}: rules", table.columns, table.rows[:SHOWN_RULES])
        console.print(_table(_columns(shown, RULE_COLUMNS)))
        if left > 0:
            console.print(Text(f"  and {left} with smaller contributions", style="bright_black"))
    for table in (tables.ablations, _columns(tables.fits, FIT_COLUMNS), tables.errors):
        console.print(_table(table))
    for note in tables.notes:
        console.print(Text(note, style="bright_black"))
    console.print(Text(tables.headline, style="bold"))


def _columns(table: TextTable, wanted: Sequence[str]) -> TextTable:
    places = [place for place, column in enumerate(table.columns) if column in wanted]
    rows = tuple((name, tuple(cells[place] for place in places)) for name, cells in table.rows)
    return TextTable(table.title, tuple(table.columns[place] for place in places), rows)


def _table(table: TextTable) -> Table:
    drawn = Table(Column(table.title, overflow="fold", width=NAME_WIDTH), box=SIMPLE_HEAD)
    for column in table.columns:
        drawn.add_column(column, justify="right", overflow="fold")
    for name, cells in table.rows:
        texts = [f"{value}\n({inside})" if inside else value for value, inside in cells]
        drawn.add_row(Text(name), *map(Text, texts))
    return drawn
