"""Settings that came as a mapping, from a file or from a list's members, as one checked dataclass.

Keys that had another name get one line that says the new one, wherever the old one is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

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


Kind = TypeVar("Kind")


def settings_from(kind: type[Kind], values: object, place: str) -> Kind:
    """The dataclass `kind` of a mapping; `place` is the mapping's key, in errors.

    Raises InputError for what is no mapping, an unknown key, an old name, and a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"is {values!r}", field=place, fix=f"give {place}.KEY: VALUE")
    known, hints = [field.name for field in fields(kind)], get_type_hints(kind)  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            if (new := new_name(kind, key)) is not None:
                raise renamed(f"{place}.{key}", f"{place}.{new}")
            raise InputError("no such key", field=f"{place}.{key}", fix=f"use some of {', '.join(known)}")
    given = {key: as_type(hints[key], value, f"{place}.{key}") for key, value in values.items()}
    try:
        return kind(**given)
    except InputError as error:  # it knows its own name only, the place's last part
        raise error.inside(place.rpartition(".")[0]) from None


def as_type(kind: Any, value: Any, place: str) -> Any:
    """A value of the type `kind`: a whole number is also a float, a mapping is a dataclass of settings.

    Raises InputError for any other.
    """
    if get_origin(kind) is list:
        (member,) = get_args(kind)
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise InputError(f"is {value!r}", field=place, fix=f"give a list: {place}=[ONE,ANOTHER]")
        return [as_type(member, one, place) for one in value]
    if get_origin(kind) is not dict:
        kind = next((member for member in get_args(kind) if member is not NoneType), kind)
    if get_origin(kind) is dict:
        if not isinstance(value, Mapping):
            raise InputError(f"is {value!r}", field=place, fix=f"give {place}.KEY: VALUE")
        return dict(value)
    if is_dataclass(kind):
        return value if isinstance(value, kind) else settings_from(kind, value, place)  # type: ignore[arg-type]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise InputError(f"is {value!r}", field=place, fix=f"write a value of type {kind.__name__}")
    return value
