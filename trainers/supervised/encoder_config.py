"""Settings of the encoder grader's fit, apart from it: reading them loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from evals.values.errors import InputError
from evals.values.ranges import POSITIVE, SHARE, check_ranges, whole

CANDIDATES = ((0.03, 0.1), (0.5, 0.8, 1.0), (0.5, 0.75, 1.0))  # of l2, balance and prior_shift


@dataclass
class EncoderFitConfig:
    """How to fit.

    `l2`: strength of the penalty. `balance`: 0 counts every label once, 1 gives true and false labels
    of a proposition the same total weight. `prior_shift`: share of the prevalence's log-odds taken off
    afterwards; above 0 rare propositions are found more often at a threshold of 0.5, at the price
    of probabilities that lie above the frequencies.
    """

    l2: float = 0.1  # strength of the penalty
    balance: float = 0.8  # of true and false labels' weights, from 0 (as they are) to 1 (equal)
    prior_shift: float = 0.75  # share of the prevalence's log-odds that is taken off
    iterations: int = 200  # of the optimiser, at most
    max_tokens: int = 256  # of prompt and response together
    choose: bool = False  # l2, balance and prior_shift by cross-validation inside the labels that are fitted
    average: bool = False  # none of them chosen: the mean of the heads that all CANDIDATES give

    PLACE: ClassVar[str] = "encoder"  # the group's key

    def __post_init__(self) -> None:
        if self.choose and self.average:
            raise InputError("is set, and so is choose", field="encoder.average", fix="set one of the two")
        wanted = {
            "l2": POSITIVE,
            "iterations": whole(1),
            "max_tokens": whole(64),  # 40 of them are the prompt's
            "balance prior_shift": SHARE,
        }
        check_ranges(self, self.PLACE, wanted)

    def for_grades(self) -> EncoderFitConfig:
        """For another grader's probabilities, which are to be copied as they are (distillation).

        Raises InputError where something is set that would bend them: it is for people's labels.
        """
        for name in ("balance", "prior_shift", "choose", "average"):
            if getattr(self, name) != getattr(EncoderFitConfig, name):
                problem = "is for labels of people; a teacher's grades are copied as they are"
                raise InputError(problem, field=f"encoder.{name}", fix="leave it out, or the teacher")
        return replace(self, balance=0.0, prior_shift=0.0)
