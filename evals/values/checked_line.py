"""Rows of JSON lines that carry a digest of themselves, so that a flipped byte is no other value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

CHECK = "check"


class DamagedLine(ValueError):
    """The line is not what was written."""


def checked_line(row: Mapping[str, Any]) -> str:
    """The row as a line, without its break, in ASCII."""
    return json.dumps({**row, CHECK: _check(row)})


def read_checked(line: str | bytes) -> tuple[dict[str, Any], bool]:
    """(the row, whether it had a digest): lines of before had none. Raises DamagedLine."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DamagedLine(f"malformed JSON ({error})") from None
    if not isinstance(row, dict):
        raise DamagedLine("is no JSON object")
    found = row.pop(CHECK, None)
    if found is not None and found != _check(row):
        raise DamagedLine("is not what was written")
    return row, found is not None


def _check(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(row).encode()).hexdigest()[:12]
