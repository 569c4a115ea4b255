"""Which prompts a training samples responses to: shares of the safety prompts, and the ratio of their types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from evals.values.conversation import Prompt, ResponseType
from harness.keys.rl_prompts import RLPromptKeys

T = TypeVar("T")
STREAM = 12  # of the run's seed


def chosen_safety_prompts(prompts: Sequence[Prompt], keys: RLPromptKeys, seed: int) -> list[Prompt]:
    """The safety prompts as the keys say; by default all, as they are.

    A ratio keeps the number of hard refusals and comply prompts together, and the soft refusals; a share then keeps
    the ratio. What is wanted more often than it is there comes several times.
    """
    rng = np.random.default_rng([seed, STREAM])
    found = list(prompts)
    if keys.hard_to_comply is not None:
        hard, comply = ([p for p in found if p.response_type is kind] for kind in _TRADED)
        rest = [p for p in found if p.response_type not in _TRADED]
        wanted = round((len(hard) + len(comply)) * keys.hard_to_comply / (1 + keys.hard_to_comply))
        found = rest + times(hard, wanted, rng) + times(comply, len(hard) + len(comply) - wanted, rng)
    if keys.safety_share != 1.0:
        by_type = dict.fromkeys(p.response_type for p in found)
        parts = [[p for p in found if p.response_type is kind] for kind in by_type]
        found = [p for part in parts for p in times(part, round(len(part) * keys.safety_share), rng)]
    return found


def times(items: Sequence[T], count: int, rng: np.random.Generator) -> list[T]:
    """`count` of them: all as often as that goes, then some at random, in the order that they had."""
    if not items:
        return []
    whole, rest = divmod(count, len(items))
    some = {int(i) for i in rng.permutation(len(items))[:rest]}
    return [item for i, item in enumerate(items) for _ in range(whole + (i in some))]


_TRADED = (ResponseType.HARD_REFUSE, ResponseType.COMPLY)
