"""When the reward model is trained anew, and by whose comparisons."""

from __future__ import annotations

from dataclasses import dataclass

from evals.values.ranges import check_ranges, whole

LEAST = 8  # comparisons; with fewer, from a policy that says one thing only, nothing is trained


@dataclass
class RenewalConfig:
    """When the reward model is trained anew, and by whose comparisons."""

    every: int = 0  # updates between two renewals; 0: never
    pairs: int = 256  # compared each time
    labels: str | None = None  # folder of people's comparisons-UPDATE.jsonl; null: the sandbox's annotators

    def __post_init__(self) -> None:
        check_ranges(self, "renewal", {"every": whole(0), "pairs": whole(LEAST)})
