"""Propositions, and conditions over them: the parts a rulebook is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from evals.values.levels import Label, Levels, ScoredLevel, cut_of, label_of

if TYPE_CHECKING:  # keys and help name propositions, and load no numpy
    import numpy as np


class Polarity(str, Enum):
    """What a true proposition says of a response; a sign constraint on its fitted weight."""

    GOOD = "good"
    BAD = "bad"
    NEUTRAL = "neutral"


# What a condition asks of a proposition: that it holds or not, or some of its levels.
Wanted = bool | tuple[str, ...]


class AtLeast(str):
    """`NAME at least WORD`, which a condition on levels is made of; `below` is the next lower level."""

    of: str
    level: ScoredLevel
    below: ScoredLevel

    def __new__(cls, of: str, level: ScoredLevel, below: ScoredLevel) -> AtLeast:
        made = super().__new__(cls, f"{of} at least {level.word}")
        made.of, made.level, made.below = of, level, below
        return made


def asked_of(name: str) -> str:
    """The proposition that a literal is about."""
    return name.of if isinstance(name, AtLeast) else name


def settled(truth: Mapping[str, bool]) -> dict[str, Label]:
    """Truths of literals as labels: in place of its steps a proposition's level, the highest that is reached or, where
    none is, the one below all that are not.
    """
    steps = [(name, holds) for name, holds in truth.items() if isinstance(name, AtLeast)]

    def label(name: str, holds: bool) -> Label:
        if not isinstance(name, AtLeast):
            return holds
        mine = [(step, holds) for step, holds in steps if step.of == name.of]
        reached = [step.level for step, holds in mine if holds]
        return max(reached, key=float) if reached else min((step.below for step, _ in mine), key=float)

    return {asked_of(name): label(name, holds) for name, holds in truth.items()}


def said(name: str, wanted: Wanted) -> str:
    """One word of a condition: `apology`, `not apology`, `detail some or full`."""
    if isinstance(wanted, bool):
        return name if wanted else f"not {name}"
    return f"{name} {' or '.join(wanted)}"


@dataclass(frozen=True)
class Proposition:
    """A question about a response, of yes or no where it has no `levels`; `examples` are (response text, answer).

    A grade is P(yes), or the expected score of the levels.
    """

    name: str
    question: str
    examples: tuple[tuple[str, str], ...] = ()
    polarity: Polarity = Polarity.NEUTRAL
    levels: Levels = ()

    @property
    def asked(self) -> list[Any]:
        """What a grader is asked, as JSON: the question and its examples, then the levels where there are any."""
        levels = [[level.word, level.score] for level in self.levels]
        return [self.question, self.examples, *([levels] if levels else [])]

    @property
    def question_digest(self) -> str:
        """12 hexadecimal digits of what a grader is asked."""
        asked = json.dumps(self.asked, ensure_ascii=False)
        return hashlib.sha256(asked.encode()).hexdigest()[:12]

    @property
    def cut(self) -> float:
        """The grade above which it holds: half, or midway between the levels below and above half."""
        return cut_of(self.levels)

    @property
    def steps(self) -> tuple[AtLeast, ...]:
        """One for each level but the lowest."""
        return tuple(AtLeast(self.name, level, below) for below, level in pairwise(self.levels))

    def literals(self, wanted: Wanted) -> dict[str, bool]:
        """A condition's word on it: that it holds, or of levels that it is one of these neighbours."""
        if not self.levels:
            return {self.name: bool(wanted)}
        if isinstance(wanted, bool):
            return {next(step for step in self.steps if step.level): wanted}
        places = [place for place, level in enumerate(self.levels) if level.word in wanted]
        found: dict[str, bool] = {self.steps[places[0] - 1]: True} if places[0] else {}
        if places[-1] < len(self.steps):
            found[self.steps[places[-1]]] = False
        return found

    def truths(self, label: Label) -> dict[str, bool]:
        """Of what conditions are made of, by a label: its own, or those of its steps."""
        if not self.levels:
            return {self.name: bool(label)}
        return {step: float(label) >= step.level.score for step in self.steps}

    def probabilities(self, grades: np.ndarray) -> dict[str, np.ndarray]:
        """What conditions are made of, by its grades [responses]: P(yes), or that of each step.

        A grade between two levels stands for a draw of these two with that mean: 0 or 1 where it is a level's score.
        """
        if not self.levels:
            return {self.name: grades}
        import numpy as np

        widths = {step: step.level.score - step.below.score for step in self.steps}
        return {
            step: np.clip((grades - step.below.score) / width, 0.0, 1.0) for step, width in widths.items()
        }

    def label_of(self, grade: float) -> Label:
        """What a grade says: the nearest level, or whether it is true."""
        return label_of(grade, self.levels)


@dataclass(frozen=True)
class Condition:
    """A conjunction over simple propositions: every literal holds and every `negated` part fails."""

    literals: Mapping[str, bool] = field(default_factory=dict)
    negated: tuple[Condition, ...] = ()
    contradictory: bool = False

    @property
    def size(self) -> int:
        """Literals written out, those of negated parts too."""
        return len(self.literals) + sum(1 + part.size for part in self.negated)

    def names(self) -> Iterator[str]:
        yield from self.literals
        for part in self.negated:
            yield from part.names()

    def decide(self, truth: Mapping[str, Label]) -> bool | None:
        """True or False where the known truths suffice, else None (Kleene's three-valued logic)."""
        if self.contradictory:
            return False
        decided = [bool(truth[n]) is wanted if n in truth else None for n, wanted in self.literals.items()]
        for part in self.negated:
            value = part.decide(truth)
            decided.append(None if value is None else not value)
        if any(value is False for value in decided):
            return False
        return None if None in decided else True

    def probability(self, true: Mapping[str, np.ndarray]) -> np.ndarray:
        """P(condition) [responses] if propositions were independent, as the paper's class features.

        The product of the literals' probabilities (or complements) and, for each negated part,
        of one minus that part's own product.
        """
        import numpy as np

        product: np.ndarray = np.float64(0.0 if self.contradictory else 1.0) * np.ones_like(
            next(iter(true.values()))
        )
        for name, wanted in self.literals.items():
            product = product * (true[name] if wanted else 1.0 - true[name])
        for part in self.negated:
            product = product * (1.0 - part.probability(true))
        return product
