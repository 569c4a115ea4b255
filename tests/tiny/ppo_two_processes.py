"""Run by accelerate launch in every process: the same trainings, in OUT/HOW/NAME.

accelerate launch --config_file conf/accelerate/fsdp.yaml --num_processes 2 ppo_two_processes.py OUT
HOW is two (whole models) and split (by FSDP), or, launched with deepspeed_zero2.yaml, zero1 and zero2.
"""

from __future__ import annotations

import gc
import json
import math
import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed.tensor import DTensor

from evals.values.conversation import Response, ResponseType
from evals.values.errors import InputError
from trainers.devices.processes import current_processes
from trainers.devices.zero import ZeroAdam
from trainers.models.adapters import add_adapter
from trainers.reward.reward import Breakdown, SumOfTerms
from trainers.reward.reward_model_term import RewardModelTerm
from trainers.rl import loop
from trainers.rl.config import PPOConfig
from trainers.rl.grpo import GRPO
from trainers.rl.learner import Learner
from trainers.rl.monitor import HeldOut, HeldOutScores
from trainers.rl.ppo import Models, Options, train_ppo
from trainers.rl.recipe import Recipe
from trainers.rl.reinforce import Reinforce
from trainers.rl.rloo import RLOO

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
    small_config,
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
    settings = {"updates": UPDATES, "batch_size": 11, "epochs": 2, "checkpoints": 1, "save_every": 2}
    return small_config(**(settings | changes))


def train(out: Path, settings: PPOConfig, reward: Any, models: Any = None, **parts: Any) -> Any:
    """Returns the policy and the critic, as training leaves them."""
    policy, critic, reference = models or (eager_to_end(), make_critic(), make_policy(9, spread=0.2))
    rank = int(os.environ.get("RANK", "0"))  # Each process's own noise, where the reward has any.
    torch.manual_seed(rank)
    np.random.seed(rank)
    random.seed(rank)
    prompts = make_prompts(7)
    models = Models(policy, critic, reference, make_tokenizer())
    train_ppo(models, prompts, reward, settings, out, Options(**parts))
    return policy, critic


def word_share(responses: Sequence[Response]) -> HeldOutScores:
    scores = np.array([distinct_words(response) for response in responses])
    return HeldOutScores(scores, np.zeros(len(responses)), (scores > 0.5) * 1.0, {"words": scores})


class PayingHalf:
    """A term that adds nothing, and grades half of what the judge says."""

    def __call__(self, responses: Sequence[Response]) -> Breakdown:
        return Breakdown(np.zeros(len(responses)), {"words": np.zeros(len(responses))})

    def paying_grades(self, responses: Sequence[Response]) -> dict[str, np.ndarray]:
        return {"words": np.array([distinct_words(response) / 2 for response in responses])}


def train_with_models(out: Path) -> None:
    """Tied embeddings, adapters, checkpointing, a reward model, a look at held-out responses."""
    policy = add_adapter(make_policy(2, spread=0.2, tie_word_embeddings=True), 2)
    critic = add_adapter(make_critic(), 2)
    model = RewardModelTerm(make_critic(5, initializer_range=0.5), make_tokenizer())
    reward = SumOfTerms([model, PayingHalf()])
    refused = [replace(p, response_type=ResponseType.HARD_REFUSE) for p in make_prompts(5, seed=3)]
    held_out = HeldOut(refused, word_share)
    settings = config(gradient_checkpointing=True, monitor_every=1, learning_rate=1e-2)
    train(out, settings, reward, (policy, critic, None), held_out=held_out)


def train_without_critic(out: Path, recipe: Recipe, reward: Any) -> None:
    """In two processes' slices, unequal ones where responses are not compared in groups."""
    groups = getattr(recipe, "group_size", 0)
    models = Models(eager_to_end(), None, make_policy(9, spread=0.2), make_tokenizer())
    settings = config(batch_size=12 if groups else 11, max_unscored=0.9)
    loop.train(recipe, models, make_prompts(7), reward, settings, out)


def train_in_bfloat16(out: Path, reward: Any) -> None:
    models = (eager_to_end(), make_critic(), make_policy(9, spread=0.2))
    train(out, config(), reward, [model.to(torch.bfloat16) for model in models])


