"""Hydra's keys on a command line as one checked dataclass, every fault as one line.

Hydra itself is imported where something is composed: a command's help is shown without it.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_origin, get_type_hints

from yaml import YAMLError

from conf import CONF
from evals.values.errors import InputError
from evals.values.located_yaml import as_written, load_located_yaml
from evals.values.settings import new_name, refuse_old_names, renamed
from harness.keys.members import MemberSetting, places_of, setting_of_member
from harness.keys.typed import (
    FUNCTIONS,
    free_value,
    hints_of,
    hydra_override,
    is_free,
    is_text,
    override_value,
    resolve_references,
    swept,
)

if TYPE_CHECKING:
    from omegaconf import DictConfig

Kind = TypeVar("Kind")
EXTRAS = {  # what brings a launcher or a sweeper
    "hydra/launcher=joblib": "joblib",
    "hydra/launcher=ray": "ray",
    "hydra/launcher=submitit_local": "submitit",
    "hydra/launcher=submitit_slurm": "submitit",
    "hydra/sweeper=optuna": "optuna",
}
FAMILY = 4  # options that begin alike are named together from so many on
GROUPS = ("data", "experiment", "model", "sandbox")  # of a run; each option is a file
SCHEMA = "schema"  # what the packaged configuration fills
_stored: dict[str, type[object]] = {}
PLAIN = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)  # a part of a key, by Hydra's grammar
HYDRAS = re.compile(r"[+~]*hydra([./=@]|\Z)")  # an override of Hydra's own
BENEATH_NULL = "'NoneType' object has no"
OF_SEVERAL = "Ambiguous value|requires --multirun"  # what Hydra says of `1,2` and `range(1,3)`
FIXES = {  # by what Hydra says, whose own advice stands in lines that are left out
    OF_SEVERAL: "add -m to sweep over it; a list is written [1,2]",
    r"Sweeping over Hydra's configuration.*hydra\.sweeper\.params\.": "sweep over the key itself: -m KEY=1,2",
    "Sweeping over Hydra's configuration": "give it one value for all jobs",
    "sweep type : INTERVAL_SWEEP": "write values, or range(), or choose hydra/sweeper=optuna",
    "of type 'list' could not be converted": "to sweep over several values write 1,2 without brackets",
    "Multiple values for|already at": "write it without +",
    "Config group override must be": "name an option; ~GROUP leaves the group out",
    "Cannot find primary config": "name a file of --config-dir, without its .yaml",
    "Could not load 'config'": "give --config-dir in place of --config-path, which takes this project's files away",
    "Could not override.*No match": "write the whole group in a file's defaults, `override /GROUP: NAME`",
    "Could not load": "mend the file's defaults list; `--info searchpath` shows where options are looked for",
    "Environment variable '.*' not found": "set it, or write ${oc.env:NAME,VALUE}",
    "HydraConfig was not set": "leave ${hydra:...} out, which is known in a job alone",
    BENEATH_NULL: "write it in a file; on the command line sweep over the key itself: -m KEY=1,2",
    "codec can't decode": "save the files of --config-dir as UTF-8",
}


def compose_command(command: str, kind: type[Kind], overrides: Sequence[str]) -> Kind:
    """Compose and check the configuration of a command other than run: the dataclass `kind` by keys.

    Raises InputError, one line, for whatever does not fit.
    """
    store(command, kind)
    return _compose(command, kind, overrides)


def compose_keys(name: str, kind: type[Kind], overrides: Sequence[str]) -> Kind:
    """Compose the packaged configuration `name`, whose `schema` is `kind`. Raises InputError, one line."""
    store(SCHEMA, kind)
    return _compose(name, kind, overrides)


def store(name: str, kind: type[object]) -> None:
    """Hydra finds the dataclass `kind` under `name` from now on."""
    from hydra.core.config_store import ConfigStore

    if _stored.get(name) is not kind:  # each time takes a tenth of a second
        ConfigStore.instance().store(name=name, node=kind)
        _stored[name] = kind


def _compose(name: str, kind: type[Kind], overrides: Sequence[str]) -> Kind:
    from hydra import compose, initialize_config_module

    resolve_references()
    if hydras := next(filter(HYDRAS.match, overrides), None):
        fix = "leave it out; `rbrbench run` alone is an application of Hydra's"
        raise InputError("is not read", field=hydras.partition("=")[0], fix=fix)
    typed = told(kind, overrides)
    with one_line(kind, sweeps=False):
        with initialize_config_module("conf", version_base="1.3", job_name="rbrbench"):
            composed = compose(name, overrides=typed)
        return checked(kind, composed)


def checked(kind: type[Kind], composed: DictConfig) -> Kind:
    """What Hydra has composed as the dataclass `kind`. Raises InputError for keys that it does not have."""
    from omegaconf import OmegaConf

    with one_line(kind):
        config = OmegaConf.to_object(composed)
    if not isinstance(config, kind):
        fix = "begin its defaults list with `config`, this project's own"
        raise InputError("the configuration is not this command's", field="--config-name", fix=fix)
    unknown = next(_additions(config, ""), None)
    if unknown is not None:  # Hydra takes `+key=value` for a key that nothing reads
        raise _no_such_key(kind, unknown)
    return config


@contextmanager
def one_line(kind: type[object], *, sweeps: bool = True) -> Iterator[None]:
    """Around Hydra's composing: what it raises becomes one line, an InputError.

    `sweeps`: the command has Hydra's flags.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    with warnings.catch_warnings():
        warnings.filterwarnings(
            "error", "provider=.*is not available", UserWarning
        )  # of a folder in hydra.searchpath
        try:
            yield
        except InputError:
            raise
        except (HydraException, OmegaConfBaseException, ValueError, AttributeError) as error:
            if isinstance(error, AttributeError) and "full_key:" not in str(error):
                raise
            found = as_input_error(error, kind)
            if not sweeps and found.fix == FIXES[OF_SEVERAL]:
                problem = f"{str(error).splitlines()[0]}; `rbrbench run` alone sweeps"
                raise InputError(problem, fix="give one value; a list is written [1,2]") from None
            raise found from None
        except AssertionError as error:
            if "type for root: NoneType" not in str(error):
                raise
            raise InputError("a key was given beneath one that is null", fix=FIXES[BENEATH_NULL]) from None
        except UserWarning as warning:
            raise InputError(
                str(warning).rstrip("."), field="hydra.searchpath", fix="write file://FOLDER"
            ) from None
        except YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            path, line = (mark.name, mark.line + 1) if mark else (None, None)
            problem = f"is no YAML ({getattr(error, 'problem', None) or error})"
            raise InputError(problem, path=path, line=line, fix="mend the file") from None
        except RecursionError:
            problem = "a file of the configuration, or its defaults list, goes round in a circle"
            raise InputError(problem, fix="begin a file of your own with another") from None


