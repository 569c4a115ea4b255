"""A JSON file of a model's folder, which is a stranger's: an object, or one line on why it is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from evals.models.weights_file import LFS
from evals.values.errors import InputError
from evals.values.json_text import parse_json
from evals.values.ranges import whole

LARGEST_JSON = 500_000_000  # bytes
TOKEN_ID = whole(0, 2**31 - 1)


def json_object(file: Path) -> dict[str, Any]:
    """A JSON object. Raises InputError for anything else, pipes, devices and pointers of Git LFS among it."""
    try:
        if not file.is_file():
            raise ValueError("no such file" if not file.exists() else "no plain file")
        if file.stat().st_size > LARGEST_JSON:
            raise ValueError(f"more than {LARGEST_JSON} bytes")
        content = file.read_bytes()
        if content.startswith(LFS):
            raise ValueError("a pointer of Git LFS, not the file: run `git lfs pull`")
        found = parse_json(content)
        if not isinstance(found, dict):
            raise ValueError(f"a {type(found).__name__}")
    except (ValueError, RecursionError, OSError) as error:
        reason = str(error)
        if isinstance(error, OSError):
            reason = str(error.strerror)
        elif (
            isinstance(error, RecursionError | UnicodeDecodeError | json.JSONDecodeError)
            or "digits" in reason
        ):
            reason = "cut, or no JSON"
        refuse(file, f"is not a JSON object ({reason})", None, "fetch the file again, whole")
    return found


def refuse(path: Path, problem: str, field: str | None, fix: str) -> NoReturn:
    """Raises InputError."""
    raise InputError(problem, path=path, field=field, fix=fix)


def shown(value: object) -> str:
    """A stranger's value, at a length that a line has room for."""
    text = "a whole number of many digits" if type(value) is int and value.bit_length() > 300 else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
