"""Rows of the gate's tables, whose cells have names: each form of the report shows those that it has room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harness.keys.gate import GateVerdict
from harness.report.document import Cell, Table, TableRow, Where

CHIPS = {
    GateVerdict.NO_WORSE: "held",
    GateVerdict.WORSE: "not-held",
    GateVerdict.CANNOT_TELL: "overrefused",
    GateVerdict.NOT_TESTED: "undecided",
}
SIDES = ("baseline", "candidate")


class Line(NamedTuple):
    """A row whose cells have names: each form shows those that it has room for."""

    name: str
    cells: Mapping[str, Cell]
    depth: int = 0


def lines_table(
    title: str, columns: Mapping[str, str], lines: Sequence[Line], where: Where, words: Sequence[str] = ()
) -> Table:
    """`columns` are {name of the cells: heading}, in order."""
    rows = tuple(
        TableRow(line.name, tuple(line.cells[c] for c in columns), depth=line.depth) for line in lines
    )
    return Table(title, tuple(columns.values()), rows, words=tuple(columns[w] for w in words), where=where)
