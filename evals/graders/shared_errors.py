"""What two graders get wrong together: of one base, or taught by the same people, they err on the same responses, and
neither tells of the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

THRESHOLD = 0.5  # a proposition of yes or no counts as true above it, as a judge takes it

# Of each response, {proposition: its probability, or its truth as 0 or 1}; None where it is unscored.
Answers = Sequence[Mapping[str, float | None]]


@dataclass(frozen=True)
class SharedErrors:
    """Of `n` responses that both graded and whose truth is known: those that the first got wrong, the second, both."""

    n: int
    first: int
    second: int
    both: int

    @property
    def expected(self) -> float:
        """How many both would get wrong, were their errors independent; NaN of none."""
        return self.first * self.second / self.n if self.n else math.nan


def shared_errors(
    kinds: Sequence[str],
    truth: Answers,
    first: Answers,
    second: Answers,
    cuts: Mapping[str, float] | None = None,
) -> dict[tuple[str, str], SharedErrors]:
    """By (kind, proposition), in the order met; `kinds` [responses] are their response types.

    `cuts`: the grade above which a proposition with levels holds; its truth, a level's score, holds above half.
    Raises ValueError where the four are not of the same responses.
    """
    found: dict[tuple[str, str], list[tuple[bool, bool]]] = {}
    for kind, labels, mine, theirs in zip(kinds, truth, first, second, strict=True):
        for name, label in labels.items():
            one, other = mine.get(name), theirs.get(name)
            if label is None or one is None or other is None:
                continue
            holds, cut = label > THRESHOLD, (cuts or {}).get(name, THRESHOLD)
            wrong = (one > cut) is not holds, (other > cut) is not holds
            found.setdefault((kind, name), []).append(wrong)
    return {key: _counted(of) for key, of in found.items()}


def _counted(wrong: Sequence[tuple[bool, bool]]) -> SharedErrors:
    return SharedErrors(
        len(wrong), sum(one for one, _ in wrong), sum(other for _, other in wrong), sum(map(all, wrong))
    )
