"""The commands of the command line, one file each.

A command's file has `SUMMARY`, its lines in `rbrbench --help`; `USAGE` and, as text, the class of its `KEYS`, or
`usage()` where that says more, for its own `--help`; and `main(arguments)`, which returns the exit code. It imports
what it runs inside `main`, so that listing the commands loads no torch.
"""

from __future__ import annotations

import importlib
from types import ModuleType

# In the order of the help; adding one is a file and a name here.
COMMANDS = (
    "run",
    "data",
    "report",
    "compare",
    "rulebook",
    "gold",
    "fit",
    "regress",
    "freeze",
    "samples",
    "ceiling",
    "rank",
    "serve",
    "evaluate",
    "xstest",
    "export",
    "fetch",
)


def command_module(name: str) -> ModuleType:
    return importlib.import_module(f"harness.commands.{name}")


def usage_of(name: str) -> str:
    """The text of the command's `--help`: how it is called, and every key that it has."""
    module = command_module(name)
    if hasattr(module, "usage"):
        return str(module.usage())
    if not hasattr(module, "KEYS"):
        return str(module.USAGE)
    from harness.keys.help import command_help

    place, _, kind = module.KEYS.partition(":")
    return command_help(module.USAGE, getattr(importlib.import_module(place), kind))


def wrong_usage(name: str) -> int:
    """Print how the command is called; returns the exit code for bad input."""
    print(usage_of(name))
    return 2
