"""A document's tables on the terminal, for a person; nothing in them is read as markup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Column
from rich.table import Table as Drawn
from rich.text import Text

from harness.report.document import Cell, Document, Table, TableRow

COLOURS = {"held": "green", "not-held": "bold red", "overrefused": "yellow", "undecided": "bright_black"}

GAP = 2  # blanks around a column
WORDS = 28  # characters of a column of words, before it is folded


def show(document: Document, console: Console) -> None:
    """What the headline rests on, the tables of `document.screen`, the notes; last, the headline and its reasons."""
    if document.basis:
        console.print(Text(document.basis))
    for table in document.tables():
        if table.screen.heading:
            console.print(Text(table.screen.heading, style="bold"))
        for drawn in _fitting(_upright(table) if table.screen.upright else _table(table), console.width):
            console.print(drawn)
        left = len(table.rows) - table.screen.rows
        if table.screen.rows and left > 0:
            console.print(Text(f"  and {left} with smaller contributions", style="bright_black"))
    for note in document.notes:
        console.print(Text(note, style="bright_black"))
    verdict = document.verdict.chip if document.verdict is not None else None
    console.print(Text(document.headline, style=COLOURS.get(verdict.chip, "bold") if verdict else "bold"))
    for reason in document.reasons:
        console.print(Text(f"  {reason}"))


@dataclass(frozen=True)
class _Columns:
    """A table to be drawn: names of rows on the left, then columns; `words` may be folded, numbers never."""

    names: list[Text]  # the first heads the others
    columns: list[list[Text]]  # each with its head
    words: list[bool]


def _table(table: Table) -> _Columns:
    screen = table.screen
    places = [i for i, name in enumerate(table.columns) if not screen.columns or name in screen.columns]
    rows = table.rows[: screen.rows or None]
    columns = [
        [
            Text(table.columns[place]),
            *(_text(row.cells[place] if place < len(row.cells) else Cell(""), table) for row in rows),
        ]
        for place in places
    ]
    names = [Text(screen.title or table.title), *map(_name, rows)]
    return _Columns(names, columns, [table.columns[place] in table.words for place in places])


def _upright(table: Table) -> _Columns:
    """Columns as rows, rows as columns."""
    names = [Text(table.title), *map(Text, table.columns)]
    columns = [
        [
            Text(row.name),
            *(
                _text(row.cells[i] if i < len(row.cells) else Cell(""), table)
                for i in range(len(table.columns))
            ),
        ]
        for row in table.rows
    ]
    return _Columns(names, columns, [False] * len(columns))


def _fitting(table: _Columns, width: int) -> Iterator[Drawn | Text]:
    """The table in as many parts, one below the other, as the terminal's width asks for: no number is broken.

    Where it has room in one part without its names, these stand on lines of their own, above their numbers.
    """
    needed = [_needed(column, words) for column, words in zip(table.columns, table.words, strict=True)]
    first = min(max(map(_longest, table.names)), max(width // 3, 1))
    if len(needed) == 1:  # sentences beside one column
        first = max(first, width - GAP * 2 - needed[0])
    parts: list[list[int]] = [[]]
    for place, room in enumerate(needed):
        used = first + GAP + sum(needed[i] + GAP for i in parts[-1])
        if parts[-1] and used + room + GAP > width:
            parts.append([])
        parts[-1].append(place)
    if len(parts) > 1 and sum(room + GAP for room in needed) <= width:
        yield from _named_above(table, needed)
        return
    for part in parts:
        used = sum(needed[i] + GAP for i in part) + GAP
        names = max(first, min(max(map(_longest, table.names)), width - used))
        yield _drawn(table, part, names, needed)


def _named_above(table: _Columns, needed: Sequence[int]) -> Iterator[Drawn | Text]:
    """The head once, then each row's name and, below it, its numbers, in columns of one width."""

    def lines(row: int, style: str = "") -> Drawn:
        drawn = Drawn(box=None, show_header=False, padding=(0, 1), style=style)
        for room, words in zip(needed, table.words, strict=True):
            at_foot = "bottom" if row == 0 else "top"
            justify = "left" if words else "right"
            drawn.add_column(width=room, justify=justify, overflow="fold", vertical=at_foot)  # type: ignore[arg-type]
        drawn.add_row(*(column[row] for column in table.columns))
        return drawn

    yield Text("")
    yield Text(f" {table.names[0].plain}", style="bold")
    yield lines(0, "bold")
    yield Text(" " + "─" * (sum(room + GAP for room in needed) - 1), style="bright_black")
    for row, name in enumerate(table.names[1:], 1):
        yield Text(f" {name.plain}", style=name.style)
        yield lines(row)
    yield Text("")


def _drawn(table: _Columns, part: Sequence[int], names: int, needed: Sequence[int]) -> Drawn:
    drawn = Drawn(Column(table.names[0], overflow="fold", max_width=names), box=SIMPLE_HEAD)
    for place in part:
        words = table.words[place]
        drawn.add_column(
            table.columns[place][0],
            justify="left" if words else "right",
            overflow="fold",
            min_width=needed[place],
        )
    for row, name in enumerate(table.names[1:], 1):
        drawn.add_row(name, *(table.columns[place][row] for place in part))
    return drawn


def _needed(column: Sequence[Text], words: bool) -> int:
    """Characters that a column needs: its longest line, of words no more than WORDS; its head folds at spaces."""
    head = max((len(word) for word in column[0].plain.split()), default=0)
    lines = max((_longest(text) for text in column[1:]), default=0)
    return max(min(head, WORDS), min(lines, WORDS) if words else lines)


def _longest(text: Text) -> int:
    return max((cell_len(line) for line in text.plain.splitlines()), default=0)


def _name(row: TableRow) -> Text:
    name = "  " * row.depth + row.name if row.rows else ""
    return Text(name, style="bold" if row.style == "group" else "")


def _text(cell: Cell, table: Table) -> Text:
    value = f"{cell.value} {cell.stderr}" if cell.stderr else cell.value if cell.rows else ""
    if not cell.interval or not table.screen.intervals:
        return Text(value, style=COLOURS.get(cell.chip, ""))
    return Text(f"{value}{' ' if table.screen.beside else chr(10)}({cell.interval})")
