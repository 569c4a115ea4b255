"""Proximal policy optimisation for language models (Schulman et al. 2017, arXiv 1707.06347), with any reward of text.

A round's advantages are GAE's, from a critic; policy and critic take `epochs` passes of clipped losses.
The KL to the reference is part of each token's reward. `trainers.rl.loop` has the rounds, `formulas` the
mathematics, `config` the settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from evals.values.conversation import Prompt
from trainers.reward.reward import Reward
from trainers.rl.config import Algorithm, KLController, PPOConfig
from trainers.rl.loop import Models, Options, train
from trainers.rl.recipe import Recipe

__all__ = ["RECIPE", "KLController", "Models", "Options", "PPOConfig", "train_ppo"]


@dataclass(frozen=True)
class PPO(Recipe):
    algorithm: ClassVar[Algorithm] = Algorithm.PPO


RECIPE = PPO


def train_ppo(
    models: Models,
    prompts: Sequence[Prompt],
    reward: Reward,
    config: PPOConfig,
    out: Path,
    options: Options | None = None,
) -> None:
    """Train `models.policy` and `models.critic` in place, and write to `out`:

    checkpoint-{update}/  the policy at the last `config.checkpoints` save points, Hugging Face format
    critic/               the critic at the end
    metrics.jsonl         a row an update, the same bytes for the same seed; timings.jsonl: seconds
    state-{update}/       while it runs, all that is needed to go on; run.json: settings, whether done

    A run found unfinished in `out` is resumed; a finished one is left as it is, the models too.
    Launched with Accelerate's FSDP or DeepSpeed, models or optimisers stay split over the processes;
    what is written is whole. Raises InputError for settings, prompts or models that can not be trained
    with, UndecidableError when too many responses of an update stay unscored, and SystemExit(143),
    after saving, when SIGTERM came.
    """
    train(PPO(), models, prompts, reward, config, out, options)
