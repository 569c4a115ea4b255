"""Hydra's keys on a command line as one checked dataclass, every fault as one line.

Apart from `harness.keys.run`, which loads torch with the trainers' configurations: a command that needs
none of them starts in a second.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conf import CONF
from evals.values.errors import InputError
from evals.values.located_yaml import load_located_yaml
from evals.values.settings import new_name, refuse_old_names, renamed
from harness.keys.members import settings_of_members
from harness.keys.typed import free_value, hints_of, hydra_override, is_free, put

Kind = TypeVar("Kind")


def compose_command(command: str, kind: type[Kind], overrides: Sequence[str]) -> Kind:
    """Compose and check the configuration of a command other than run: the dataclass `kind` by keys.

    Raises InputError, one line, for whatever does not fit.
    """
    ConfigStore.instance().store(name=command, node=kind)
    return compose_keys(command, kind, overrides)


def compose_keys(name: str, kind: type[Kind], overrides: Sequence[str]) -> Kind:
    """Compose the stored or packaged configuration `name`. Raises InputError, one line."""
    refuse_old_names(kind, overrides)
    hints = dict(hints_of(kind))
    free = {key for key, hint in hints.items() if is_free(hint)}
    lists, overrides = _from_files(kind, overrides, free)
    members, others = settings_of_members(kind, overrides)
    members = lists + members
    members += [(key.split("."), _listed(key, value)) for key, value in _settings(others) if key in free]
    others = [other for other in others if other.partition("=")[0] not in free]
    told = [hydra_override(override, hints) for override in _by_member_name(kind, others)]
    try:
        with initialize_config_module("conf", version_base="1.3", job_name="rbrbench"):
            composed = compose(name, overrides=told)
        for path, value in members:
            put(composed, path, value)
        config = OmegaConf.to_object(composed)
    except InputError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise as_input_error(error, kind) from None
    assert isinstance(config, kind)
    unknown = next(_additions(config, ""), None)
    if unknown is not None:  # Hydra takes `+key=value` for a key that nothing reads
        raise InputError("no such key", field=unknown, fix="--help lists every key")
    return config


def _from_files(
    kind: type[object], overrides: Sequence[str], free: Collection[str]
) -> tuple[list[tuple[list[str], Any]], list[str]]:
    """(path, value) of the lists of `data=FILE.yaml`, a group's settings in a file of one's own, and the overrides
    with its other settings before those that are typed, which win. Raises InputError for a file that is none.
    """
    lists: list[tuple[list[str], Any]] = []
    told: list[str] = []
    others: list[str] = []
    for override in overrides:
        group, _, value = override.partition("=")
        if group not in getattr(kind, "FILES", ()) or not value.endswith((".yaml", ".yml")):
            others.append(override)
            continue
        if not Path(value).is_file():
            raise InputError("no such file", path=value, field=group, fix=f"name one, or {group}=NAME")
        others.append(f"{group}=none")  # what an experiment has in its place goes
        for name, setting in load_located_yaml(Path(value)).items():
            key = f"{group}.{name}"
            if key in free:
                lists.append(([group, str(name)], setting))
            else:
                told.append(f"{key}={_written(setting)}")
    return lists, told + others


def _settings(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    for override in overrides:
        key, _, value = override.partition("=")
        yield key, value.strip()


def _listed(key: str, value: str) -> list[Any]:
    """Of a list whose members may be anything. Raises InputError for what is no list."""
    found = free_value(value, key)
    if not isinstance(found, list):
        raise InputError(f"is {value!r}", field=key, fix=f"write {key}=[NAME,...]")
    return found


def _additions(config: object, prefix: str) -> Iterator[str]:
    """Keys that the dataclasses do not have, dotted."""
    if is_dataclass(config):
        known = {field.name for field in fields(config)}
        for name, value in vars(config).items():
            yield from _additions(value, f"{prefix}{name}.") if name in known else [f"{prefix}{name}"]


def _by_member_name(kind: type[object], overrides: Sequence[str]) -> list[str]:
    """An enumeration's value, as `--help` shows it, in any case: Hydra itself knows the members' names only."""
    enums = dict(_enums(kind, ""))

    def named(override: str) -> str:
        key, _, value = override.partition("=")
        members = {text.lower(): m.name for m in enums.get(key, ()) for text in (m.name, str(m.value))}
        return f"{key}={members[value.lower()]}" if value.lower() in members else override

    return [named(override) for override in overrides]


def _enums(kind: type[object], prefix: str) -> Iterator[tuple[str, type[Enum]]]:
    """Keys whose value is a member of an enumeration, dotted."""
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            yield from _enums(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
        elif isinstance(hint, type) and issubclass(hint, Enum):
            yield f"{prefix}{name}", hint


def as_input_error(error: Exception, kind: type[object]) -> InputError:
    """Hydra's several lines, and the cause beneath them, as one."""
    texts = [str(error), *([str(error.__cause__)] if error.__cause__ else [])]
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    unknown = re.search(r"Could not find '(?:(\S*)/)?(\S+)'", lines[0]) if lines else None
    if unknown and any(line.startswith("Available options") for line in lines):
        start = next(i for i, line in enumerate(lines) if line.startswith("Available options"))
        listed = takewhile(lambda line: not line.startswith("Config search path"), lines[start + 1 :])
        choices = ", ".join(listed)
        return InputError(f"there is no '{unknown[2]}'", field=unknown[1], fix=f"choose of {choices}")
    key = next((m.group(1) for line in lines if (m := re.search(r"full_key: (\S+)", line))), None)
    missing = any(re.search(r"not in (struct|')|^Could not override", line) for line in lines)
    if key and (new := new_name(kind, key)):
        return renamed(key, new)
    if missing and key:
        near = difflib.get_close_matches(key, list(every_key(kind)), n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'? " if near else ""
        return InputError("no such key", field=key, fix=f"{hint}--help lists every key")
    shown = [
        line
        for line in lines
        if not line.startswith(("full_key", "object_type", "reference_type", "Set the env"))
    ]
    problem = next(
        (line for line in reversed(shown) if "Value" in line or "Invalid" in line),
        shown[0] if shown else "error",
    )
    for member in dict(_enums(kind, "")).get(key or "", ()):
        problem = re.sub(rf"(?<=[\[ ]){member.name}(?=[\],])", str(member.value), problem)
    return InputError(problem.rstrip("."), field=key, fix="--help lists every key with its type")


def every_key(kind: type[object]) -> dict[str, str]:
    """{key: default, as a user writes it} of the whole configuration, dotted."""
    flat: dict[str, str] = {}

    def walk(node: object, prefix: str) -> None:
        for name, value in node.items():  # type: ignore[attr-defined]
            if isinstance(value, dict):
                walk(value, f"{prefix}{name}.")
            else:
                flat[f"{prefix}{name}"] = _written(value)

    walk(OmegaConf.to_container(OmegaConf.structured(kind)), "")
    return flat


def _written(value: object) -> str:
    """A value as it is written on a command line."""
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value.value if isinstance(value, Enum) else value)


def rulebook_path(rulebook: str) -> Path:
    """The file of a rulebook given by path, or by its name in conf/rulebooks."""
    packaged = CONF / "rulebooks" / f"{rulebook}.yaml"
    return packaged if packaged.is_file() else Path(rulebook)
