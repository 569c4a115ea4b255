"""When the reward model and the grader are trained anew, and by whose labels."""

from __future__ import annotations

from dataclasses import dataclass

from evals.values.ranges import check_ranges, whole

# Of an update's row: responses labelled there, whether by the alarm, and how right the renewed grader is.
GRADER_LABELS, GRADER_BY_ALARM = "renewal/grader_labels", "renewal/grader_by_alarm"
GRADER_ACCURACY = "renewal/grader_accuracy_new"
LEAST = 8  # comparisons, or responses to label; with fewer nothing is trained


@dataclass
class RenewalConfig:
    """When the reward model is trained anew, and by whose comparisons."""

    every: int = 0  # updates between two renewals; 0: never
    pairs: int = 256  # compared each time
    labels: str | None = None  # folder of people's comparisons-UPDATE.jsonl; null: the sandbox's annotators

    def __post_init__(self) -> None:
        check_ranges(self, "renewal", {"every": whole(0), "pairs": whole(LEAST)})


@dataclass
class GraderRenewalConfig:
    """When the grader that pays is trained anew on labelled responses of the policy."""

    every: int = 0  # updates between two renewals of the grader; 0: none at set times
    on_alarm: bool = False  # once, at the first look at which payer and judge part on a proposition
    responses: int = 256  # of the policy that are labelled each time
    budget: int = 1024  # of labelled responses of one training, all renewals together
    labels: str | None = None  # folder of people's labels-UPDATE.jsonl; null: the sandbox's, or a teacher

    def __post_init__(self) -> None:
        wanted = {"every": whole(0), "responses budget": whole(LEAST)}
        check_ranges(self, "renewal.grader", wanted)

    @property
    def is_asked(self) -> bool:
        return self.every > 0 or self.on_alarm
