"""`rbrbench rulebook FILE [OTHER]`: check a rulebook, or compare two."""

from __future__ import annotations

from collections.abc import Sequence

from harness.commands import wrong_usage

SUMMARY = """\
  rulebook FILE [OTHER]
                    check a rulebook, or show what differs between two"""
USAGE = """\
usage: rbrbench rulebook FILE [OTHER]

Checks a rulebook and shows it as a table, or shows what differs between two and which responses change their
class. FILE and OTHER are YAML files, or names of some in conf/rulebooks, such as sandbox. Exit codes: 0 sound,
2 bad input, and where classes of the (other) rulebook overlap or leave a response without a class."""


def main(arguments: Sequence[str]) -> int:
    if len(arguments) not in (1, 2):
        return wrong_usage("rulebook")
    from harness.keys.compose import rulebook_path
    from harness.report.rulebook import view_rulebook

    path, *other = map(rulebook_path, arguments)
    return view_rulebook(path, other[0] if other else None)
