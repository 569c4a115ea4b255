"""A document's tables on the terminal, for a person; nothing in them is read as markup."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column
from rich.table import Table as Drawn
from rich.text import Text

from harness.report.document import Cell, Document, Table, TableRow

COLOURS = {"held": "green", "not-held": "bold red", "overrefused": "yellow", "undecided": "bright_black"}


def show(document: Document, console: Console) -> None:
    """What the headline rests on, the tables of `document.screen`, the notes; last, the headline and its reasons."""
    if document.basis:
        console.print(Text(document.basis))
    for table in document.tables():
        if table.screen.heading:
            console.print(Text(table.screen.heading, style="bold"))
        console.print(_upright(table) if table.screen.upright else _table(table))
        left = len(table.rows) - table.screen.rows
        if table.screen.rows and left > 0:
            console.print(Text(f"  and {left} with smaller contributions", style="bright_black"))
    for note in document.notes:
        console.print(Text(note, style="bright_black"))
    verdict = document.verdict.chip if document.verdict is not None else None
    console.print(Text(document.headline, style=COLOURS.get(verdict.chip, "bold") if verdict else "bold"))
    for reason in document.reasons:
        console.print(Text(f"  {reason}"))


def _table(table: Table) -> Drawn:
    screen = table.screen
    places = [i for i, name in enumerate(table.columns) if not screen.columns or name in screen.columns]
    first = Column(Text(screen.title or table.title), overflow="fold", width=screen.name_width)
    drawn = Drawn(first, box=SIMPLE_HEAD)
    for name in (table.columns[place] for place in places):
        drawn.add_column(Text(name), justify="left" if name in table.words else "right", overflow="fold")
    for row in table.rows[: screen.rows or None]:
        cells = [row.cells[place] if place < len(row.cells) else Cell("") for place in places]
        drawn.add_row(_name(row), *(_text(cell, table) for cell in cells))
    return drawn


def _name(row: TableRow) -> Text:
    name = "  " * row.depth + row.name if row.rows else ""
    return Text(name, style="bold" if row.style == "group" else "")


def _upright(table: Table) -> Drawn:
    """Columns as rows, rows as columns."""
    drawn = Drawn(Column(Text(table.title), min_width=18, overflow="fold"), box=SIMPLE_HEAD)
    for row in table.rows:
        drawn.add_column(Text(row.name), justify="right", overflow="fold")
    for place, name in enumerate(table.columns):
        cells = [row.cells[place] if place < len(row.cells) else Cell("") for row in table.rows]
        drawn.add_row(Text(name), *(_text(cell, table) for cell in cells))
    return drawn


def _text(cell: Cell, table: Table) -> Text:
    value = f"{cell.value} {cell.stderr}" if cell.stderr else cell.value if cell.rows else ""
    if not cell.interval or not table.screen.intervals:
        return Text(value, style=COLOURS.get(cell.chip, ""))
    return Text(f"{value}{' ' if table.screen.beside else chr(10)}({cell.interval})")
