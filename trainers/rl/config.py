"""The settings of PPO, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from evals.values.errors import InputError
from evals.values.ranges import NOT_NEGATIVE, POSITIVE, SHARE, check_ranges, whole


class Algorithm(str, Enum):
    """What a policy is trained by; all take the same reward, prompts and settings."""

    PPO = "ppo"
    GRPO = "grpo"
    RLOO = "rloo"
    REINFORCE = "reinforce"


class KLController(str, Enum):
    FIXED = "fixed"
    ADAPTIVE = "adaptive"


class OnLimit(str, Enum):
    """What happens when an update's KL or entropy crosses its limit."""

    STOP = "stop"  # the run ends there
    ROLLBACK = "rollback"  # back to the last state within the limits, and on with twice the kl_coef


@dataclass
class PPOConfig:
    """Defaults after lm-human-preferences and TRL where they agree.

    updates: rollout-and-update rounds. batch_size: responses a round, over all processes.
    epochs, minibatches: passes over a round's responses, optimiser steps a pass.
    micro_batch_size: responses a forward pass; changes memory and speed, never the result.
    max_new_tokens: limit of a response. temperature: of sampling, and of every log-probability.
    learning_rate, critic_learning_rate: of Adam (adam_eps); warmup: updates of linear rise;
    anneal: linear fall to 0 over the run. max_grad_norm: for policy and critic, each its own.
    kl_coef: per nat of the per-token k1 estimate, in the reward and nowhere else; kl_controller
    adaptive moves it towards kl_target nats a response over kl_horizon responses.
    gamma, lam: of GAE. clip, value_clip: ranges. value_coef: weight of the value loss.
    score_clip: bound on a response's score; missing_eos_penalty: taken off it when the limit cut.
    whiten_advantages: over all tokens of the round.
    checkpoints, checkpoint_every: the policies of the last `checkpoints` save points are kept;
    save points lie `checkpoint_every` updates apart, counted back from the last.
    save_every: updates between resumable states (at most this many are lost when killed).
    max_unscored: of a round's responses without a score; above it the run ends.
    stop_kl: ends a round's epochs once approx_kl (nats a token) of an epoch exceeds it; None: never.
    kl_limit, entropy_floor: of a round's samples, in nats a response (objective/kl) and nats a token
    (objective/entropy); on_limit says what happens beyond them. None: no limit.
    monitor_every: updates between two looks at held-out responses (0: none), of monitor_prompts
    prompts; alarm_drop: fall of their score, from 0 to 1, that raises the alarm while the reward rises.
    shared_trunk: the critic is a head on the policy's own trunk, not a model of its own.
    gradient_checkpointing, offload: less memory for more time, never another result; offload keeps
    the reference and the reward's models in main memory while they idle.
    """

    updates: int
    batch_size: int
    max_new_tokens: int
    epochs: int = 4
    minibatches: int = 1
    micro_batch_size: int = 16
    temperature: float = 1.0
    learning_rate: float = 1e-5
    critic_learning_rate: float = 1e-5
    adam_eps: float = 1e-5
    max_grad_norm: float = 1.0
    warmup: int = 0
    anneal: bool = True
    kl_coef: float = 0.05
    kl_controller: KLController = KLController.FIXED
    kl_target: float = 6.0
    kl_horizon: float = 10000.0
    gamma: float = 1.0
    lam: float = 0.95
    clip: float = 0.2
    value_clip: float = 0.2
    value_coef: float = 0.1
    score_clip: float = 10.0
    missing_eos_penalty: float = 1.0
    whiten_advantages: bool = True
    checkpoints: int = 5
    checkpoint_every: int = 1
    save_every: int = 10
    max_unscored: float = 0.1
    stop_kl: float | None = None
    kl_limit: float | None = None
    entropy_floor: float | None = None
    on_limit: OnLimit = OnLimit.STOP
    monitor_every: int = 10
    monitor_prompts: int = 128
    alarm_drop: float = 0.15
    shared_trunk: bool = False
    gradient_checkpointing: bool = False
    offload: bool = False
    seed: int = field(default=0, metadata={"omegaconf_ignore": True})  # the run's; no key of its own

    def __post_init__(self) -> None:
        self.kl_controller = _member(KLController, self.kl_controller, "kl_controller")
        self.on_limit = _member(OnLimit, self.on_limit, "on_limit")
        check_ranges(self, "ppo", _RANGES)
        limits = [n for n in ("stop_kl", "kl_limit", "entropy_floor") if getattr(self, n) is not None]
        check_ranges(self, "ppo", dict.fromkeys(limits, POSITIVE))
        if self.batch_size % self.minibatches:
            raise InputError(
                f"is {self.minibatches}, which does not divide batch_size {self.batch_size}",
                field="ppo.minibatches",
                fix="choose a divisor of batch_size",
            )
        if self.warmup > self.updates:
            raise InputError(
                f"is {self.warmup}, more than the {self.updates} updates", field="ppo.warmup", fix="lower it"
            )

    @property
    def rolls_back(self) -> bool:
        """Whether there is a limit that the run goes back from."""
        has_limits = self.kl_limit is not None or self.entropy_floor is not None
        return has_limits and self.on_limit is OnLimit.ROLLBACK

    @property
    def save_points(self) -> list[int]:
        """The updates after which the policy is written for evaluation, ascending."""
        return [
            self.updates - i * self.checkpoint_every
            for i in reversed(range(self.checkpoints))
            if self.updates - i * self.checkpoint_every > 0
        ]


