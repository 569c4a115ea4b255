"""Settings that came as a mapping, from a file or from a list's members, as one checked dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

from evals.values.errors import InputError
from evals.values.renamed import new_name, renamed

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
    kind = next((member for member in get_args(kind) if member is not NoneType), kind)
    if is_dataclass(kind):
        return value if isinstance(value, kind) else settings_from(kind, value, place)  # type: ignore[arg-type]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise InputError(f"is {value!r}", field=place, fix=f"write a value of type {kind.__name__}")
    return value
