"""What a page, a summary in Markdown and the terminal show: one description, drawn by page.py and terminal.py.

A document is sections of parts: headings, tables, figures, text, lists, cards of samples, folded parts. Everything in
it is text as it is to be read; each form escapes it on its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, Flag
from typing import ClassVar

NOTHING = "–"


class Where(Flag):
    """The forms that show a part; of parts the terminal shows tables alone, those of `Document.screen`."""

    PAGE = 1
    SUMMARY = 2
    BOTH = 3
    SCREEN = 4
    ALL = 7


class How(Enum):
    """What a filter of cards chooses."""

    ONE = "one"
    MARKS = "marks"
    ANSWERS = "answers"


@dataclass(frozen=True)
class Strip:
    """An interval, its value and a limit on a line whose middle is 0: places from 0 to 100; `style` as of a chip."""

    low: float
    high: float
    value: float
    limit: float
    style: str = ""


@dataclass(frozen=True)
class Cell:
    """A value with its standard error and interval; a line break in the value is one in the cell."""

    value: str = NOTHING
    stderr: str = ""
    interval: str = ""
    best: bool = False  # the column's highest
    chip: str = ""  # the style of a coloured label: held, not-held, undecided, unsafe, ...
    hint: str = ""  # seen by pointing at it, on the page
    shade: int | None = None  # how dark the page draws the cell, 0 to 9
    code: bool = False
    rows: int = 1  # how many rows it spans; 0: a cell above reaches over this one
    strip: Strip | None = None  # drawn by the page in place of the value


@dataclass(frozen=True)
class TableRow:
    """`style` is "group", a heading of the rows below it, or "detail", a row of less weight."""

    name: str
    cells: tuple[Cell, ...] = ()
    style: str = ""
    depth: int = 0  # the name is indented by so many steps
    rows: int = 1  # as a cell's


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
    """`title` heads the column of the rows' names; `words` are the columns that hold words, not numbers: with the title
    among them, the names are sentences.
    """

    tag: ClassVar[str] = "table"
    title: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    words: tuple[str, ...] = ()
    wide: bool = False  # as wide as the page
    screen: Screen = field(default_factory=Screen)
    where: Where = Where.ALL

    @property
    def name(self) -> str:
        """What a reader who hears the page is told of it."""
        return f"table: {self.title or ', '.join(filter(None, self.columns))}"


@dataclass(frozen=True)
class Spot:
    """A place of a figure, in percent of its width and height, what it says, and whose samples it leads to."""

    left: float
    top: float
    words: str
    model: str = ""


@dataclass(frozen=True)
class Figure:
    """A plot of the folder. Raises ValueError without the words for those who do not see it."""

    tag: ClassVar[str] = "figure"
    name: str  # plots/NAME.png
    alt: str
    source: str  # a data: URI
    where: Where = Where.BOTH
    place: str = ""  # the section that shows it
    spots: tuple[Spot, ...] = ()  # on the page alone

    def __post_init__(self) -> None:
        if not self.alt:
            raise ValueError(f"the figure {self.name} has no alternative text")


@dataclass(frozen=True)
class Heading:
    """Of the parts that follow it in a section; `aside` stands beside it in small type."""

    tag: ClassVar[str] = "heading"
    text: str
    aside: str = ""
    where: Where = Where.PAGE


@dataclass(frozen=True)
class Text:
    tag: ClassVar[str] = "text"
    text: str
    where: Where = Where.PAGE
    style: str = "quiet"  # or "content-warning"


@dataclass(frozen=True)
class Pre:
    """Text whose line breaks and spaces count: a command, a file."""

    tag: ClassVar[str] = "pre"
    text: str
    where: Where = Where.PAGE


@dataclass(frozen=True)
class Item:
    """A line of a list: a chip before it, lines of code below it."""

    text: str
    chip: Cell | None = None
    code: tuple[str, ...] = ()


@dataclass(frozen=True)
class Items:
    tag: ClassVar[str] = "items"
    items: tuple[Item, ...]
    where: Where = Where.BOTH


@dataclass(frozen=True)
class Aside:
    """A box beside the first figure."""

    tag: ClassVar[str] = "aside"
    title: str
    parts: tuple[Part, ...]
    where: Where = Where.PAGE


@dataclass(frozen=True)
class Bar:
    """A name and its share of a whole, None where it is not known; `style` as of a chip."""

    name: str
    share: float | None
    style: str = ""


@dataclass(frozen=True)
class Answer:
    """Who wrote it, the text that a model wrote, and what was said of it; `code` is the filter option that hides it."""

    who: str
    text: str
    verdict: Cell | None = None
    code: str = ""
    bars: tuple[Bar, ...] = ()  # what a grader gave it, between 0 and 1
    paid: str = ""  # the reward, and what it is made of
    thought: str = ""  # what the model wrote before its answer

    @property
    def true_bars(self) -> tuple[Bar, ...]:
        """Those that are rather true than not, which are read without being asked for."""
        return tuple(bar for bar in self.bars if bar.share is not None and bar.share >= 0.5)


@dataclass(frozen=True)
class Card:
    """A prompt and what was answered to it, side by side; on the page alone, for it may offend.

    `codes` are the options of filters under which it is seen.
    """

    tags: str
    prompt: str
    answers: tuple[Answer, ...]
    codes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Filter:
    """A choice that the page offers without a script: `options` are (code, words).

    Seen are the cards that have the chosen option (`ONE`), the cards that have every ticked one (`MARKS`), or of each
    card the answers that are ticked (`ANSWERS`). Raises ValueError for a code that could break a style rule.
    """

    name: str
    options: tuple[tuple[str, str], ...]
    label: str = ""
    every: str = "all"
    how: How = How.ONE

    def __post_init__(self) -> None:
        for name in (self.name, *(code for code, _ in self.options)):
            if not re.fullmatch("[a-z][a-z0-9-]*", name):
                raise ValueError(f"no name for a style rule: {name!r}")


@dataclass(frozen=True)
class Cards:
    """Cards under a heading, or the line that says why there are none."""

    tag: ClassVar[str] = "cards"
    heading: str
    cards: tuple[Card, ...]
    absent: str
    filters: tuple[Filter, ...] = ()  # of one Cards in a document
    where: Where = Where.PAGE


@dataclass(frozen=True)
class Fold:
    """Parts that the page shows on demand; a summary shows them as they are, but where they are `folded` there too."""

    tag: ClassVar[str] = "fold"
    summary: str
    parts: tuple[Part, ...]
    kind: str = ""  # "samples", or nothing
    folded: bool = False
    where: Where = Where.BOTH


Part = Heading | Table | Figure | Text | Pre | Items | Aside | Cards | Fold


@dataclass(frozen=True)
class Section:
    """`link` is its name in the page's navigation; a summary shows a section that has parts for it."""

    id: str
    link: str
    title: str
    parts: tuple[Part, ...]
    summary_title: str | None = None  # None: as on the page; "": none


