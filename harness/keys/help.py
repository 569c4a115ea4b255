"""`--help`: every key of the configuration with its default and, from the source itself, its meaning."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from conf import CONF
from harness.keys.compose import every_key

FLAGS = """\
flags of Hydra, whose application this is (docs/sweeps.md):
  --multirun, -m                             a sweep: KEY=A,B, range(0,5), glob(*) of a group's options
  --cfg job|hydra|all                        shows the configuration; also --resolve, --package KEY
  --info WHAT                                all, config, defaults, defaults-tree, plugins, searchpath
  --config-dir FOLDER                        with experiment/, model/, sandbox/ or data/ of your own
  --config-name NAME                         a primary file of your own in that folder
  --shell-completion install=bash            what bash evaluates to complete commands and keys
  --hydra-help                               what Hydra says of itself"""
_COMMENTED = re.compile(r"^    (\w+): [^#\n]*#\s*(.+)$", re.MULTILINE)


def command_help(usage: str, kind: type[Any]) -> str:
    """The text of `rbrbench COMMAND --help`: how it is called, and every key of its dataclass `kind`."""
    return "\n".join([usage, "", *_group(kind, "", every_key(kind))])


def keys_help() -> str:
    """The text of `rbrbench run --help`."""
    from harness.keys.run import RunConfig

    lines = [
        "usage: rbrbench run [-m] [key=value ...]",
        "",
        "experiments: " + ", ".join(_options("experiment")),
    ]
    lines += [
        "groups: " + ", ".join(f"{name}={'|'.join(_options(name))}" for name in ("model", "sandbox")),
        "",
        FLAGS,
        "",
    ]
    lines += _group(RunConfig, "", every_key(RunConfig))
    return "\n".join(lines)


def meanings(kind: type[Any]) -> dict[str, str]:
    """{key: the comment after it} of a dataclass and of those that it inherits from."""
    found: dict[str, str] = {}
    for base in reversed([base for base in kind.__mro__ if is_dataclass(base)]):
        found |= dict(_COMMENTED.findall(_source(base)))
    return found


def _source(kind: type[Any]) -> str:
    """A class as it is written. `inspect.getsource` parses the whole module for each class."""
    text = _text(inspect.getfile(kind))
    found = re.search(rf"^class {kind.__name__}\b.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    return found[0] if found else ""


@cache
def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def _options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def _group(kind: type[Any], prefix: str, defaults: dict[str, str]) -> list[str]:
    """One line a key; then the groups inside, each under its docstring."""
    comments = meanings(kind)
    hints = get_type_hints(kind)
    lines, inner = [], []
    order = list(inspect.get_annotations(kind))  # a class's own keys stand before those that it shares
    shared = len(order)
    for field in sorted(fields(kind), key=lambda f: order.index(f.name) if f.name in order else shared):
        key, hint = f"{prefix}{field.name}", hints[field.name]
        if field.metadata.get("omegaconf_ignore"):
            continue
        if is_dataclass(hint):
            about = inspect.cleandoc(hint.__doc__ or "")
            about = "" if "(" in about.split(" ")[0] else about
            inner += ["", f"{key}", *(f"    {line}".rstrip() for line in about.splitlines())]
            inner += _group(hint, f"{key}.", defaults)  # type: ignore[arg-type]
        else:
            inside = [name for name in defaults if name.startswith(f"{key}.")] or [key]  # a mapping's keys
            lines += [
                f"  {name}={defaults.get(name, '')}".ljust(45) + " " + comments.get(field.name, "")
                for name in inside
            ]
    return [line.rstrip() for line in lines] + inner
