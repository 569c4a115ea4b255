"""Parquet is read in one place: the same rows, and the same line of a file that is none, for suites and for sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evals.values import parquet_rows
from evals.values.errors import InputError
from evals.values.jsonl_rows import Row
from evals.values.parquet_rows import read_parquet, read_records
from harness.worlds.mixture.files import rows_of
from harness.worlds.mixture.source import Source

ROWS = [
    {"prompt": "a", "category": None, "chosen": ["b", "c"]},
    {"prompt": "d", "category": "x", "chosen": []},
]


def of_suite(path: Path) -> list[Row]:
    return read_records(path, lambda row: row)


def of_source(path: Path) -> list[Row]:
    return rows_of(Source(str(path), format="parquet"))


def test_both_read_the_same_rows(tmp_path: Path) -> None:
    """A cell that a row leaves empty is None for both: its column is known."""
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    assert [row.values for row in of_suite(path)] == ROWS
    assert [row.values for row in of_source(path)] == ROWS
    assert [row.line for row in of_source(path)] == [1, 2] == [row.line for row in of_suite(path)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PAR1 and nothing more", "is a damaged Parquet file"),
        (b"", "is no Parquet file"),
        (b'{"prompt": "a"}\n', "is no Parquet file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is no Parquet file: it is a Git LFS pointer"),
        (b"\x1f\x8b packed", "is no Parquet file: it is packed by gzip"),
    ],
)
def test_what_is_none_is_said_in_one_way(tmp_path: Path, content: bytes, said: str) -> None:
    """`Parquet magic bytes not found in footer` of one reader, and `is a damaged Parquet file` of the other."""
    path = tmp_path / "rows.parquet"
    path.write_bytes(content)
    for read in (read_parquet, of_source):
        with pytest.raises(InputError, match=said):
            read(path)


@pytest.mark.parametrize("read", [of_suite, of_source])
def test_a_file_beyond_the_limit_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], Any]
) -> None:
    """A source was read whatever it unpacks to."""
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS * 1000), path)
    monkeypatch.setattr(parquet_rows, "MOST_BYTES", 100)
    with pytest.raises(InputError, match="too large to be read at once"):
        read(path)


def test_an_empty_one_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS).slice(0, 0), path)
    for read in (of_suite, of_source):
        with pytest.raises(InputError, match="has no rows"):
            read(path)
    with pytest.raises(InputError, match="No such file"):
        read_parquet(tmp_path / "none.parquet")
