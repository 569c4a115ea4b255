"""`rbrbench rulebook FILE [OTHER]`: check a rulebook, or compare two."""

from __future__ import annotations

from collections.abc import Sequence

from harness.commands import wrong_usage

SUMMARY = """\
  rulebook FILE [OTHER]
                    check a rulebook, or show what differs between two"""


def usage() -> str:
    return "usage: rbrbench rulebook FILE [OTHER]   checks a rulebook, or shows two as a diff"


def main(arguments: Sequence[str]) -> int:
    if len(arguments) not in (1, 2):
        return wrong_usage("rulebook")
    from harness.rulebook_view import view_rulebook

    return view_rulebook(arguments[0], arguments[1] if len(arguments) == 2 else None)
