"""The last line of an answer, where a judge or a grader says its verdict in words of a form that it was told."""

from __future__ import annotations

# What models write round a word: emphasis, quotes of all kinds, brackets, a stop.
_ROUND = (
    " \t\u00a0*_`#>.:!\"'()[]{}\uff02\uff07\u300c\u300d"
    "\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u00ab\u00bb\u2039\u203a"
)


def bare(text: str) -> str:
    """A word or a line without what stands round it."""
    return text.strip(_ROUND)


def last_line(answer: str) -> str:
    """The last line that says anything, bare; "" where none does."""
    return next((line for line in map(bare, reversed(answer.splitlines())) if line), "")