def check_algorithm(algorithm: Algorithm, config: PPOConfig) -> None:
    """Raises InputError for a setting of PPO that another algorithm would silently leave out.

    What every algorithm but PPO goes without by its nature (a critic, GAE, and for REINFORCE epochs and
    clipping) is not asked for by naming it in a configuration that PPO shares.
    """
    if algorithm is Algorithm.PPO:
        return
    asked = {
        "minibatches": config.minibatches != 1,
        "kl_controller": config.kl_controller is not KLController.FIXED,
        "stop_kl": config.stop_kl is not None,
        "kl_limit": config.kl_limit is not None,
        "entropy_floor": config.entropy_floor is not None,
        "shared_trunk": config.shared_trunk,
        "offload": config.offload,
    }
    for name, is_asked in asked.items():
        if is_asked:
            fix = "leave it out, or take algorithm=ppo"
            raise InputError(f"{algorithm.value} has no such setting", field=f"ppo.{name}", fix=fix)


def check_groups(algorithm: Algorithm, config: PPOConfig, group_size: int) -> None:
    """Raises InputError for what is asked of PPO and would be silently left out here."""
    check_algorithm(algorithm, config)
    if group_size < 2 or config.batch_size % group_size:
        raise InputError(
            f"is {group_size}; groups of it must fill batch_size {config.batch_size}",
            field="group_size",
            fix="choose a divisor of batch_size of at least 2",
        )
    if config.batch_size % min(config.micro_batch_size, config.batch_size):
        raise InputError(
            f"is {config.micro_batch_size}, which does not divide batch_size {config.batch_size}",
            field="ppo.micro_batch_size",
            fix="choose a divisor of batch_size",
        )


Choice = TypeVar("Choice", bound=Enum)


def _member(kind: type[Choice], value: Any, field: str) -> Choice:
    try:
        return kind(value)
    except ValueError:
        names = " or ".join(choice.value for choice in kind)
        raise InputError(f"is {value!r}", field=f"ppo.{field}", fix=f"give {names}") from None


_RANGES = {
    "updates batch_size max_new_tokens epochs minibatches micro_batch_size "
    "checkpoints checkpoint_every save_every monitor_prompts": whole(1),
    "temperature adam_eps max_grad_norm kl_target kl_horizon clip value_clip score_clip": POSITIVE,
    "learning_rate critic_learning_rate kl_coef value_coef missing_eos_penalty": NOT_NEGATIVE,
    "warmup seed monitor_every": whole(0),
    "gamma lam max_unscored alarm_drop": SHARE,
}
