"""JSON from others, within limits: depth, digits, whole characters; what fails is one line with its place."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evals.values.data_file import read_text
from evals.values.errors import InputError

DEEPEST = 100  # lists and objects inside each other
MOST_DIGITS = 40  # of a whole number: 128 bits
# Only text that has these needs each of its numbers looked at.
_LONG_NUMBER = re.compile(rf"[0-9](?:[0-9]{{{MOST_DIGITS}}}|[eE]\+?[0-9]{{3}})")


Pairs = Callable[[list[tuple[str, Any]]], Any]


def parse_json(text: str | bytes, pairs: Pairs | None = None, *, halves: bool = False) -> Any:
    """The value of a JSON text. NaN and Infinity by name are numbers, as Python writes them.

    `pairs` makes what stands for an object of its keys and values; a dict by default. With `halves`, halves of
    characters are taken as they are: in rows of our own, which hold what others said.

    Raises ValueError (JSONDecodeError has the place) for malformed text, values more than DEEPEST deep, whole numbers
    of more than MOST_DIGITS digits, numbers beyond a double and halves of characters.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    hooks: dict[str, Any] = {} if pairs is None else {"object_pairs_hook": pairs}
    if _LONG_NUMBER.search(text):
        hooks |= {"parse_int": _whole, "parse_float": _float}
    try:
        value = json.loads(text, **hooks)
    except RecursionError:
        raise ValueError(f"more than {DEEPEST} lists and objects inside each other") from None
    if text.count("[") + text.count("{") > DEEPEST:
        _check_depth(value)
    if not halves and ("\\ud" in text or "\\uD" in text or "\\Ud" in text):
        _check_characters(value)
    return value


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Raises ValueError for a key given twice, of which the last would stand without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:60]!r} is given twice")
    return found


def read_json(
    path: Path | str, fix: str = "restore the file", most: int | None = None, pairs: Pairs | None = None
) -> Any:
    """The value of a JSON file; `pairs` as of `parse_json`. Raises InputError, one line with the place and `fix`."""
    text = read_text(path) if most is None else read_text(path, most)
    try:
        return parse_json(text, pairs)
    except ValueError as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else None
        raise InputError(f"malformed JSON ({said(error)})", path=path, line=line, fix=fix) from None


def read_json_object(path: Path | str, fix: str = "restore the file") -> dict[str, Any]:
    """The same of a file that is one object. Raises InputError for any other value too."""
    value = read_json(path, fix)
    if not isinstance(value, dict):
        raise InputError("is not a JSON object", path=path, fix=fix)
    return value


def said(error: ValueError) -> str:
    """What is wrong, in a few words."""
    return f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


def _whole(text: str) -> int:
    if len(text.removeprefix("-")) > MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, list | dict)]
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} lists and objects inside each other")


def _inside(value: Any) -> Any:
    return value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()


def _check_characters(value: Any) -> None:
    """Half of a surrogate pair is no character, and no file takes it."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair, which is no character") from None


# Rows of JSON lines that carry a digest of themselves, so that a flipped byte is no other value.


CHECK = "check"


class DamagedLine(ValueError):
    """The line is not what was written."""


def checked_line(row: Mapping[str, Any]) -> str:
    """The row as a line, without its break, in ASCII."""
    return json.dumps({**row, CHECK: _check(row)})


def read_checked(line: str | bytes) -> tuple[dict[str, Any], bool]:
    """(the row, whether it had a digest): lines of before had none. Raises DamagedLine."""
    try:
        row = parse_json(line, halves=True)
    except ValueError as error:
        raise DamagedLine(f"malformed JSON ({error})") from None
    if not isinstance(row, dict):
        raise DamagedLine("is no JSON object")
    found = row.pop(CHECK, None)
    if found is not None and found != _check(row):
        raise DamagedLine("is not what was written")
    return row, found is not None


def _check(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(row).encode()).hexdigest()[:12]
