"""Grades of responses: probabilities that propositions are true, or no number and the reason why.

Unscored is a value: NaN in the array with a reason beside it, carried through features, reward,
metrics and report. It never becomes 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from evals.values.errors import UndecidableError


@dataclass(frozen=True)
class Unscored:
    """No grade, and why."""

    reason: str


@dataclass(frozen=True)
class Grades:
    """Probabilities that propositions are true, or the expected scores of their levels.

    `probability` is float64 [responses, propositions]; NaN means unscored. `reasons` has exactly the
    (row, column) pairs that are NaN. Raises ValueError where the two disagree, a value lies outside
    0..1, names repeat, or shapes differ.
    """

    propositions: tuple[str, ...]
    probability: np.ndarray
    reasons: Mapping[tuple[int, int], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = np.asarray(self.probability, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != len(self.propositions):
            raise ValueError(f"grades have shape {values.shape} for {len(self.propositions)} propositions")
        if len(set(self.propositions)) != len(self.propositions):
            raise ValueError("a proposition is graded twice")
        unscored = {(int(i), int(j)) for i, j in np.argwhere(np.isnan(values))}
        if unscored != set(self.reasons) or not all(self.reasons.values()):
            raise ValueError("each unscored grade needs a reason, and each reason an unscored grade")
        if np.any((values < 0) | (values > 1)):
            raise ValueError("a grade lies outside 0..1")
        object.__setattr__(self, "probability", values)

    def __len__(self) -> int:
        """Number of responses."""
        return len(self.probability)

    @classmethod
    def of(cls, propositions: Sequence[str], rows: Iterable[Sequence[float | Unscored]]) -> Grades:
        """Build from one sequence of grades per response."""
        table = [list(row) for row in rows]
        reasons = {
            (i, j): grade.reason
            for i, row in enumerate(table)
            for j, grade in enumerate(row)
            if isinstance(grade, Unscored)
        }
        values = [[np.nan if isinstance(g, Unscored) else float(g) for g in row] for row in table]
        return cls(
            tuple(propositions),
            np.array(values, dtype=np.float64).reshape(len(table), len(propositions)),
            reasons,
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Grades]) -> Grades:
        """Stack grades of the same propositions, row under row. Raises ValueError if they differ."""
        if not parts or any(part.propositions != parts[0].propositions for part in parts):
            raise ValueError("only grades of the same propositions can be stacked")
        starts = np.cumsum([0, *(len(part) for part in parts)])
        reasons = {
            (int(start) + i, j): reason
            for start, part in zip(starts[:-1], parts, strict=True)
            for (i, j), reason in part.reasons.items()
        }
        return cls(parts[0].propositions, np.concatenate([part.probability for part in parts]), reasons)

    def grade(self, row: int, column: int) -> float | Unscored:
        if (row, column) in self.reasons:
            return Unscored(self.reasons[row, column])
        return float(self.probability[row, column])

    def column(self, proposition: str) -> np.ndarray:
        """One proposition's probabilities [responses]. Raises KeyError for one that was not graded."""
        if proposition not in self.propositions:
            raise KeyError(proposition)
        return self.probability[:, self.propositions.index(proposition)]

    def rows(self, rows: Sequence[int]) -> Grades:
        """The grades of some responses, in the order given."""
        reasons = {
            (new, column): reason
            for new, old in enumerate(rows)
            for (row, column), reason in self.reasons.items()
            if row == old
        }
        return Grades(self.propositions, self.probability[np.asarray(rows, dtype=int)], reasons)

    @property
    def n_unscored(self) -> int:
        """Number of unscored (response, proposition) pairs."""
        return len(self.reasons)

    @property
    def unscored_share(self) -> float:
        """Share of pairs without a grade; 0 when nothing was graded."""
        return self.n_unscored / self.probability.size if self.probability.size else 0.0


def is_too_much(unscored: int, of: int, max_unscored: float) -> bool:
    """Whether more than `max_unscored`, a share from 0 to 1, of `of` things are unscored."""
    return of > 0 and unscored / of > max_unscored


def check_unscored(
    unscored: int, of: int, max_unscored: float, what: str, reasons: Iterable[str] = (), then: str = ""
) -> None:
    """Raises UndecidableError, with the commonest reason, where `is_too_much`; every limit of this kind is held here.

    The line reads "2 of 6 `what`, more than max_unscored (0.1) allows; `then`".
    """
    if is_too_much(unscored, of, max_unscored):
        reason, times = _counted(reasons)
        why = f"the commonest reason ({times} times): {reason}" if times else ""
        after = "".join(f"; {part}" for part in (why, then) if part)
        limit = f"more than max_unscored ({max_unscored:g}) allows"
        raise UndecidableError(f"{unscored} of {of} {what}, {limit}{after}")


def commonest_reason(reasons: Iterable[str]) -> str:
    """Why most of the unscored are unscored; "" where none is."""
    return _counted(reasons)[0]


def _counted(reasons: Iterable[str]) -> tuple[str, int]:
    found = Counter(reasons).most_common(1)
    return found[0] if found else ("", 0)
