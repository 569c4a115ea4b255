"""What a task form is: how a file becomes lm-eval's documents, and what lm-eval is told about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.values.errors import InputError
from evals.values.jsonl_rows import Row

Document = dict[str, Any]

ACC = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}
ACC_NORM = {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True}


@dataclass(frozen=True)
class TaskPart:
    """One lm-eval task: its configuration and its documents, of which `splits[tested]` are the items.

    With `builtin`, a folder of lm-eval's own tasks, `config` holds a task's name and what differs from
    lm-eval's file: prompts and metrics stay lm-eval's own.
    """

    config: dict[str, Any]
    splits: dict[str, list[Document]]
    tested: str = "test"
    builtin: str | None = None


@dataclass(frozen=True)
class Form:
    """`read` raises InputError for a file that is not of this form; `few_shot`: whether it has examples."""

    read: Callable[[str, Path], list[TaskPart]]
    few_shot: bool = False


@dataclass(frozen=True)
class Released:
    """A task whose released file is read as it is; `places` are where it may lie below `capability.root`."""

    form: Form
    places: tuple[str, ...]


def local_part(name: str, documents: list[Document], **config: Any) -> TaskPart:
    """A task of our own, from `documents`; `config` in lm-eval's words."""
    return TaskPart({"task": name, "test_split": "test", **config}, {"test": documents})


# --- fields of JSONL rows, checked ------------------------------------------------------------


def text_field(row: Row, field: str) -> str:
    value = row.get(field, str)
    if not value.strip():
        raise row.error(field, "is empty", "give a text")
    return value


def choices_field(row: Row, field: str) -> list[str]:
    """Two or more different, non-empty texts."""
    values = row.get(field, list)
    if len(values) < 2 or not all(isinstance(v, str) and v.strip() for v in values):
        raise row.error(field, "is not a list of at least two texts", 'write ["...", "..."]')
    if len(set(values)) < len(values):
        raise row.error(field, "has the same text twice", "make the choices differ")
    return values


def index_field(row: Row, field: str, choices: Sequence[str]) -> int:
    """The place of the right choice, counted from 0."""
    value = row.get(field, int)
    if isinstance(value, bool) or not 0 <= value < len(choices):
        raise row.error(field, f"is {value}, not the place of a choice", f"give 0 to {len(choices) - 1}")
    return value


def id_field(row: Row, seen: dict[str, int]) -> str:
    """The row's id, or its line where it has none; `seen` holds the lines of the ids before it."""
    name = str(row.values.get("id", f"line {row.line}"))
    if name in seen:
        problem = f"duplicate id {name!r}, first on line {seen[name]}"
        raise row.error("id", problem, "give each item its own id")
    seen[name] = row.line
    return name


def need_file(path: Path) -> Path:
    if not path.is_file():
        raise InputError("no such file", path=path, fix="check capability.root and the task's path")
    return path