@dataclass(frozen=True)
class Document:
    """`notes` close it, and the page's first lines link to them."""

    name: str
    command: str  # as `rbrbench fit`
    title: str  # what it is, after its name
    headline: str
    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    footer: str
    screen: tuple[str, ...] = ()  # the sections whose tables a terminal shows; the last is read first
    about: str = ""  # after the name: the commit
    verdict: Item | None = None  # below the headline: what it says to a machine
    reasons: tuple[str, ...] = ()  # of the headline
    basis: str = ""  # what the headline rests on
    warning: str = ""  # above the headline
    lead: tuple[Part, ...] = ()  # side by side, above all sections
    summary_name: str = ""  # the summary's first line; else name and title
    summary_footer: str = ""
    comment: bool = False  # the summary stands among others: lower headings, no heading of the notes

    def tables(self) -> Iterator[Table]:
        """Those for the terminal, in its order."""
        by_id = {section.id: section for section in self.sections}
        for id in self.screen:
            if id in by_id:
                tables = (part for part in unfolded(by_id[id].parts) if isinstance(part, Table))
                yield from (table for table in tables if Where.SCREEN in table.where)

    def filters(self) -> list[Filter]:
        """Those of its cards, which the page's style rules name."""
        parts = [part for section in self.sections for part in unfolded(section.parts)]
        return [one for part in parts if isinstance(part, Cards) for one in part.filters]

    def models(self) -> list[str]:
        """Those that the samples can be narrowed down to, by the names that the page has for them."""
        return [words for one in self.filters() if one.how is How.ANSWERS for _, words in one.options]


def shown_in(where: Where, parts: Sequence[Part]) -> list[Part]:
    """Those that a form shows."""
    return [part for part in parts if where in part.where]


def unfolded(parts: Sequence[Part]) -> Iterator[Part]:
    """The parts, and in place of a fold what is in it."""
    for part in parts:
        if isinstance(part, Fold):
            yield from unfolded(part.parts)
        else:
            yield part
