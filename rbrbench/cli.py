"""The command line, `rbrbench COMMAND [key=value ...]` or `python -m rbrbench`; `harness.commands` has the commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rbrbench.neighbours import foreign_neighbour
from rbrbench.surroundings import (
    answer,
    end_at_interrupt_of_an_import,
    spare_other_programs,
    stand_in_for_closed_streams,
)

HEADING = """rbrbench: rule-based rewards, measured.

usage: rbrbench COMMAND [key=value ...]
"""
CLOSING = """
`rbrbench COMMAND --help` lists the command's keys; `rbrbench --version` says which version this is.
Exit codes: 0 done, 1 a gate says no, 2 bad input or configuration, 3 too much is
unscored or undecidable to answer, or a budget is spent, 70 a fault of rbrbench's own, 130 interrupted,
143 terminated. Where nobody reads standard output any more (`| head`) a command ends quietly."""
HELP = ("-h", "--help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; whatever ends it is one line on standard error and an exit code.

    Returns the exit code, 2 where another distribution's packages stand in for ours.
    """
    if problem := foreign_neighbour():
        print(f"rbrbench: {problem}", file=sys.stderr)
        return 2
    stand_in_for_closed_streams()
    spare_other_programs()
    end_at_interrupt_of_an_import()
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code
    except (Exception, KeyboardInterrupt) as error:
        return answer(error)


def _run(arguments: Sequence[str]) -> int:
    from evals.values.errors import InputError
    from harness.commands import COMMANDS, command_module, usage_of

    if not arguments or arguments[0] in (*HELP, "help"):
        print("\n".join([HEADING, *(command_module(name).SUMMARY for name in COMMANDS), CLOSING]))
        return 0 if arguments else 2
    if "--version" in arguments[:2]:
        from importlib.metadata import version

        print(f"rbrbench {version('rbrbench')}")
        return 0
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        raise InputError(f"unknown command {command!r}", fix=f"use one of {', '.join(COMMANDS)}")
    if any(argument in HELP for argument in rest):
        print(usage_of(command))
        return 0
    return int(command_module(command).main(rest))
