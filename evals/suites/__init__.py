"""Benchmarks, one file each but for the plainest: every SuiteSource of a module of this folder is found here.

To add one: a module with a SuiteSource at its top. Tests run over all.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from evals.suites.suite import Suite, SuiteSource, fetch_files, find_file
from evals.values.errors import InputError
from evals.values.kinds import find_kind, is_outside

__all__ = ["SUITES", "Suite", "SuiteSource", "load_suite", "suite_source"]


def suite_source(name: str) -> SuiteSource:
    """The suite of that name, or the SuiteSource that MODULE:ATTRIBUTE names. Raises InputError for neither."""
    source = find_kind("suite", name, SUITES, "suites")
    if not isinstance(source, SuiteSource):
        raise InputError(f"{name!r} is no SuiteSource", field="suites", fix="name one that your module makes")
    return source


def load_suite(
    name: str, root: Path | str | None = None, path: Path | str | None = None, part: str | None = None
) -> Suite:
    """Load a suite from `path` (its file or folder), else from its own folder below the data `root`, else from
    the hub where it lies there as released; `part` is one of those that its source names. One from outside bears
    the name by which it was asked for, and its `folder` may be absolute.

    Raises InputError for an unknown suite or part, a file that is not there, and whatever is wrong inside it.
    """
    source = suite_source(name)
    suite = _load(name, source if part is None else _in_part(name, source, part), root, path)
    return replace(suite, name=name) if is_outside(name) else suite


def _in_part(name: str, source: SuiteSource, part: str) -> SuiteSource:
    if part not in source.parts:
        known = ", ".join(source.parts)
        raise InputError(
            f"there is no part {part!r} of {name}",
            field=f"suites.{name}.part",
            fix=f"use one of {known}" if known else "leave it out: the suite has none",
        )
    file = source.parts[part]

    def load(path: Path) -> Suite:
        if path.is_file() and path.name != file:
            fix = f"give its folder, {file}, or no part"
            raise InputError(f"is not the part {part!r}", path=path, field=f"suites.{name}.part", fix=fix)
        return source.load(find_file(path, file))

    return replace(source, load=load, files=(file,))


def _load(name: str, source: SuiteSource, root: Path | str | None, path: Path | str | None) -> Suite:
    if path is None and Path(source.folder).is_absolute():
        path = source.folder
    if path is None and root is None and source.hub:
        return source.load(fetch_files(name, source.hub, source.files))
    if path is None and root is None:
        raise InputError(
            f"suite {name!r} has no file",
            field=f"suites.{name}.path",
            fix=f"give its path, or data.root with {source.folder}/",
        )
    place = Path(path) if path is not None else Path(root or ".") / source.folder
    return source.load(place.expanduser())


def _found() -> dict[str, SuiteSource]:
    modules = (importlib.import_module(f"{__name__}.{one.name}") for one in pkgutil.iter_modules(__path__))
    sources = (one for module in modules for one in vars(module).values() if isinstance(one, SuiteSource))
    return {source.name: source for source in sources}


SUITES: Mapping[str, SuiteSource] = _found()  # last: a module of this folder may import the names above
