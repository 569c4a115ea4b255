"""Settings of the fit of the rule-based reward's weights, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, field

from evals.values.choice import Choice
from evals.values.ranges import FINITE, NOT_NEGATIVE, POSITIVE, SHARE_BELOW_ONE, Range, check_ranges, whole

MAX_UNSCORED = 0.1  # of the completions that weights are fitted on; with more there are no weights


class FitMethod(Choice):
    HINGE = "hinge"  # to the optimum
    FIXED = "fixed"  # ablation: every weight has the size `fixed`
    BOOSTED = "boosted"  # gradient-boosted trees in place of weights


@dataclass
class WeightsConfig:
    """How weights are fitted."""

    method: FitMethod = FitMethod.HINGE  # how weights are fitted, or fixed
    fixed: float = 1.0  # size of every weight where method is fixed
    reward_model: bool = True  # False fits the rule-based reward alone
    # Small enough to leave the hinge below that of the released recipe, large enough to keep the weights
    # at its size (about 3). With 0, features that are nearly the same for all responses but a few take
    # weights of hundreds, and every reward lies beyond the trainer's clip.
    l2: float = 1e-3  # strength of the penalty on the weights
    margin: float = 1.0  # reward by which the better response should lead
    margins: dict[str, float] = field(default_factory=dict)  # +weights.margins={ideal/WORSE_CLASS:2.0}
    sign_constraints: bool = False  # bad may not earn, good may not cost, and a better class earns more
    max_weight: float = 1000.0  # bound on each weight's size; keeps separable data finite
    holdout: float = 0.2  # share of prompts kept from fitting
    seed: int = field(default=0, metadata={"omegaconf_ignore": True})  # the run's; no key of its own
    trees: int = 200  # where method is boosted: how many
    tree_depth: int = 3  # how deep each is
    tree_rate: float = 0.1  # how much of each is added

    def __post_init__(self) -> None:
        # A key on the command line may not hold a '>'.
        self.margins = {pair.replace("/", ">"): margin for pair, margin in self.margins.items()}
        check_ranges(
            self,
            "weights",
            {
                "l2 margin": NOT_NEGATIVE,
                "max_weight": POSITIVE,
                "fixed": FINITE,
                "holdout": SHARE_BELOW_ONE,
                "seed": whole(0),
                "trees tree_depth": whole(1),
                "tree_rate": Range(lambda v: 0 < v <= 1, "a number above 0 and up to 1"),
            },
        )
