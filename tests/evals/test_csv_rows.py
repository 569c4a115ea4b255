"""CSV files as people hand them over: each fault is one line with file, line, field and fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.values.csv_rows import check_unique, is_absent, read_csv, six_decimals, write_csv
from evals.values.errors import InputError


def write(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    return path


def test_rows_know_their_line(tmp_path: Path) -> None:
    """Counting records instead of lines sends people to the wrong line after a field with line breaks."""
    path = write(tmp_path, b'id,text\n1,"a\nb\n""c"""\n\n2,d\n')
    rows = read_csv(path, ("id", "text"))
    assert [(row.line, row.values["text"]) for row in rows] == [(2, 'a\nb\n"c"'), (6, "d")]


def test_byte_order_mark_and_carriage_returns(tmp_path: Path) -> None:
    """A spreadsheet's byte order mark made the first column '\\ufeffid', and so missing."""
    path = write(tmp_path, b"\xef\xbb\xbfid,text\r\n1,a\r\n")
    assert read_csv(path, ("id",))[0].values == {"id": "1", "text": "a"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "data.csv: the file is empty"),
        (b"id,text\n", "no rows"),
        (b"\n<!DOCTYPE html>\n<html>404</html>", "data.csv:1: the file is a web page, not CSV"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"key,text\n1,a\n", "data.csv:1: field 'id': column is missing; the file has: key, text"),
        (b"id,id,text\n1,1,a\n", "data.csv:1: field 'id': column appears twice"),
        (b"id,text\n1,a\n2,b,c\n", "data.csv:3: 3 fields where the header has 2"),
        (b"id,text\n1,a\n2\n", "data.csv:3: 1 fields where the header has 2"),
        (b'id,text\n1,a\n2,"b\n3,c\n', "data.csv:3: malformed CSV"),
        (b"id,text\n1,caf\xc3\xa9\n2,caf\xe9\n", "data.csv:3: byte 0xe9 is not UTF-8"),
        ("id,text\n1,a\n".encode("utf-16"), "the file is UTF-16"),
        (b"id,text\n1,a\x00b\n", "data.csv:2: the file has a NUL byte"),
    ],
)
def test_faults_are_named(tmp_path: Path, content: bytes, expected: str) -> None:
    """A wrong file that is read half-way becomes a benchmark of fewer, or other, prompts."""
    with pytest.raises(InputError) as caught:
        read_csv(write(tmp_path, content), ("id", "text"))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)  # the fix


def test_what_is_written(tmp_path: Path) -> None:
    """One table had the header of another where it had no row, and every writer its own line ends."""
    path = tmp_path / "table.csv"
    write_csv(path, [])
    assert not path.exists()
    write_csv(path, [], ("grader", "mean"))
    assert path.read_bytes() == b"grader,mean\n"
    write_csv(path, [{"grader": "a", "mean": float("nan")}, {"grader": "b", "mean": 0.1}], ("grader", "mean"))
    assert path.read_bytes() == b"grader,mean\na,\nb,0.1\n"
    row = six_decimals({"name": "a", "n": 2, "value": -1e-9, "stderr": float("nan")})
    assert row == {"name": "a", "n": 2, "value": "0.000000", "stderr": "nan"}


def test_missing_file(tmp_path: Path) -> None:
    """A traceback for a mistyped path."""
    with pytest.raises(InputError, match="cannot be read"):
        read_csv(tmp_path / "gone.csv", ("id",))


@pytest.mark.parametrize(
    ("ids", "expected"), [("1,2, 1", ":4.*duplicate '1', first on line 2"), ("1,,2", ":3.*is empty")]
)
def test_ids_are_unique(tmp_path: Path, ids: str, expected: str) -> None:
    """Of two rows with one id the second silently replaced the first."""
    path = write(tmp_path, ("id,text\n" + "".join(f'"{id}",a\n' for id in ids.split(","))).encode())
    with pytest.raises(InputError, match=expected):
        check_unique(read_csv(path, ("id",)), "id")


def test_cells_that_hold_nothing() -> None:
    """A table's `nan` was a response of three letters, and so one that complied."""
    assert all(map(is_absent, ("", " ", "nan", "NaN", "null", "None", " NULL\n", "<NA>")))
    assert not any(map(is_absent, ("nan is a bread", "None of these.", "0", "no", "N/A")))
