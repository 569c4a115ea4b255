"""How well a judge's verdicts agree with people's labels on the same responses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evals.judges.measures import Judgement
from evals.values.errors import InputError


@dataclass(frozen=True)
class Agreement:
    """Of a yes/no verdict with the labels, over the `n` responses that both scored.

    `true_positive_rate` = share of the labelled positives that the judge calls positive, `true_negative_rate`
    likewise; NaN where there are none. `n_unscored` counts the responses that the judge or the label left
    out. `balanced_accuracy` is the mean of the two rates: .5 for a judge that always says the same.
    """

    n: int
    n_unscored: int
    accuracy: float
    true_positive_rate: float
    true_negative_rate: float

    @property
    def balanced_accuracy(self) -> float:
        return (self.true_positive_rate + self.true_negative_rate) / 2


def agreement(labels: Sequence[bool | None], verdicts: Sequence[bool | None]) -> Agreement:
    """None is unscored. Raises ValueError for sequences of unequal length."""
    pairs = [(x, y) for x, y in zip(labels, verdicts, strict=True) if x is not None and y is not None]
    positives = [verdict for label, verdict in pairs if label]
    negatives = [not verdict for label, verdict in pairs if not label]
    right = sum(positives) + sum(negatives)
    return Agreement(
        n=len(pairs),
        n_unscored=len(labels) - len(pairs),
        accuracy=right / len(pairs) if pairs else math.nan,
        true_positive_rate=sum(positives) / len(positives) if positives else math.nan,
        true_negative_rate=sum(negatives) / len(negatives) if negatives else math.nan,
    )


def refusal_agreement(human: Sequence[Judgement], judge: Sequence[Judgement]) -> Agreement:
    """Refusal (full or partial) against compliance; both judged the same responses, in the same order.

    Raises InputError when the prompts differ.
    """
    if [j.prompt_id for j in human] != [j.prompt_id for j in judge]:
        raise InputError("the judge and the people did not judge the same responses", fix="judge them again")
    return agreement([j.refused for j in human], [j.refused for j in judge])
