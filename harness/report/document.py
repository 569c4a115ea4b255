"""What a page, a summary in Markdown and the terminal show: one description, drawn by page.py and terminal.py.

A document is sections of parts: tables, figures, text, cards of samples, folded parts. Everything in it is text
as it is to be read; each form escapes it on its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Flag
from typing import ClassVar

NOTHING = "–"


class Where(Flag):
    """The forms that show a part. The terminal shows the tables of `Document.screen`, wherever else they stand."""

    PAGE = 1
    SUMMARY = 2
    BOTH = 3


@dataclass(frozen=True)
class Cell:
    """A value with its standard error and interval; `best` marks the column's highest."""

    value: str = NOTHING
    stderr: str = ""
    interval: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    name: str
    cells: tuple[Cell, ...]
    n: int = 0
    n_unscored: int = 0
    note: str = ""


@dataclass(frozen=True)
class Screen:
    """How a terminal, which is narrow, shows a table."""

    columns: tuple[str, ...] = ()  # those shown; none: all
    rows: int = 0  # so many of the first; 0: all
    title: str = ""  # in place of the table's own
    heading: str = ""  # a line above the table
    name_width: int | None = None  # fixed: only the columns of numbers are folded then
    upright: bool = False  # columns as rows, for a table with more columns than a terminal is wide
    intervals: bool = True
    beside: bool = False  # intervals beside their values, not below


@dataclass(frozen=True)
class Table:
    """`title` heads the column of the rows' names; `words` are the columns that hold words, not numbers."""

    tag: ClassVar[str] = "table"
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    words: tuple[str, ...] = ()
    heading: str = ""  # above the table, on the page
    summary_heading: str = ""  # and in the summary
    screen: Screen = field(default_factory=Screen)
    where: Where = Where.BOTH


@dataclass(frozen=True)
class Figure:
    """A plot of the folder. Raises ValueError without the words for those who do not see it."""

    tag: ClassVar[str] = "figure"
    name: str  # plots/NAME.png
    alt: str
    source: str  # a data: URI
    where: Where = Where.BOTH

    def __post_init__(self) -> None:
        if not self.alt:
            raise ValueError(f"the figure {self.name} has no alternative text")


@dataclass(frozen=True)
class Text:
    tag: ClassVar[str] = "text"
    text: str
    where: Where = Where.PAGE


@dataclass(frozen=True)
class Answer:
    """Who wrote it, and the text that a model wrote."""

    who: str
    text: str


@dataclass(frozen=True)
class Card:
    """A prompt and what was answered to it, side by side; on the page alone, for it may offend."""

    tags: str
    prompt: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Cards:
    """Cards under a heading, or the line that says why there are none."""

    tag: ClassVar[str] = "cards"
    heading: str
    cards: tuple[Card, ...]
    absent: str
    where: Where = Where.PAGE


@dataclass(frozen=True)
class Fold:
    """Parts that the page shows on demand; a summary shows them as they are."""

    tag: ClassVar[str] = "fold"
    summary: str
    parts: tuple[Part, ...]
    kind: str = ""  # "samples", or nothing
    where: Where = Where.BOTH


Part = Table | Figure | Text | Cards | Fold


@dataclass(frozen=True)
class Section:
    """`link` is its name in the page's navigation; a summary shows a section that has parts for it."""

    id: str
    link: str
    title: str
    parts: tuple[Part, ...]
    summary_title: str | None = None  # None: as on the page; "": none

    def shown(self, where: Where) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if where in part.where)


@dataclass(frozen=True)
class Document:
    """`notes` close it; the first also stands below the headline of the page."""

    name: str
    command: str  # as `rbrbench fit`
    title: str  # what it is, after its name
    headline: str
    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    footer: str
    screen: tuple[str, ...]  # the sections whose tables a terminal shows; the last is read first

    def tables(self) -> Iterator[Table]:
        """Those for the terminal, in its order."""
        by_id = {section.id: section for section in self.sections}
        for id in self.screen:
            if id in by_id:
                yield from _tables(by_id[id].parts)


def _tables(parts: Sequence[Part]) -> Iterator[Table]:
    for part in parts:
        if isinstance(part, Table):
            yield part
        elif isinstance(part, Fold):
            yield from _tables(part.parts)
