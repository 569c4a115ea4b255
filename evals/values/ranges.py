"""What the numbers of a configuration may be: a table a dataclass, and one line for whatever lies outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from evals.values.errors import InputError

INFINITY = float("inf")


@dataclass(frozen=True)
class Range:
    """Numbers that `holds` is true of, `wanted` in words. What is no number, and NaN, lies in no range."""

    holds: Callable[[float], bool]
    wanted: str
    whole: bool = False

    def __contains__(self, value: object) -> bool:
        kinds = int if self.whole else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and self.holds(value)


def whole(least: int, most: int | None = None) -> Range:
    """Whole numbers from `least` on, up to and with `most`."""
    if most is None:
        return Range(lambda v: v >= least, f"a whole number of {least} or more", whole=True)
    return Range(lambda v: least <= v <= most, f"a whole number from {least} to {most}", whole=True)


POSITIVE = Range(lambda v: 0 < v < INFINITY, "a finite number above 0")
NOT_NEGATIVE = Range(lambda v: 0 <= v < INFINITY, "a finite number of 0 or more")
FINITE = Range(lambda v: -INFINITY < v < INFINITY, "a finite number")
SHARE = Range(lambda v: 0 <= v <= 1, "a number from 0 to 1")
SHARE_BELOW_ONE = Range(lambda v: 0 <= v < 1, "a number from 0 up to, not including, 1")


def check_ranges(config: object, group: str, table: Mapping[str, Range]) -> None:
    """Check a configuration's numbers; `table` maps names of its fields, apart by spaces, to their range.

    A field may hold a mapping of such numbers. Raises InputError that names the whole key, `group` and all.
    """
    for names, allowed in table.items():
        for name in names.split():
            found = getattr(config, name)
            inside = {f"{name}.{key}": v for key, v in found.items()} if isinstance(found, Mapping) else {}
            for key, value in (inside or {name: found}).items():
                if value not in allowed:
                    field = f"{group}.{key}" if group else key
                    raise InputError(f"is {value!r}", field=field, fix=f"give {allowed.wanted}")
