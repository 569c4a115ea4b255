"""Propositions, and conditions over them: the parts a rulebook is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # keys and help name propositions, and load no numpy
    import numpy as np


class Polarity(str, Enum):
    """What a true proposition says of a response; a sign constraint on its fitted weight."""

    GOOD = "good"
    BAD = "bad"
    NEUTRAL = "neutral"


@dataclass(frozen=True)
class Proposition:
    """A yes/no question about a response; `examples` are (response text, "yes" or "no")."""

    name: str
    question: str
    examples: tuple[tuple[str, str], ...] = ()
    polarity: Polarity = Polarity.NEUTRAL

    @property
    def question_digest(self) -> str:
        """12 hexadecimal digits of what a grader is asked: the question and its examples."""
        asked = json.dumps([self.question, self.examples], ensure_ascii=False)
        return hashlib.sha256(asked.encode()).hexdigest()[:12]


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

    def decide(self, truth: Mapping[str, bool]) -> bool | None:
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
