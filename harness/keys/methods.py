"""The methods table: a method = SFT data + reward-model data + reward terms + prompts.

Adding a method is one row here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from evals.values.errors import InputError
from trainers.rl.config import Algorithm


class Data(str, Enum):
    """Whose demonstrations or comparisons a model learns from."""

    HELPFUL = "helpful"  # helpful-only
    HUMAN = "human"  # helpful, plus safety data by annotators
    RBR = "rbr"  # helpful, plus synthetic ideal completions (demonstrations only)


@dataclass(frozen=True)
class Method:
    """One row. `reward_model` None: supervised fine-tuning only. `rule_based` adds the rule-based reward.

    `safety_prompts` adds the safety prompts to the helpful ones in RL (paper, section 5).
    """

    name: str
    label: str
    sft: Data
    reward_model: Data | None = None
    rule_based: bool = False
    safety_prompts: bool = True

    @property
    def is_ppo(self) -> bool:
        return self.reward_model is not None

    def named(self, algorithm: Algorithm) -> str:
        """The name in results: what `rbr_ppo` makes with `algorithm=GRPO` is `rbr_grpo`."""
        return f"{self.name.removesuffix('_ppo')}_{algorithm.value}" if self.is_ppo else self.name

    @property
    def start(self) -> str:
        """The SFT method that reinforcement learning starts from."""
        return f"{self.sft.value}_sft"


METHODS = {
    method.name: method
    for method in (
        Method("helpful_sft", "Helpful-SFT", Data.HELPFUL),
        Method("human_sft", "Human-SFT", Data.HUMAN),
        Method("rbr_sft", "RBR-SFT", Data.RBR),
        Method("helpful_ppo", "Helpful-PPO", Data.HELPFUL, Data.HELPFUL, safety_prompts=False),
        Method("human_ppo", "Human-PPO", Data.HUMAN, Data.HUMAN),
        Method("rbr_ppo", "RBR-PPO", Data.RBR, Data.HELPFUL, rule_based=True),
        Method("human_rbr_ppo", "HumanRM+RBR-PPO", Data.HUMAN, Data.HUMAN, rule_based=True),
    )
}
DEFAULT = ("helpful_ppo", "human_ppo", "rbr_ppo")


def chosen(names: Iterable[str]) -> list[Method]:
    """The named methods and the SFT models that they start from, in the table's order.

    Raises InputError for an unknown name or an empty list.
    """
    names = list(names)
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        raise InputError(
            f"unknown method {unknown[0]!r}" if unknown else "no method is named",
            field="methods",
            fix=f"use some of {', '.join(METHODS)}",
        )
    wanted = {*names, *(METHODS[name].start for name in names)}
    return [method for name, method in METHODS.items() if name in wanted]
