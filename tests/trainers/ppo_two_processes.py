"""Run by accelerate launch in every process: the same trainings, in OUT/two/NAME and, with FSDP, in OUT/split/NAME.

accelerate launch --config_file conf/accelerate/fsdp.yaml --num_processes 2 ppo_two_processes.py OUT
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed.tensor import DTensor

from evals.conversation import Response
from trainers.adapters import add_adapter
from trainers.ppo import train_ppo
from trainers.ppo_config import PPOConfig
from trainers.ppo_monitor import HeldOut, HeldOutScores
from trainers.reward import Breakdown, RewardModelTerm, SumOfTerms

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


class Crashing:
    """Ends its process's training at the third call."""

    def __init__(self, reward: TextReward) -> None:
        self.reward, self.calls = reward, 0

    def __call__(self, responses: Sequence[Response]) -> Breakdown:
        self.calls += 1
        if self.calls == UPDATES:
            raise RuntimeError("crash")
        return self.reward(responses)


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


def train(out: Path, settings: PPOConfig, reward: Any, models: Any = None, **parts: Any) -> Any:
    """Returns the policy and the critic, as training leaves them."""
    policy, critic, reference = models or (eager_to_end(), make_critic(), make_policy(9, spread=0.2))
    rank = int(os.environ.get("RANK", "0"))  # Each process's own noise, where the reward has any.
    torch.manual_seed(rank)
    np.random.seed(rank)
    random.seed(rank)
    prompts = make_prompts(7)
    train_ppo(policy, critic, reference, make_tokenizer(), prompts, reward, settings, out, **parts)
    return policy, critic


def word_share(responses: Sequence[Response]) -> HeldOutScores:
    scores = np.array([distinct_words(response) for response in responses])
    return HeldOutScores(scores, np.zeros(len(responses)))


def train_with_models(out: Path) -> None:
    """Tied embeddings, adapters, checkpointing, a reward model, a look at held-out responses."""
    policy = add_adapter(make_policy(2, spread=0.2, tie_word_embeddings=True), 2)
    critic = add_adapter(make_critic(), 2)
    reward = SumOfTerms([RewardModelTerm(make_critic(5, initializer_range=0.5), make_tokenizer())])
    held_out = HeldOut(make_prompts(5, seed=3), word_share)
    settings = config(gradient_checkpointing=True, monitor_every=1, learning_rate=1e-2)
    train(out, settings, reward, (policy, critic, None), held_out=held_out)


def train_in_bfloat16(out: Path) -> None:
    models = (eager_to_end(), make_critic(), make_policy(9, spread=0.2))
    train(out, config(), TextReward(distinct_words), [model.to(torch.bfloat16) for model in models])


def held_share(models: Sequence[torch.nn.Module]) -> float:
    """The share of the models' values that this process holds."""
    parameters = [p for model in models for p in model.parameters()]
    here = [p.to_local() if isinstance(p, DTensor) else p for p in parameters]
    return sum(p.numel() for p in here) / sum(p.numel() for p in parameters)


def break_off(out: Path, reward: TextReward) -> None:
    """Train until the last update, whose reward fails; a state of the second is left."""
    try:
        train(out, config(), Crashing(reward))
    except RuntimeError:
        return
    raise AssertionError("the reward did not fail")


def train_all(out: Path) -> None:
    text = TextReward(distinct_words)
    trained = train(out / "plain", config(), text)
    share = out / f"held-{os.environ.get('RANK', '0')}.json"
    share.write_text(json.dumps(held_share(trained)))
    unscored = TextReward(but_first_prompts)
    hard = {"minibatches": 4, "batch_size": 4, "max_unscored_share": 0.9, "kl_controller": "adaptive"}
    train(out / "unscored", config(**hard, stop_kl=1e-3), unscored)
    train_with_models(out / "models")
    train_in_bfloat16(out / "bfloat16")
    train(out / "unbroken", config(), NoisyReward())
    break_off(out / "resumed", NoisyReward())
    train(out / "resumed", config(), NoisyReward())
    break_off(out / "handed", text)


def main(out: Path) -> None:
    """The launcher asks for FSDP; without that the same processes hold all models each."""
    assert os.environ["ACCELERATE_USE_FSDP"] == "true"
    for how, asked in (("two", "false"), ("split", "true")):
        os.environ["ACCELERATE_USE_FSDP"] = asked
        (out / how).mkdir(exist_ok=True)
        train_all(out / how)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
