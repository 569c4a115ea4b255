"""CSV files as rows with their place: the columns a caller needs are there, or one line says what to mend."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from evals.values.data_file import as_no_csv, as_table, read_text
from evals.values.errors import InputError
from evals.values.jsonl_rows import Row

# Whole books stand in some fields (HarmBench's context column); csv's own limit is 128 KiB.
MAX_FIELD_CHARS = 16 * 1024 * 1024
# What programs write into a cell that holds nothing; in lower case.
NOTHING = ("", "nan", "null", "none", "<na>")


def read_csv(
    path: Path | str,
    columns: Sequence[str],
    rename: Callable[[str], str] | None = None,
    *,
    quote_header: bool = True,
    delimiter: str = ",",
    short_rows: bool = False,
) -> list[Row]:
    """Rows of a UTF-8 CSV file with a header that has at least `columns`.

    `delimiter` stands between the columns; with `short_rows` a row may leave out the last ones, which are then empty.
    `rename` is applied to each name in the header first. Without `quote_header` no error shows the first line, which
    may be a row whose text must not be shown. A row's `line` is the line of the file on which it starts. Raises
    InputError, naming file, line and field, for a missing, empty or unreadable file, bytes that are not UTF-8, a web
    page saved as CSV, missing columns, and rows with too few or too many fields.
    """
    path = Path(path)
    text = read_text(path)
    _check_is_csv(path, text)
    rows = _parse(path, text, columns, rename or str, quote_header, delimiter, short_rows)
    if not rows:
        raise InputError(
            "the file has a header but no rows", path=path, fix="give a file with one row a record"
        )
    return rows


def write_csv(path: Path, rows: Iterable[Mapping[str, object]], columns: Sequence[str] = ()) -> None:
    """Write rows that all have the first one's columns; None and NaN are empty.

    Where there is no row, the file is the header of `columns`; without these, no file is written.
    """
    found = list(rows)
    names = list(found[0] if found else columns)
    if not names:
        return
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: None if v != v else v for k, v in row.items()} for row in found)


def six_decimals(row: Mapping[str, object]) -> dict[str, object]:
    """The row with its floats as text of six decimals, NaN as "nan".

    More decimals would show what differs in the last bits between two machines' sums; + 0.0 turns -0 into 0.
    """
    return {k: f"{round(v, 6) + 0.0:.6f}" if isinstance(v, float) else v for k, v in row.items()}


def is_absent(cell: str) -> bool:
    """Whether a cell is empty or reads `nan`, `null`, `None` or `<NA>` alone: what programs write for nothing."""
    return cell.strip().lower() in NOTHING


def check_unique(rows: Iterable[Row], field: str) -> None:
    """Raises InputError for the first empty or repeated value of `field`, naming both lines."""
    seen: dict[str, int] = {}
    for row in rows:
        value = str(row.values[field]).strip()
        if not value:
            raise row.error(field, "is empty", f"give the row its {field}")
        if value in seen:
            raise row.error(
                field, f"duplicate {value!r}, first on line {seen[value]}", "give each row its own"
            )
        seen[value] = row.line


def filled(row: Row, field: str) -> str:
    """The field's text without surrounding white space. Raises InputError when nothing is left."""
    text = str(row.values[field]).strip()
    if not text:
        raise row.error(field, "is empty", "fill it or remove the row")
    return text


def _check_is_csv(path: Path, text: str) -> None:
    """Raises InputError for what a failed download, a copy or another name leaves under the name of a CSV file."""
    start = text[:1000].lstrip()
    if not start:
        raise InputError("the file is empty", path=path, fix="download it again")
    other = as_no_csv(start)
    if other is not None:
        raise InputError(f"the file is {other[0]}, not CSV", path=path, line=1, fix=other[1])
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError("the file has a NUL byte", path=path, line=line, fix="save it as plain UTF-8 text")


def _parse(
    path: Path,
    text: str,
    columns: Sequence[str],
    rename: Callable[[str], str],
    quote_header: bool,
    delimiter: str,
    short_rows: bool,
) -> list[Row]:
    csv.field_size_limit(MAX_FIELD_CHARS)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    rows: list[Row] = []
    header: list[str] | None = None
    start = 1
    try:
        for values in reader:
            if header is None:
                header = _check_header(path, [rename(name) for name in values], columns, quote_header)
            elif values:
                left_out = [""] * (len(header) - len(values)) if short_rows else []
                rows.append(_row(path, start, header, values + left_out))
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"malformed CSV ({error})",
            path=path,
            line=start,
            fix="check the quotes of this row and of the one before",
        ) from None
    return rows


def _check_header(path: Path, header: list[str], columns: Sequence[str], quote: bool) -> list[str]:
    missing = [name for name in columns if name not in header]
    table = as_table(header[0]) if len(header) == 1 and (missing or not columns) else None
    if table is not None:
        fix = "save it with commas between the columns"
        raise InputError(f"the file is {table[0]}, not CSV", path=path, line=1, fix=fix)
    if missing:
        found = f"; the file has: {', '.join(header)[:200]}" if quote else ""
        raise InputError(
            f"column is missing{found}",
            path=path,
            line=1,
            field=missing[0],
            fix=f"give a file with the columns {', '.join(columns)}",
        )
    repeated = next((name for name in columns or filter(None, header) if header.count(name) > 1), None)
    if repeated is not None:
        raise InputError("column appears twice", path=path, line=1, field=repeated, fix="keep one of the two")
    return header


def _row(path: Path, line: int, header: list[str], values: list[str]) -> Row:
    if len(values) != len(header):
        raise InputError(
            f"{len(values)} fields where the header has {len(header)}",
            path=path,
            line=line,
            fix="quote fields that contain commas, quotes or line breaks",
        )
    return Row(path, line, dict(zip(header, values, strict=True)))
