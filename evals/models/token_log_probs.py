"""Log-probabilities of the tokens of one text, as a server lists them, and what they say at a higher temperature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

VERY_UNLIKELY = -9999.0  # what OpenAI and vLLM write for a log-probability that they do not tell
AMONG = 20  # tokens that hotter samples are drawn among: as many as servers list with their log-probabilities
ALL_OF_IT = 1e-3  # probability that may lie on tokens that are not listed, where fewer than AMONG are
SAME = 1e-4  # nats between two listings of one token


@dataclass(frozen=True)
class TokenLogProbs:
    """`values` [tokens], in nats at temperature 1; `likeliest` [tokens][listed], of each place the largest first.

    `ended`: of what a server wrote itself, whether the last of them is the token that ended it.
    """

    values: tuple[float, ...]
    likeliest: tuple[tuple[float, ...], ...]
    ended: bool = False

    @property
    def total(self) -> float:
        return min(math.fsum(self.values), 0.0)

    @property
    def greedy(self) -> bool:
        """Whether each token is the likeliest one in its place."""
        return all(
            not listed or value >= listed[0] - SAME
            for value, listed in zip(self.values, self.likeliest, strict=True)
        )

    def at(self, temperature: float) -> float:
        """log P of the text, each token drawn at `temperature` among the AMONG likeliest ones (`top_k`).

        -inf for a text with another token than these; NaN where too few are listed to tell. The sum over the tokens
        that may be drawn is known, and so is the probability: over a whole vocabulary nobody tells it.
        """
        if temperature == 1.0:
            return self.total
        found = [_at(*place, temperature) for place in zip(self.values, self.likeliest, strict=True)]
        return math.nan if any(map(math.isnan, found)) else math.fsum(found)


def _at(value: float, likeliest: Sequence[float], temperature: float) -> float:
    among = likeliest[:AMONG]
    if len(among) < AMONG and math.fsum(map(math.exp, among)) < 1 - ALL_OF_IT:
        return math.nan
    if not among or value < among[-1] - SAME:
        return -math.inf
    scaled = [one / temperature for one in among]
    top = max(scaled)
    return value / temperature - top - math.log(math.fsum(math.exp(one - top) for one in scaled))


def is_log_prob(value: object) -> TypeGuard[float]:
    """NaN, what a server writes for one that it does not tell, and a positive number are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and VERY_UNLIKELY < value <= 1e-3


def in_order(listed: Sequence[object]) -> tuple[float, ...]:
    """The log-probabilities among what is listed at a place, the largest first."""
    return tuple(sorted((float(v) for v in listed if is_log_prob(v)), reverse=True))
