"""Files that others hand over, opened within limits: a plain file, of bounded size, unpacked where it is gzip.

Every reader of a format begins here. A device, a pipe or a folder is no file, a gzip that grows without end is cut
off, and what lies under another format's name is said by what it looks like.
"""

from __future__ import annotations

import codecs
import gzip
import io
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from evals.values.errors import InputError

MIB = 1024 * 1024
MOST_BYTES = 1024 * MIB  # of a file that is read as a whole
MOST_LINE_BYTES = 64 * MIB
# DEFLATE packs at most 1032 to 1; rows of text rarely more than 50 to 1.
# What grows beyond the first may not have grown by more than the second.
MOST_UNPACKED, MOST_RATIO = 64 * MIB, 200
CHUNK = MIB

GZIP = b"\x1f\x8b"
KINDS = {
    stat.S_IFDIR: ("is a folder", "name a file in it"),
    stat.S_IFIFO: ("is a pipe", "write what comes out of it to a file"),
    stat.S_IFCHR: ("is a device", "name a file"),
    stat.S_IFBLK: ("is a device", "name a file"),
    stat.S_IFSOCK: ("is a socket", "name a file"),
}
ROWS = "write its rows as JSONL: pandas has DataFrame.to_json(FILE, orient='records', lines=True)"
# What files begin with, what they are, and what to do: formats that are handed over under the name of another.
SIGNATURES = (
    (b"PAR1", "a Parquet file", ROWS),
    (b"ARROW1", "an Arrow file", ROWS),
    (b"PK\x03\x04", "a ZIP archive or a spreadsheet", "unpack it, or save the sheet as CSV (UTF-8)"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", "unpack it: zstd -d FILE"),
    (b"BZh", "packed with bzip2", "unpack it: bunzip2 FILE"),
    (b"\xfd7zXZ", "packed with xz", "unpack it: unxz FILE"),
    (b"SQLite format 3", "an SQLite database", ROWS),
    (b"%PDF", "a PDF", "give the data themselves"),
    (b"\x80\x04\x95", "a pickle, which is never opened", ROWS),
    (b"\x93NUMPY", "a NumPy array", ROWS),
    (b"version https://git-lfs", "a Git LFS pointer", "run 'git lfs pull'"),
    (codecs.BOM_UTF16_LE, "UTF-16", "save it as UTF-8"),
    (codecs.BOM_UTF16_BE, "UTF-16", "save it as UTF-8"),
)  # fmt: skip


def signature(head: bytes) -> tuple[str, str] | None:
    """What a file that begins with `head` is, where that is none of our text formats, and what to do."""
    return next(((what, fix) for mark, what, fix in SIGNATURES if head.startswith(mark)), None)


@contextmanager
def open_data(path: Path | str) -> Iterator[BinaryIO]:
    """The bytes of a plain file; of a gzip, whatever its name, what it unpacks to.

    Raises InputError for whatever is no plain file, what looks like another format, a damaged gzip and one that
    grows by more than MOST_RATIO.
    """
    path = Path(path)
    try:
        check_is_file(path)
        with open(path, "rb") as file:
            head = file.peek(32)[:32]
            found = signature(head)
            if found is not None:
                raise InputError(f"the file is {found[0]}", path=path, line=1, fix=found[1])
            if head.startswith(GZIP):
                yield io.BufferedReader(_Unpacked(path, file), CHUNK)
            else:
                yield file
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from None


def check_is_file(path: Path) -> None:
    """Raises InputError for a device, pipe, socket or folder, OSError where nothing is there."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        problem, fix = KINDS.get(stat.S_IFMT(mode), ("is no plain file", "name a file"))
        raise InputError(f"{problem}, not a file", path=path, fix=fix)


def unreadable(path: Path, error: BaseException) -> InputError:
    """One line for what the system or gzip said."""
    if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
        said = "is cut short" if isinstance(error, EOFError) else f"is damaged: {error}"
        return InputError(f"cannot be read (the gzip {said})", path=path, fix="fetch or pack it again")
    what = (error.strerror if isinstance(error, OSError) else None) or error
    return InputError(f"cannot be read ({what})", path=path, fix="check the path and the file")


def read_bytes(path: Path | str, most: int = MOST_BYTES) -> bytes:
    """A whole file, unpacked where it is gzip. Raises InputError as `open_data`, and above `most` bytes."""
    with open_data(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        problem = f"is larger than {most // MIB} MiB"
        raise InputError(problem, path=path, fix="see whether it is the right file, or split it")
    return content


def read_text(path: Path | str, most: int = MOST_BYTES) -> str:
    """The file's text, a byte order mark removed. Raises InputError with the line that is not UTF-8."""
    raw = read_bytes(path, most)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise not_utf8(path, line, raw[error.start]) from None


def not_utf8(path: Path | str, line: int, byte: int) -> InputError:
    problem = f"byte 0x{byte:02x} is not UTF-8 (mixed or another encoding)"
    return InputError(problem, path=path, line=line, fix="save the whole file as UTF-8")


def lines_of(path: Path, file: BinaryIO) -> Iterator[bytes]:
    """Lines with their ends. Raises InputError for one above MOST_LINE_BYTES: no row is that long."""
    number = 0
    while line := file.readline(MOST_LINE_BYTES + 1):
        number += 1
        if len(line) > MOST_LINE_BYTES:
            problem = f"the line is longer than {MOST_LINE_BYTES // MIB} MiB"
            raise InputError(problem, path=path, line=number, fix="write one row a line")
        yield line


class _Unpacked(io.RawIOBase):
    """A gzip's content, as long as it grows no more than text does."""

    def __init__(self, path: Path, packed: BinaryIO) -> None:
        self._path, self._file = path, gzip.GzipFile(fileobj=packed)
        self._most = max(MOST_UNPACKED, MOST_RATIO * os.fstat(packed.fileno()).st_size)
        self._taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._file.read(len(buffer))
        self._taken += len(part)
        if self._taken > self._most:
            problem = f"the gzip unpacks to more than {self._most // MIB} MiB, {MOST_RATIO} times its size"
            raise InputError(
                problem, path=self._path, fix="see what is in it; give data that is not made of repeats"
            )
        buffer[: len(part)] = part
        return len(part)


# What a file of text looks like by its first line, where it is not what its reader wants, and what to do then.


PAGE = re.compile(r"\s*<(!doctype|!--|html|\?xml|head|body|script)", re.IGNORECASE)
WORD = r"\s*[\w. \-]{1,80}\s*"  # of a header, quoted or not
SEPARATORS = {",": "CSV", "\t": "a table separated by tabs", ";": "a table separated by semicolons"}
ONE_A_LINE = "write one object a line"

Look = tuple[str, str]  # what it is, and what to do


def as_page(line: str) -> Look | None:
    if PAGE.match(line):
        return "a web page", "download the raw file, not the page that shows it"
    return None


def as_no_jsonl(line: str) -> Look | None:
    """Of a file whose first line is no JSON object; None where that line is merely broken."""
    text = line.strip()
    if text.startswith("["):
        return "one JSON array", f"{ONE_A_LINE}: jq -c '.[]' FILE"
    if text.startswith("{") and text[-1] in "{[,":
        return (
            "JSON over several lines",
            f"{ONE_A_LINE}: jq -c . FILE, or jq -c '.[]' FILE where a list holds them",
        )
    if re.match(r"\{\s*'", text):
        return "Python's way to write a dict", f"{ONE_A_LINE}, with json.dumps"
    return as_page(line) or as_table(text) or as_yaml(text)


def as_no_csv(line: str) -> Look | None:
    """Of a file whose first line is no header of CSV."""
    if line.lstrip().startswith(("{", "[")):
        return (
            "JSON",
            "where its reader takes JSONL, name it .jsonl with one object a line, or write it as CSV",
        )
    return as_page(line)


def as_table(line: str) -> Look | None:
    """A header: two names or more between separators."""
    for separator, name in SEPARATORS.items():
        words = line.split(separator)
        if len(words) > 1 and all(re.fullmatch(f'"?{WORD}"?', word) for word in words):
            fix = "where its reader takes CSV, name it .csv, or write it as JSONL: pandas has DataFrame.to_json(FILE, "
            return name, fix + "orient='records', lines=True)"
    return None


def as_yaml(line: str) -> Look | None:
    if re.match(r"(---|- |[A-Za-z_]\w*:(\s|$))", line):
        return "YAML", f"{ONE_A_LINE}, as JSON"
    return None
