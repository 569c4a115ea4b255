"""Run by torchrun in every process, and once alone: the same trainings, each in OUT/NAME.

python ppo_two_processes.py OUT
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evals.conversation import Response
from trainers.ppo import train_ppo
from trainers.ppo_config import PPOConfig
from trainers.reward import Breakdown

sys.path.insert(0, str(Path(__file__).parent))
from ppo_world import (
    NoisyReward,
    TextReward,
    distinct_words,
    eager_to_end,
    make_critic,
    make_policy,
    make_prompts,
    make_tokenizer,
)

UPDATES = 3


def but_first_prompts(response: Response) -> float | None:
    """The responses of the first process's rows are unscored in some updates: it then has no gradient."""
    return None if response.prompt.id in ("p0", "p1") else distinct_words(response)


class Crashing(NoisyReward):
    """Ends its process's training at the third call."""

    calls = 0

    def __call__(self, responses: Sequence[Response]) -> Breakdown:
        self.calls += 1
        if self.calls == UPDATES:
            raise RuntimeError("crash")
        return super().__call__(responses)


def config(**changes: Any) -> PPOConfig:
    """Eleven responses, so that two processes have unequal slices."""
    settings: dict[str, Any] = {
        "updates": UPDATES,
        "batch_size": 11,
        "max_new_tokens": 8,
        "micro_batch_size": 4,
        "epochs": 2,
        "learning_rate": 1e-3,
        "critic_learning_rate": 1e-3,
        "checkpoints": 1,
        "save_every": 2,
    }
    return PPOConfig(**(settings | changes))


def train(out: Path, settings: PPOConfig, reward: Any) -> None:
    policy, critic, reference = eager_to_end(), make_critic(), make_policy(9, spread=0.2)
    rank = int(os.environ.get("RANK", "0"))  # Each process's own noise, where the reward has any.
    torch.manual_seed(rank)
    np.random.seed(rank)
    random.seed(rank)
    prompts = make_prompts(7)
    train_ppo(policy, critic, reference, make_tokenizer(), prompts, reward, settings, out)


def main(out: Path) -> None:
    text = TextReward(distinct_words)
    train(out / "plain", config(), text)
    unscored = TextReward(but_first_prompts)
    hard = {"minibatches": 4, "batch_size": 4, "max_unscored_share": 0.9, "kl_controller": "adaptive"}
    train(out / "unscored", config(**hard, stop_kl=1e-3), unscored)
    train(out / "unbroken", config(), NoisyReward())
    try:
        train(out / "resumed", config(), Crashing())
    except RuntimeError:
        train(out / "resumed", config(), NoisyReward())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