def told(kind: type[object], overrides: Sequence[str], *, sweep: bool = False) -> list[str]:
    """Overrides as they were typed, as Hydra must be told them; with `sweep`, `key=a,b` is two values.

    Names, paths and lists of them are taken as they stand; the settings of a list's members lie under a key of
    their own; a file of one's own is what it says. Raises InputError for what does not fit.
    """
    refuse_unknown_keys(kind, overrides)
    hints = _hints_by_key(kind)  # type: ignore[arg-type]  # a class has a hash
    found, typed = _from_files(kind, overrides, hints, sweep)
    members = {override: setting_of_member(kind, override, typed) for override in typed}
    odd = {m.field for m in members.values() if m is not None and not all(map(PLAIN.fullmatch, m.path))}
    together: dict[str, dict[str, Any]] = {}
    for override in typed:
        key, _, value = override.partition("=")
        member = members[override]
        if member is not None and member.field in odd:
            _put(together.setdefault(member.field, {}), member.path, member.value(value))
        elif sweep and (member is not None or _is_taken_as_typed(key, hints)):
            values = [value] if FUNCTIONS.fullmatch(value) else swept(value, key)
            pairs = [
                _told(f"{key}={one}", member, hints, swept=bool(FUNCTIONS.fullmatch(value))) for one in values
            ]
            found.append(f"{pairs[0].partition('=')[0]}={','.join(pair.partition('=')[2] for pair in pairs)}")
        else:
            found.append(_told(override, member, hints))
    return [*found, *(f"++{field}={override_value(value)}" for field, value in together.items())]


