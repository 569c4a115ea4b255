"""Settings of one of several, `models.NAME.KEY=VALUE`: NAME may have dots, and may hold what Hydra's keys can not."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from evals.values.errors import InputError
from evals.values.settings import new_name, renamed
from harness.keys.typed import at_commas, hints_of, is_quoted, is_text, parsed, text_of

# Text, whoever's setting it is.
NAMED = ("path", "model", "url", "name", "revision", "rulebook", "key_variable")


@dataclass(frozen=True)
class Members:
    """What is typed as `PLACE.NAME.KEY=VALUE`.

    `field` is the mapping that keeps it, beside which the members are listed under PLACE's own name, if at all.
    `keys` are the types of a member's settings, or tell them for its kind; `closed` where it has no others.
    """

    field: str
    keys: Mapping[str, Any] | Callable[[str], Mapping[str, Any]]
    closed: bool = False

    def of(self, kind: str) -> Mapping[str, Any]:
        return self.keys(kind) if callable(self.keys) else self.keys


@dataclass(frozen=True)
class Setting:
    """`models.llama-3.1.responses=r.csv` is `name` llama-3.1, `key` responses; "" where the member is the setting."""

    name: str
    key: str
    value: str


@dataclass(frozen=True)
class MemberSetting:
    """A member's setting: the mapping that keeps it, the place in there, and the types of that member's settings."""

    field: str
    path: list[str]
    setting: Setting
    keys: Mapping[str, Any]

    @property
    def key(self) -> str:
        return ".".join([self.field, *self.path])

    def value(self, typed: str) -> Any:
        return value_of(replace(self.setting, value=typed), self.keys)


def setting_of_member(kind: type[object], override: str, overrides: Sequence[str]) -> MemberSetting | None:
    """What `override`, one of `overrides`, sets of a member; None where it is no member's.

    Raises InputError for an old name, and for a key that no member of a closed kind has.
    """
    plain, places = override.lstrip("+"), places_of(kind)  # type: ignore[arg-type]  # a class has a hash
    place = next((place for place in places if plain.startswith(f"{place}.")), None)
    if place is None or "=" not in plain:
        return None
    members, path = places[place]
    setting = split(plain[len(place) + 1 :], members, listed(place, overrides))
    if (new := new_name(kind, f"{place}.NAME.{setting.key}")) is not None:
        raise renamed(f"{place}.{setting.name}.{setting.key}", new.replace("NAME", setting.name, 1))
    chosen = next(
        (o.partition("=")[2] for o in overrides if o.startswith(f"{place}.{setting.name}.kind=")), ""
    )
    keys = members.of(chosen or setting.name)
    if members.closed and not is_key(setting.key, keys):
        fix = f"write {place}.NAME.KEY, KEY one of {', '.join(keys)}"
        raise InputError(f"has no {setting.key!r}", field=f"{place}.{setting.name}", fix=fix)
    inner = setting.key.split(".") if setting.key else []
    return MemberSetting(".".join(path), [setting.name, *inner], setting, keys)


def is_key(key: str, keys: Mapping[str, Any]) -> bool:
    """One of the keys, or inside one that is a mapping: subject.chat_template.enable_thinking."""
    inside = (place for place, hint in keys.items() if get_origin(hint) is dict)
    return key in keys or any(key.startswith(f"{place}.") for place in inside)


@cache  # each override asks
def places_of(kind: type[object]) -> Mapping[str, tuple[Members, list[str]]]:
    return dict(_places(kind))


def _places(kind: type[object], prefix: str = "") -> Iterator[tuple[str, tuple[Members, list[str]]]]:
    """{what is typed before a member's name: its members, and where they are kept}."""
    written = getattr(kind, "MEMBERS", {})
    typed = {members.field: (name, members) for name, members in written.items()}
    for name, hint in get_type_hints(kind).items():
        if get_origin(hint) is dict:
            place, members = typed.get(name, (name, Members(name, {"": get_args(hint)[1]})))
            yield f"{prefix}{place}", (members, f"{prefix}{name}".split("."))
        elif get_origin(hint) is None and is_dataclass(hint):
            yield from _places(hint, f"{prefix}{name}.")  # type: ignore[arg-type]


def listed(place: str, overrides: Sequence[str]) -> list[str]:
    """The names of `PLACE=[NAME,...]`."""
    lists = [value for key, _, value in (o.partition("=") for o in overrides) if key == place]
    return [text_of(part.strip()) for value in lists for part in at_commas(value.strip()[1:-1]) or []]


def split(rest: str, members: Members, names: Collection[str]) -> Setting:
    """`NAME.KEY=VALUE`: NAME is one of `names`, else ends before the first of the known keys, else at its first dot."""
    for name in sorted(names, key=len, reverse=True):
        if rest.startswith(f"{name}.") and "=" in rest[len(name) :]:
            key, _, value = rest[len(name) + 1 :].partition("=")
            return Setting(name, key, value)
    keys = [] if callable(members.keys) else [key for key in members.keys if key]
    if keys and (found := re.match(rf"(.+?)\.({'|'.join(map(re.escape, keys))})=(.*)", rest, re.DOTALL)):
        return Setting(found[1], found[2], found[3])
    place, _, value = rest.partition("=")
    if members.keys == {"": int}:  # the member itself is the setting
        return Setting(place, "", value)
    groups = "|".join({re.escape(key.partition(".")[0]) for key in keys if "." in key} | {"model"})
    found = re.fullmatch(rf"(.+?)\.((?:{groups})\..+|[^.]+)", place) if keys else None
    name, key = (found[1], found[2]) if found else place.partition(".")[::2]
    return Setting(name, key, value)


def value_of(setting: Setting, keys: Mapping[str, Any]) -> Any:
    """As typed where its type says text, or its name where the type is unknown; else by Hydra's grammar, if it can."""
    hint, last = keys.get(setting.key), setting.key.rpartition(".")[2]
    value = setting.value
    if is_text(hint) or (hint is None and last in NAMED):
        return None if value == "null" and hint is not str else text_of(value)
    read = parsed(f"k={value}")
    if read is None or (isinstance(read.value(), str) and not is_quoted(read)):
        return value
    return read.value()


def keys_of(hints: Mapping[str, Any]) -> dict[str, Any]:
    """{key: type} of a member whose settings have these types, dotted where one is a group."""
    found: dict[str, Any] = {}
    for key, hint in hints.items():
        group = next((k for k in (hint, *get_args(hint)) if isinstance(k, type) and is_dataclass(k)), None)
        found |= {key: hint} if group is None else {f"{key}.{name}": inner for name, inner in hints_of(group)}
    return {key: hint for key, hint in found.items() if key.rpartition(".")[2].islower()}
