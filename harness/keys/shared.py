"""Keys that several commands have: how they are checked and read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from operator import le

from evals.values.conversation import ResponseType
from evals.values.errors import InputError
from evals.values.ranges import Range, check_ranges


def check_name(name: str, field: str = "name") -> None:
    """Raises InputError where `name`, the value of `field`, can not name a folder or file under results/."""
    if not re.fullmatch(r"[\w.+=,-]+", name) or name.startswith("."):
        raise InputError(f"is {name!r}", field=field, fix="use letters, digits, '-', '_' and '.'")


def file_name(name: str) -> str:
    """A name as part of a file name: `rbr_ppo[ppo.kl_coef=0.1]` is rbr_ppo-ppo.kl_coef-0.1."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.")[:60]


def check_least(keys: object, **least: int) -> None:
    """Raises InputError for the first of `keys` (attributes of one dataclass) that is below its least value."""
    for key, value in least.items():
        check_ranges(keys, "", {key: Range(partial(le, value), f"{value} or more")})


def response_types(names: Sequence[str]) -> tuple[ResponseType, ...]:
    """The response types of the key `response_types`. Raises InputError for an unknown one."""
    return tuple(map(_response_type, names))


def _response_type(name: str) -> ResponseType:
    try:
        return ResponseType.parse(name)
    except ValueError:
        known = ", ".join(t.value for t in ResponseType)
        problem = f"unknown response type '{name}'"
        raise InputError(problem, field="response_types", fix=f"use some of {known}") from None
