"""The commands of the command line, one file each.

A command's file has `SUMMARY`, its lines in `rbrbench --help`; `usage()`, the text of its own `--help`;
and `main(arguments)`, which returns the exit code. It imports what it runs inside `main`, so that
listing the commands loads no torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType

# In the order of the help; adding one is a file and a name here.
COMMANDS = ("run", "report", "rulebook", "gold", "fit", "regress", "freeze", "evaluate", "xstest", "export")


def command_module(name: str) -> ModuleType:
    return importlib.import_module(f"harness.commands.{name}")


def call(name: str, arguments: Sequence[str]) -> int:
    """Run one command, or print its usage where `--help` is among the arguments; returns the exit code."""
    module = command_module(name)
    if any(a in ("-h", "--help") for a in arguments):
        print(module.usage())
        return 0
    code = module.main(arguments)
    assert isinstance(code, int)
    return code


def wrong_usage(name: str) -> int:
    """Print how the command is called; returns the exit code for bad input."""
    print(command_module(name).usage())
    return 2
