"""The entry of the command line: `rbrbench` and `python -m rbrbench`. The commands are `harness.commands`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rbrbench.neighbours import foreign_neighbour


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, 2 where another distribution's packages stand in for ours."""
    if problem := foreign_neighbour():
        print(f"rbrbench: {problem}", file=sys.stderr)
        return 2
    from harness.commands.main import main as command

    return command(arguments)
