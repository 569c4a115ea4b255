"""The columns that a source names: those inside others, those that no row has, and the values that it filters by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evals.values.jsonl_rows import Row
from harness.worlds.mixture.source import Source

NOWHERE = object()
LONGEST_NAME, MOST_WORDS = 60, 4  # characters of a column's name, and words after its first


def with_nested(rows: Sequence[Row], source: Source) -> Sequence[Row]:
    """The rows with the columns that the source names by the way to them: `prompt.text` of {prompt: {text: ...}}."""
    named = _named(source)
    dotted = [name for name in dict.fromkeys([*named, *map(str, source.filter)]) if "." in name]
    if not dotted:
        return rows
    found = [{n: value for n in dotted if (value := _inside(row, n)) is not NOWHERE} for row in rows]
    return [replace(row, values={**row.values, **more}) for row, more in zip(rows, found, strict=True)]


def _inside(row: Row, name: str) -> Any:
    """NOWHERE where the way ends; a column that bears the whole name goes before."""
    if name in row.values:
        return row.values[name]
    value: Any = row.values
    for key in name.split("."):
        value = value.get(key, NOWHERE) if isinstance(value, Mapping) else NOWHERE
    return value


def _named(source: Source) -> list[str]:
    """The columns that the source names for something."""
    given = [c for c in source.columns.values() if c is not None]
    return [name for c in given for name in ([c] if isinstance(c, str) else c)]


def names_in(row: Row) -> str:
    """The row's columns, to be shown; "" where one looks like a text: a table without a header has its first row there,
    which may be one that must not be shown.
    """
    names = [" ".join(str(key).split()) for key in row.values]
    if any(len(n) >= LONGEST_NAME or n.count(" ") > MOST_WORDS or n.endswith((".", "?", "!")) for n in names):
        return ""
    return ", ".join(names)[:200]


def check_columns(rows: Sequence[Row], source: Source) -> None:
    """A column that some row has is known: the others' cells are empty. Raises InputError for one that none has."""
    for name in dict.fromkeys([*_named(source), *map(str, source.filter)]):
        if rows and not any(name in row.values for row in rows):
            does = "filters by it" if name in source.filter else "names it in columns"
            has = names_in(rows[0])
            said = f"no row has such a column, and the source {does}{has and f'; the first has {has}'}"
            raise rows[0].error(name[:60], said, "name a column of the file")


def present(row: Row) -> Row:
    """Without the columns that the row leaves empty, whatever its format writes for nothing: null, NaN, no text."""
    return replace(row, values={k: v for k, v in row.values.items() if v is not None and v == v})


def passes(row: Row, source: Source) -> bool:
    """Whether the row has a wanted value in each column of the source's filter."""
    for column, wanted in source.filter.items():
        values = wanted if isinstance(wanted, list) else [wanted]
        if column not in row.values or not any(_is(row.values[column], value) for value in values):
            return False
    return True


def _is(cell: object, wanted: object) -> bool:
    """Whether a cell holds the value, which tables write in their own ways: True and true, 1 and 1.0."""
    if isinstance(wanted, bool):
        return str(cell).lower() == str(wanted).lower()
    if isinstance(wanted, int | float):
        try:
            return float(cell) == wanted  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return False
    return str(cell) == str(wanted)
