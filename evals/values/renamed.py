"""Keys that had another name: one line that says the new one, wherever the old one is written."""

from __future__ import annotations

from collections.abc import Iterable

from evals.values.errors import InputError


def new_name(kind: type[object], key: str) -> str | None:
    """What `key` of the configuration `kind` is called now; None where it has no other name.

    `kind.RENAMED` maps old names to new ones, dotted; `*` stands for one part, kept in the new name. A name
    covers what lies below it, `{"model": "subject"}` renames `model.path`, unless its new place is there too:
    of `{"grader": "grader.kind"}` only `grader` itself has moved.
    """
    parts = key.split(".")
    for old, new in getattr(kind, "RENAMED", {}).items():
        pattern = old.split(".")
        pairs = list(zip(pattern, parts, strict=False))
        longest = len(pattern) if new.startswith(f"{old}.") else len(parts)
        if len(pattern) <= len(parts) <= longest and all(wanted in ("*", part) for wanted, part in pairs):
            kept = iter(part for wanted, part in pairs if wanted == "*")
            named = [next(kept) if part == "*" else part for part in new.split(".")]
            return ".".join([*named, *parts[len(pattern) :]])
    return None


def refuse_old_names(kind: type[object], overrides: Iterable[str]) -> None:
    """Raises InputError for the first of `overrides` (`key=value`) whose key has a new name."""
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        new = new_name(kind, key)
        if new is not None:
            raise renamed(key, new)


def renamed(old: str, new: str) -> InputError:
    return InputError("has a new name", field=old, fix=f"write {new}")