def held_share(models: Sequence[torch.nn.Module]) -> float:
    """The share of the models' values that this process holds."""
    parameters = [p for model in models for p in model.parameters()]
    here = [p.to_local() if isinstance(p, DTensor) else p for p in parameters]
    return sum(p.numel() for p in here) / sum(p.numel() for p in parameters)


def engines_alive() -> int:
    gc.collect()
    return sum(type(x) is ZeroAdam for x in gc.get_objects())


def look_into_optimizers(out: Path) -> None:
    """Write the share of the policy's moments that this process holds, and what is said of a gradient of NaN."""
    processes, policies = current_processes(), (make_policy(), make_policy().to(torch.bfloat16))
    found = []
    for policy in policies:
        optimizer = Learner.start(policy, make_critic(), config(), processes).policy_objective.optimizer
        here = sum(part.numel() for group in optimizer.param_groups for part in group["params"])
        processes.backward(optimizer, policy.lm_head.weight.sum() * math.nan, 1)
        try:
            processes.step(optimizer, 1.0)
            said = ""
        except InputError as error:
            said = str(error)
        found.append({"share": here / sum(p.numel() for p in policy.parameters()), "said": said})
    (out / f"optimizers-{processes.rank}.json").write_text(json.dumps(found))


def break_off(train: Callable[[Path, Any], object], out: Path, reward: TextReward) -> None:
    """Train until the last update, whose reward fails; a state of the second is left."""
    try:
        train(out, Crashing(reward))
    except RuntimeError:
        return
    raise AssertionError("the reward did not fail")


def train_plainly(out: Path, reward: Any) -> Any:
    return train(out, config(), reward)


def train_all(out: Path, splits: bool = False, alone: bool = False) -> None:
    """`splits`: models are split, which not every setting goes with. `alone`: by one process, whose trainings are
    what others are compared with; that it resumes to the same bytes is tested elsewhere.
    """
    text = TextReward(distinct_words)
    engines = engines_alive()
    trained = train_plainly(out / "plain", text)
    # DeepSpeed's hooks on the weights kept its engines, and all moments with them, as long as the models.
    assert engines_alive() == engines
    train(out / "again", config(), text, (*trained, make_policy(9, spread=0.2)))
    share = out / f"held-{os.environ.get('RANK', '0')}.json"
    share.write_text(json.dumps(held_share(trained)))
    unscored = TextReward(but_first_prompts)
    hard = {"minibatches": 4, "batch_size": 4, "max_unscored": 0.9, "kl_controller": "adaptive"}
    train(out / "unscored", config(**hard, stop_kl=1e-3), unscored)
    train_with_models(out / "models")
    if not splits:
        rates = {"learning_rate": 3e-3, "critic_learning_rate": 1e-3}
        train(out / "shared", config(shared_trunk=True, offload=True, **rates), text)
    for recipe in (GRPO(group_size=3), RLOO(group_size=3), Reinforce()):
        train_without_critic(out / recipe.algorithm.value, recipe, unscored)
    break_off(train_plainly, out / "handed", text)
    if alone:
        return
    train_in_bfloat16(out / "bfloat16", text)
    break_off(train_in_bfloat16, out / "bfloat16-resumed", text)
    train_in_bfloat16(out / "bfloat16-resumed", text)
    train_plainly(out / "unbroken", NoisyReward())
    break_off(train_plainly, out / "resumed", NoisyReward())
    train_plainly(out / "resumed", NoisyReward())


# By what `accelerate launch` was asked for: how processes train, and what of that request is changed for it.
HOW = {
    "ACCELERATE_USE_FSDP": {
        "two": ("ACCELERATE_USE_FSDP", "false"),
        "split": ("ACCELERATE_USE_FSDP", "true"),
    },
    "ACCELERATE_USE_DEEPSPEED": {
        "zero1": ("ACCELERATE_DEEPSPEED_ZERO_STAGE", "1"),
        "zero2": ("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"),
    },
}


def main(out: Path) -> None:
    (asked,) = (name for name in HOW if os.environ.get(name) == "true")
    for how, (variable, value) in HOW[asked].items():
        os.environ[variable] = value
        (out / how).mkdir(exist_ok=True)
        train_all(out / how, splits=how == "split")
        if how.startswith("zero"):
            look_into_optimizers(out / how)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