def refuse_unknown_keys(kind: type[object], arguments: Sequence[str]) -> None:
    """Raises InputError for the first KEY=VALUE that has a new name, or stands in a group that has no such key.

    Hydra, which takes longer to load than this to say it, knows the rest: groups, flags, keys of its own.
    """
    refuse_old_names(kind, arguments)
    known = {*_hints_by_key(kind), *places_of(kind)}  # type: ignore[arg-type]  # a class has a hash
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        group = key.partition(".")[0]
        if not equals or not all(map(PLAIN.fullmatch, key.split("."))) or group == key:
            continue
        above = {key[: dot.start()] for dot in re.finditer(r"\.", key)}
        inside = [name for name in known if name.startswith(f"{group}.")]
        if inside and not known & {key, *above} and not any(name.startswith(f"{key}.") for name in inside):
            raise _no_such_key(kind, key)


def _no_such_key(kind: type[object], key: str) -> InputError:
    if HYDRAS.match(key):
        fix = "--cfg hydra shows every key of Hydra's; + before a key adds it"
        return InputError("no such key", field=key, fix=fix)
    if key == "experiment":
        fix = "begin its file with the line `# @package _global_`"
        return InputError("the file sets keys of a group of that name", field=key, fix=fix)
    if "." in key and key in every_key(kind):  # a file's, where dots are a part of the name
        group, _, rest = key.partition(".")
        fix = f"write it as the file has groups, {group}: {{{rest}: VALUE}}"
        return InputError("is written with its dots", field=key, fix=fix)
    near = difflib.get_close_matches(key, list(every_key(kind)), n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return InputError("no such key", field=key, fix=f"{hint}--help lists every key")


@cache
def _hints_by_key(kind: type[object]) -> Mapping[str, Any]:
    return dict(hints_of(kind))


def _told(
    override: str, member: MemberSetting | None, hints: Mapping[str, Any], *, swept: bool = False
) -> str:
    """One override of one value; with `swept`, of one of Hydra's functions, which makes several of it."""
    key, _, value = override.partition("=")
    if member is not None:
        return f"++{member.key}={value if swept else override_value(member.value(value))}"
    if swept:
        return override
    if is_free(hints.get(key)):
        return f"{key}={override_value(_listed(key, value))}"
    return hydra_override(override, hints)


def _is_taken_as_typed(key: str, hints: Mapping[str, Any]) -> bool:
    hint = hints.get(key.lstrip("+"))
    return is_text(hint) or get_origin(hint) is list


def _put(group: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for part in path[:-1]:
        inner = group.get(part)
        group[part] = group = inner if isinstance(inner, dict) else {}
    group[path[-1]] = value


def _from_files(
    kind: type[object], overrides: Sequence[str], hints: Mapping[str, Any], sweep: bool
) -> tuple[list[str], list[str]]:
    """What `data=FILE.yaml`, a group's settings in a file of one's own, tells Hydra, and the others, which win.

    Raises InputError for a file that is none.
    """
    found: list[str] = []
    others: list[str] = []
    for override in overrides:
        group, _, value = override.partition("=")
        if group not in getattr(kind, "FILES", ()) or not value.endswith((".yaml", ".yml")):
            others.append(override)
            continue
        if sweep and "," in value and not Path(value).is_file():
            fix = f"put each into a folder of your own as {group}/NAME.yaml: --config-dir FOLDER {group}=NAME,..."
            raise InputError("files are not swept", field=group, fix=fix)
        if not Path(value).is_file():
            raise InputError("no such file", path=value, field=group, fix=f"name one, or {group}=NAME")
        found.append(f"{group}=none")  # what an experiment has in its place goes
        for name, setting in _in_file(Path(value), group).items():
            key = f"{group}.{name}"
            is_list = is_free(hints.get(key))
            found.append(
                f"{key}={override_value(setting)}"
                if is_list
                else hydra_override(f"{key}={_written(setting)}", hints)
            )
    return found, others


def _in_file(file: Path, group: str) -> Mapping[str, Any]:
    """The group's settings, which may stand under its name, where nothing else stands beside it.

    Raises InputError for keys of a run in a file of one group.
    """
    found = load_located_yaml(file)
    if group not in found:
        return as_written(found)  # type: ignore[no-any-return]
    inner = found[group]
    if not isinstance(inner, dict):
        raise InputError(
            "is no group of keys", path=file, line=found.lines[group], field=group, fix="indent them"
        )
    if other := next((key for key in found if key != group), None):
        problem = f"stands beside '{group}', and the file is for what lies below {group}. alone"
        raise InputError(
            problem, path=file, line=found.lines[other], field=other, fix=f"type it: {other}=VALUE"
        )
    return as_written(inner)  # type: ignore[no-any-return]


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


def choices(kind: type[object]) -> dict[str, type[Enum]]:
    """{key: the enumeration that its value is a member of}, dotted."""
    return dict(_enums(kind, ""))


def _enums(kind: type[object], prefix: str) -> Iterator[tuple[str, type[Enum]]]:
    """Keys whose value is a member of an enumeration, dotted."""
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            yield from _enums(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
        elif isinstance(hint, type) and issubclass(hint, Enum):
            yield f"{prefix}{name}", hint


def _in_short(options: Sequence[str]) -> list[str]:
    """Many that begin with one of the others, as `sensitivity_...` with `sensitivity`, as one."""
    families = [name for name in options if sum(o.startswith(f"{name}_") for o in options) >= FAMILY]
    kept = [o for o in options if not any(o.startswith(f"{name}_") for name in families)]
    return [f"{name}, {name}_*" if name in families else name for name in kept]


def as_input_error(error: Exception, kind: type[object]) -> InputError:
    """Hydra's several lines, and the cause beneath them, as one."""
    texts = [str(error), *([str(error.__cause__)] if error.__cause__ else [])]
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    unknown = re.search(r"Could not find '(?:(\S*)/)?(\S+)'", lines[0]) if lines else None
    if unknown and any(line.startswith("Available options") for line in lines):
        start = next(i for i, line in enumerate(lines) if line.startswith("Available options"))
        listed = takewhile(lambda line: not line.startswith("Config search path"), lines[start + 1 :])
        options = ", ".join(_in_short(list(listed)))
        extra = EXTRAS.get(f"{unknown[1]}={unknown[2]}")
        fix = f"choose of {options}" if extra is None else f"install it: pip install 'rbrbench[{extra}]'"
        return InputError(f"there is no '{unknown[2]}'", field=unknown[1], fix=fix)
    key = next((m.group(1) for line in lines if (m := re.search(r"full_key: (\S+)", line))), None)
    missing = any(re.search(r"not in (struct|')|^Could not override", line) for line in lines)
    if key and (new := new_name(kind, key)):
        return renamed(key, new)
    if missing and key:
        return _no_such_key(kind, key)
    problem = _problem(lines)
    for member in choices(kind).get(key or "", ()):
        problem = re.sub(rf"(?<=[\[ ]){member.name}(?=[\],])", str(member.value), problem)
    usual = "--help lists every key with its type"
    advice = next((fix for said, fix in FIXES.items() if re.search(said, problem)), usual)
    return InputError(problem.rstrip("."), field=key, fix=advice)


def _problem(lines: Sequence[str]) -> str:
    """The line of Hydra's that says most."""
    places = ("full_key", "object_type", "reference_type", "Set the env")
    shown = [line for line in lines if not line.startswith(places)]
    if typed := next((line for line in reversed(shown) if re.search(r"\bValue\b|Invalid", line)), None):
        return typed
    first, *others = shown or ["error"]
    if others and (
        first.endswith(":") or first.startswith(("Error merging override", "Unable to configure"))
    ):
        first = f"{first.rstrip(':')}: {others[0]}"
    return re.sub(r"\w+ raised while (resolving interpolation|composing config): ", "", first)


def every_key(kind: type[object]) -> dict[str, str]:
    """{key: default, as a user writes it} of the whole configuration, dotted."""
    return {name: _written(value) for name, value in _flat(dict(_defaults(kind)), "")}


def _flat(node: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    for name, value in node.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif is_dataclass(value):
            inner = {field.name: getattr(value, field.name) for field in _settings(value)}
            yield from _flat(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _defaults(kind: type[object]) -> Iterator[tuple[str, object]]:
    for field in _settings(kind):
        if field.default_factory is not MISSING:
            yield field.name, field.default_factory()
        else:
            yield field.name, "???" if field.default is MISSING else field.default  # as OmegaConf writes it


def _settings(kind: Any) -> list[Field[Any]]:
    return [field for field in fields(kind) if not field.metadata.get("omegaconf_ignore")]


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
