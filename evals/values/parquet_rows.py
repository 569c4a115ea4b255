"""Rows of a data set as the hub holds it: Parquet, or the same rows as JSONL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from evals.values.data_file import GZIP, MOST_BYTES, check_is_file, signature, unreadable
from evals.values.errors import InputError
from evals.values.jsonl_rows import Row, read_jsonl

Item = TypeVar("Item")
MAGIC = b"PAR1"


def read_records(path: Path, parse: Callable[[Row], Item]) -> list[Item]:
    """Parse every row; a row's `line` counts from 1 in a Parquet file too.

    Raises InputError for a file that is missing, empty, damaged or larger than is read at once, and whatever `parse`
    finds.
    """
    return [parse(row) for row in read_parquet(path)] if _is_parquet(path) else read_jsonl(path, parse)


def read_parquet(path: Path) -> list[Row]:
    """The rows of a Parquet file, whatever its name. Raises InputError as `read_records`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        check_is_file(path)
        with pq.ParquetFile(path) as file:
            groups = range(file.metadata.num_row_groups)
            size = sum(file.metadata.row_group(group).total_byte_size for group in groups)
            if size > MOST_BYTES:
                raise InputError(
                    "is too large to be read at once", path=path, fix="give a part of it as JSONL"
                )
            values = [row for batch in file.iter_batches(1024) for row in batch.to_pylist()]
    except FileNotFoundError as error:
        raise unreadable(path, error) from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from None
    if not values:
        raise InputError("the file has no rows", path=path, fix="give one that has rows")
    return [Row(path, line, row) for line, row in enumerate(values, 1)]


def _damaged(path: Path, error: Exception) -> InputError:
    """Of a file that is no Parquet, what it looks like."""
    head = _head(path)
    if head.startswith(MAGIC):
        problem = f"is a damaged Parquet file ({type(error).__name__})"
        return InputError(problem, path=path, fix="fetch it again")
    packed = ("packed by gzip", "unpack it: gunzip FILE") if head.startswith(GZIP) else None
    what, fix = packed or signature(head) or ("", "fetch it again")
    return InputError(f"is no Parquet file{what and f': it is {what}'}", path=path, fix=fix)


def _is_parquet(path: Path) -> bool:
    return path.is_file() and _head(path).startswith(MAGIC)


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(32)


def find_records(folder: Path, names: tuple[str, ...]) -> Path:
    """`folder` itself where it is a file, else the first of `names` in it or in one of its folders. Raises InputError
    where there is none.
    """
    if folder.is_file():
        return folder
    for name in names:
        for found in (folder / name, *sorted(folder.glob(f"*/{name}"))):
            if found.is_file():
                return found
    fix = f"name {' or '.join(names)}, or the folder that holds it"
    raise InputError("no such file", path=folder / names[0], fix=fix)
