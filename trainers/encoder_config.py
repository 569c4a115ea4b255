"""Settings of the encoder grader's fit, apart from it: reading them loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from evals.errors import InputError

CANDIDATES = ((0.03, 0.1), (0.5, 0.8, 1.0), (0.5, 0.75, 1.0))  # of l2, balance and prior_shift


@dataclass
class EncoderFitConfig:
    """How to fit.

    `l2`: strength of the penalty. `balance`: 0 counts every label once, 1 gives true and false labels
    of a proposition the same total weight. `prior_shift`: share of the prevalence's log-odds taken off
    afterwards; above 0 rare propositions are found more often at a threshold of 0.5, at the price
    of probabilities that lie above the frequencies.
    """

    l2: float = 0.1
    balance: float = 0.8
    prior_shift: float = 0.75
    iterations: int = 200
    max_tokens: int = 256
    choose: bool = False  # l2, balance and prior_shift by cross-validation inside the labels that are fitted
    average: bool = False  # none of them chosen: the mean of the heads that all CANDIDATES give

    def __post_init__(self) -> None:
        if self.choose and self.average:
            raise InputError("is set, and so is choose", field="grader.average", fix="set one of the two")
        for name in ("l2", "iterations"):
            if getattr(self, name) <= 0:
                raise InputError("is out of range", field=f"grader.{name}", fix="give a value above 0")
        for name in ("balance", "prior_shift"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError("is out of range", field=f"grader.{name}", fix="give a value from 0 to 1")
