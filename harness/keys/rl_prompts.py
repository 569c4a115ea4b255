"""Which prompts a training samples responses to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from evals.values.ranges import POSITIVE, Range, check_ranges


@dataclass
class RLPromptKeys:
    """Of the safety prompts; the helpful ones stay as they are."""

    safety_share: float = 1.0  # of them; 0.25 leaves a quarter, 2 asks each twice as often
    hard_to_comply: float | None = None  # hard refusals to each prompt to answer; null: as they are

    RANGES: ClassVar[dict[str, Range]] = {"safety_share": POSITIVE}

    def __post_init__(self) -> None:
        check_ranges(self, "rl_prompts", self.RANGES)
        if self.hard_to_comply is not None:
            check_ranges(self, "rl_prompts", {"hard_to_comply": POSITIVE})

    @property
    def as_they_are(self) -> bool:
        return self == RLPromptKeys()
