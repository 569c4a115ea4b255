"""Labels of propositions as rows hold them: an object, one written as JSON or as pairs, or a column for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evals.values.json_text import parse_json
from evals.values.jsonl_rows import Row
from evals.values.levels import Label, Levels

TRUTH: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}  # of a cell, in lower case


def labels_in(
    row: Row, columns: str | Sequence[str], completion_class: str | None, known: Mapping[str, Levels]
) -> dict[str, Label]:
    """{proposition: whether it holds, or its level}; what is null or empty has no label.

    A list of columns has a column for each proposition, called as the rulebook calls it. A row whose completion class
    is known needs none. `known` are the propositions' levels. Raises InputError for what is no truth and no level.
    """
    if not isinstance(columns, str):
        given = [name for name in columns if row.values.get(name) is not None]
        return {name: _cell(row, name, known.get(name, ())) for name in given}
    if columns not in row.values and completion_class is not None:
        return {}
    pairs = {str(name): value for name, value in _pairs(row, columns).items() if value is not None}
    return {name: row.label(name, value, known.get(name, ())) for name, value in pairs.items()}


def _pairs(row: Row, column: str) -> Mapping[Any, Any]:
    value = row.values.get(column)
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except ValueError:
            fix = 'write {"PROPOSITION": true, ...}, or name a column for each: columns: {propositions: [NAME, ...]}'
            raise row.error(column, "is a text that is no JSON object", fix) from None
    if isinstance(value, list) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        return dict(value)  # a Parquet map
    if value is None:
        fix = "add it, or name a column for each proposition: columns: {propositions: [NAME, ...]}"
        raise row.error(column, "is missing", fix)
    return value if isinstance(value, Mapping) else row.get(column, dict)


def _cell(row: Row, column: str, levels: Levels) -> Label:
    """A truth may stand in a table as text or as a number."""
    if levels:
        return row.label(column, row.values[column], levels)
    found = TRUTH.get(str(row.values[column]).strip().lower().removesuffix(".0"))
    if found is None:
        raise row.error(column, "is not true or false", "write true or false, or leave it empty")
    return found
