"""The command line, `rbrbench COMMAND [key=value ...]` or `python -m rbrbench`; `harness.commands` has the commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from rbrbench.neighbours import foreign_neighbour

HEADING = """rbrbench: rule-based rewards, measured.

usage: rbrbench COMMAND [key=value ...]
"""
CLOSING = """
`rbrbench COMMAND --help` lists the command's keys. Exit codes: 0 done, 1 a gate says no, 2 bad input or
configuration, 3 too much is unscored or undecidable to answer, 130 interrupted."""
HELP = ("-h", "--help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; every failure that a person can mend is one line on standard error.

    Returns the exit code, 2 where another distribution's packages stand in for ours.
    """
    if problem := foreign_neighbour():
        print(f"rbrbench: {problem}", file=sys.stderr)
        return 2
    from evals.values.errors import InputError, UndecidableError
    from harness.commands import COMMANDS, command_module

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in (*HELP, "help"):
        print("\n".join([HEADING, *(command_module(name).SUMMARY for name in COMMANDS), CLOSING]))
        return 0 if arguments else 2
    command, rest = arguments[0], arguments[1:]
    try:
        if command not in COMMANDS:
            raise InputError(f"unknown command {command!r}", fix=f"use one of {', '.join(COMMANDS)}")
        module = command_module(command)
        if any(argument in HELP for argument in rest):
            print(module.usage())
            return 0
        return int(module.main(rest))
    except (InputError, UndecidableError) as error:
        print(f"rbrbench: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # whoever read our output, `head` say, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(
            "rbrbench: interrupted; finished stages are kept, the same command goes on from there",
            file=sys.stderr,
        )
        return 130
