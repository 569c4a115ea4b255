"""The commands of the command line, one file each.

A command's file has `SUMMARY`, its lines in `rbrbench --help`; `usage()`, the text of its own `--help`;
and `main(arguments)`, which returns the exit code. It imports what it runs inside `main`, so that
listing the commands loads no torch.
"""

from __future__ import annotations

import importlib
from types import ModuleType

# In the order of the help; adding one is a file and a name here.
COMMANDS = ("run", "report", "rulebook", "gold", "fit", "regress", "freeze", "evaluate", "xstest", "export")


def command_module(name: str) -> ModuleType:
    return importlib.import_module(f"harness.commands.{name}")


def wrong_usage(name: str) -> int:
    """Print how the command is called; returns the exit code for bad input."""
    print(command_module(name).usage())
    return 2
