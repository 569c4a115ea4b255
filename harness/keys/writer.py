"""Who writes the completions that the weights are fitted on, where the data bring none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from evals.values.ranges import POSITIVE, Range, check_ranges, whole


@dataclass
class WriterKeys:
    """For each safety prompt: refusals written for this project, and responses of the given model, both graded."""

    prompts: int = 200  # safety prompts that completions are written for, drawn by seed
    written: int = 4  # refusals of a prompt, of as many completion classes as they have
    samples: int = 2  # responses of the given model
    temperature: float = 1.0  # of these
    max_new_tokens: int = 48  # of these

    RANGES: ClassVar[dict[str, Range]] = {
        "prompts max_new_tokens": whole(1),
        "written samples": whole(0),
        "temperature": POSITIVE,
    }

    def __post_init__(self) -> None:
        check_ranges(self, "writer", self.RANGES)
