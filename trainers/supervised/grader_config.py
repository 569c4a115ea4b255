"""The settings of a grader that is trained."""

from __future__ import annotations

from dataclasses import dataclass, field

from evals.graders.question import PLAIN, GraderPrompt, Layout
from evals.values.errors import InputError
from evals.values.ranges import NOT_NEGATIVE, POSITIVE, SHARE, SHARE_BELOW_ONE, check_ranges, whole


@dataclass
class GraderTrainingConfig:
    """How to fine-tune a grader.

    `balance`: 0 counts every label once; 1 gives true and false answers of a proposition the same
    total weight; between them, a power. Above 0 the probabilities lean towards the rarer answer.
    """

    learning_rate: float = 1e-3  # at its highest
    epochs: int = 3  # passes over the labels
    batch_size: int = 32  # responses
    warmup: float = 0.05  # share of the steps, in which the learning rate rises
    weight_decay: float = 0.01  # of AdamW
    max_grad_norm: float = 1.0  # a longer gradient is cut to it
    propositions_per_step: int = 8  # questions drawn at random for each batch, 0 for all; fewer are cheaper
    balance: float = 0.0  # power that evens out true and false answers; see above
    seed: int = field(default=0, metadata={"omegaconf_ignore": True})  # the run's; no key of its own
    prompt: GraderPrompt = field(default_factory=lambda: PLAIN)

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "grader",
            {
                "epochs batch_size": whole(1),
                "propositions_per_step seed": whole(0),
                "learning_rate max_grad_norm": POSITIVE,
                "weight_decay": NOT_NEGATIVE,
                "warmup": SHARE_BELOW_ONE,
                "balance": SHARE,
            },
        )
        if self.prompt.layout is not Layout.RESPONSE_FIRST:
            raise InputError(
                f"is {self.prompt.layout.value}",
                field="grader.prompt.layout",
                fix="give response_first, which shares prefixes",
            )
