"""Members of a family (graders, judges, methods, ...) found by kind: a name of its table, or MODULE:ATTRIBUTE."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from evals.values.errors import InputError

KIND = re.compile(r'^KIND = "(\w+)"$', re.MULTILINE)
OUTSIDE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_outside(kind: str) -> bool:
    """Is it written as `package.module:attribute`, of a package that need not be ours?"""
    return OUTSIDE.fullmatch(kind) is not None


def kinds_known(table: Iterable[str]) -> str:
    """What a kind may be, for an error's fix and for a help text."""
    return f"{', '.join(table)}, or your own as MODULE:ATTRIBUTE"


def check_kind(family: str, kind: str, table: Iterable[str], field: str) -> None:
    """Raises InputError for a kind that is neither in the table nor MODULE:ATTRIBUTE; imports nothing."""
    if kind not in table and not is_outside(kind):
        fix = f"use one of {kinds_known(table)}" if table else "name your own as MODULE:ATTRIBUTE"
        raise InputError(f"unknown {family} {kind!r}", field=field, fix=fix)


def found_in(package: str, folder: Iterable[str], makes: str) -> dict[str, str]:
    """{kind: "PACKAGE.MODULE:MAKES"} of the modules of a package's `folder` that define the name `makes`, by kind.

    A module's kind is its file's name, or what its line `KIND = "..."` says. Sources are read and nothing is
    imported, so that listing a family loads none of what its members need. Raises ValueError where two are of one kind.
    """
    found: dict[str, str] = {}
    defines = re.compile(rf"^(?:def {makes}\(|{makes}\b[^=\n]*=|class {makes}\b)", re.MULTILINE)
    for module in pkgutil.iter_modules(folder):
        source = Path(module.module_finder.path, f"{module.name}.py")  # type: ignore[union-attr]
        if module.ispkg or not defines.search(text := source.read_text(encoding="utf-8")):
            continue
        kind = named[1] if (named := KIND.search(text)) else module.name
        if kind in found:
            raise ValueError(f"{found[kind]} and {package}.{module.name} are both of the kind {kind!r}")
        found[kind] = f"{package}.{module.name}:{makes}"
    return dict(sorted(found.items()))


def find_kind(family: str, kind: str, table: Mapping[str, Any], field: str) -> Any:
    """What a kind stands for: the table's member, or the attribute that it or the table names as text.

    A module's own failure is said with its cause. Raises InputError, one line, for an unknown kind, a module
    that cannot be imported and an attribute that it does not have.
    """
    check_kind(family, kind, table, field)
    member = table.get(kind, kind)
    return _attribute(family, member, field) if isinstance(member, str) else member


def find_builder(family: str, kind: str, table: Mapping[str, Any], field: str, of: str) -> Callable[..., Any]:
    """As `find_kind`, of a family whose members are made by functions; `of` says of what. Raises InputError."""
    builder: Callable[..., Any] = find_kind(family, kind, table, field)
    if not callable(builder):
        raise InputError(f"{kind!r} cannot be called", field=field, fix=f"name a function of {of}")
    return builder


def code_of(kind: str) -> str:
    """Sixteen hex digits of the code behind MODULE:ATTRIBUTE: its file, in a package all Python files of it.

    Part of whatever is kept of what such a member says. The module has been imported.
    """
    name = kind.partition(":")[0]
    module, top = sys.modules[name], sys.modules[name.partition(".")[0]]
    own = getattr(module, "__file__", None)
    files = {Path(own).name: Path(own)} if own else {}
    for folder in map(Path, getattr(top, "__path__", ())):
        files |= {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.py")}
    total = hashlib.sha256()
    for place, path in sorted(files.items()):
        total.update(f"{place}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    return total.hexdigest()[:16]


class FromOutside:
    """A grader or judge from outside: itself, but its `identity`, where it has one, also names its code.

    `made_of` tells one without identity apart: its kind, code and settings.
    """

    def __init__(self, member: Any, kind: str, settings: object = None) -> None:
        self._member, self._code = member, code_of(kind)
        self.made_of = f"{kind} {self._code} {settings!r}"

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._member, name)
        return f"{found} of code {self._code}" if name == "identity" and found else found


def _attribute(family: str, place: str, field: str) -> Any:
    module, _, name = place.partition(":")
    try:
        found = importlib.import_module(module)
    except Exception as error:  # whatever another's module does when it is imported
        problem = f"{family} {place!r}: importing {module} fails ({type(error).__name__}: {error})"
        fix = "put its folder on PYTHONPATH or install it, and see that it can be imported"
        raise InputError(problem, field=field, fix=fix) from error
    if not hasattr(found, name):
        raise InputError(
            f"{family} {place!r}: {module} has no {name!r}", field=field, fix="name what it defines"
        )
    return getattr(found, name)
