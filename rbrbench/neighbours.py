"""Are the packages that stand beside this one the ones that Python imports? PyPI has an `evals` of its own."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

NEIGHBOURS = ("conf", "evals", "trainers", "harness")


def foreign_neighbour() -> str:
    """One line that names a package of another distribution found in place of ours, and the fix; else "".

    Nothing is imported to find out: the other's code would run.
    """
    home = Path(__file__).resolve().parents[1]
    for name in NEIGHBOURS:
        place = _place(name)
        if place is None:
            return (
                f"rbrbench's own package '{name}' is not installed beside {home / 'rbrbench'}; install "
                "rbrbench again"
            )
        if place.resolve() != home / name:
            return (
                f"the package '{name}' of {place.parent} is imported in place of rbrbench's own ({home / name}); "
                f"uninstall the other or take its folder off PYTHONPATH and the working folder, else give rbrbench "
                "an environment of its own"
            )
    return ""


def _place(name: str) -> Path | None:
    """The folder of a package, or the file of a plain module, as an import of `name` would find it."""
    try:
        spec: ModuleSpec | None = find_spec(name)
    except ValueError:  # something stands in sys.modules without a spec
        origin = getattr(sys.modules[name], "__file__", None)
        return Path(origin).parent if origin else None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin else None


def is_command_line() -> bool:
    """Is this process `rbrbench ...` or `python -m rbrbench ...`, rather than a program that imports us?"""
    return Path(sys.argv[0]).name in ("rbrbench", "-m") if sys.argv else False
