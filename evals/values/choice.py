"""A setting with named values: a person writes the value as `--help` shows it, in any case."""

from __future__ import annotations

from enum import Enum, EnumMeta
from typing import Any


class _ByValue(EnumMeta):
    """OmegaConf looks an enumeration's members up by name; these are found by their value too."""

    def __getitem__(cls, name: str) -> Any:
        members: dict[str, Any] = cls._member_map_
        found = (m for key, m in members.items() if name.lower() in (key.lower(), str(m.value).lower()))
        return next(found, None) or super().__getitem__(name)


class Choice(str, Enum, metaclass=_ByValue):
    """On the command line, in a file and in a sweep alike: `algorithm=grpo` is Algorithm.GRPO."""
