"""What an algorithm decides of a round; the rounds themselves are `trainers.rl.loop`'s.

Each algorithm is a file of this folder by its own name in `Algorithm`, with its recipe as RECIPE.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from evals.values.errors import InputError
from trainers.rl import formulas
from trainers.rl.config import Algorithm, KLController, PPOConfig
from trainers.rl.experience import gae_estimate
from trainers.rl.objectives import ClippedObjective, PolicyObjective


@dataclass(frozen=True)
class Recipe:
    """PPO's decisions, which another algorithm has its own of. Fields are settings of its own, by the run's keys."""

    algorithm: ClassVar[Algorithm]
    objective: ClassVar[type[PolicyObjective]] = ClippedObjective
    has_critic: ClassVar[bool] = True
    kl_in_reward: ClassVar[bool] = True  # else the objective has the KL's price
    descends: ClassVar[bool] = True  # the policy takes steps of Adam; else its objective has steps of its own
    epochs: ClassVar[int | None] = None  # passes over a round; None: as many as the settings say
    lacks: ClassVar[frozenset[str]] = frozenset()  # the run's keys that it would silently leave out

    @property
    def responses_a_prompt(self) -> int:
        return 1

    def estimate(
        self, rewards: Tensor, values: Tensor, mask: Tensor, config: PPOConfig, reduce: formulas.Reduce
    ) -> tuple[Tensor, Tensor]:
        """Advantages and returns (`trainers.rl.experience.Estimate`)."""
        return gae_estimate(rewards, values, mask, config, reduce)

    def policy_objective(
        self, model: PreTrainedModel, config: PPOConfig, optimizer: torch.optim.Optimizer | None
    ) -> PolicyObjective:
        assert optimizer is not None
        return self.objective(model, config, optimizer)

    def check(self, config: PPOConfig, processes: int = 1) -> None:
        """Raises InputError for a setting that is asked for and would be left out, or does not go with `processes`.

        What an algorithm goes without by its nature (a critic, GAE, epochs, clipping) is not asked for
        by naming it in settings that PPO shares.
        """
        for key, is_asked in _asked(config).items():
            if is_asked and key in self.lacks:
                raise self.has_no(key)

    def has_no(self, key: str, instead: Algorithm = Algorithm.PPO) -> InputError:
        fix = f"leave it out, or take algorithm={instead.value}"
        return InputError(f"{self.algorithm.value} has no such setting", field=key, fix=fix)

    @property
    def identity(self) -> dict[str, Any]:
        """What a record of a run says of it; nothing of PPO, which is what every record is of by default."""
        if self.algorithm is Algorithm.PPO:
            return {}
        return {"algorithm": self.algorithm.value} | asdict(self)


# Of a critic-free algorithm.
CRITIC_FREE_LACKS = frozenset(
    "ppo.minibatches ppo.kl_controller ppo.stop_kl ppo.kl_limit ppo.entropy_floor ppo.shared_trunk "
    "ppo.offload renewal.every renewal.grader vllm".split()
)


@dataclass(frozen=True)
class Grouped(Recipe):
    """What algorithms have in common that compare a prompt's responses with each other."""

    group_size: int = 8

    has_critic: ClassVar[bool] = False
    lacks: ClassVar[frozenset[str]] = CRITIC_FREE_LACKS

    @property
    def responses_a_prompt(self) -> int:
        return self.group_size

    def in_groups(self, x: Tensor) -> Tensor:
        """[batch] -> [prompts, group]."""
        return x.view(-1, self.group_size)

    def check(self, config: PPOConfig, processes: int = 1) -> None:
        super().check(config, processes)
        if self.group_size < 2 or config.batch_size % self.group_size:
            raise InputError(
                f"is {self.group_size}; groups of it must fill batch_size {config.batch_size}",
                field="group_size",
                fix="choose a divisor of batch_size of at least 2",
            )
        prompts = config.batch_size // self.group_size
        if prompts % processes:
            raise InputError(
                f"makes {prompts} prompts of batch_size {config.batch_size}, and {processes} processes share them",
                field="group_size",
                fix="choose them so that each process has as many whole groups",
            )


def _asked(config: PPOConfig) -> dict[str, bool]:
    return {
        "ppo.minibatches": config.minibatches != 1,
        "ppo.kl_controller": config.kl_controller is not KLController.FIXED,
        "ppo.stop_kl": config.stop_kl is not None,
        "ppo.kl_limit": config.kl_limit is not None,
        "ppo.entropy_floor": config.entropy_floor is not None,
        "ppo.shared_trunk": config.shared_trunk,
        "ppo.offload": config.offload,
        "ppo.gradient_checkpointing": config.gradient_checkpointing,
    }


def module_of(algorithm: Algorithm) -> str:
    return f"trainers.rl.{algorithm.value}"


def recipe_class(algorithm: Algorithm) -> type[Recipe]:
    found: type[Recipe] = import_module(module_of(algorithm)).RECIPE
    return found


def recipe_of(algorithm: Algorithm, settings: object) -> Recipe:
    """The algorithm with its own settings, which are attributes of `settings` by their names."""
    kind = recipe_class(algorithm)
    return kind(**{f.name: getattr(settings, f.name) for f in fields(kind)})


def owner_of(key: str) -> Algorithm:
    """The first algorithm that has a setting of its own by that name."""
    return next(a for a in Algorithm if key in {f.name for f in fields(recipe_class(a))})
