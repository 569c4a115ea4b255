"""The settings of PPO, which the other algorithms share, and of TRPO's own; checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from evals.values.choice import Choice
from evals.values.errors import InputError
from evals.values.ranges import NOT_NEGATIVE, POSITIVE, SHARE, check_ranges, whole


class Algorithm(Choice):
    """What a policy is trained by; all take the same reward, prompts and settings.

    Each is the file of its name in this folder (`trainers.rl.recipe`).
    """

    PPO = "ppo"
    GRPO = "grpo"
    RLOO = "rloo"
    REINFORCE = "reinforce"
    A2C = "a2c"
    TRPO = "trpo"


class KLController(Choice):
    FIXED = "fixed"
    ADAPTIVE = "adaptive"


class ScoreBaseline(Choice):
    """What is taken off a response's score before the critic sees it; a function of the prompt, so no optimum moves."""

    NONE = "none"
    RESPONSE_TYPE = "response_type"  # the mean score of the round's other responses to prompts of its type


class OnLimit(Choice):
    """What happens when an update's KL or entropy crosses its limit."""

    STOP = "stop"  # the run ends there
    ROLLBACK = "rollback"  # back to the last state within the limits, and on with twice the kl_coef


@dataclass
class PPOConfig:
    """Defaults after lm-human-preferences and TRL where they agree."""

    updates: int  # rounds of rollout and update
    batch_size: int  # responses a round, over all processes
    max_new_tokens: int  # limit of a response
    epochs: int = 4  # passes over a round's responses
    minibatches: int = 1  # optimiser steps a pass
    micro_batch_size: int = 16  # responses a forward pass; changes memory and speed, never the result
    temperature: float = 1.0  # of sampling, and of every log-probability
    learning_rate: float = 1e-5  # of the policy's Adam
    critic_learning_rate: float = 1e-5  # of the critic's
    adam_eps: float = 1e-5  # of both
    max_grad_norm: float = 1.0  # for policy and critic, each its own
    warmup: int = 0  # updates of linear rise
    anneal: bool = True  # linear fall to 0 over the run
    kl_coef: float = 0.05  # per nat of the per-token k1 estimate, in the reward and nowhere else
    kl_controller: KLController = KLController.FIXED  # adaptive moves kl_coef towards kl_target
    kl_target: float = 6.0  # nats a response, of the adaptive controller
    kl_horizon: float = 10000.0  # responses over which it moves
    gamma: float = 1.0  # discount of GAE
    lam: float = 0.95  # lambda of GAE
    clip: float = 0.2  # range of the policy's ratio
    value_clip: float = 0.2  # range of the critic's change
    value_coef: float = 0.1  # weight of the value loss
    score_clip: float = 10.0  # bound on a response's score
    missing_eos_penalty: float = 1.0  # taken off the score where the limit cut the response
    score_baseline: ScoreBaseline = ScoreBaseline.NONE  # response_type: less the round's mean for its type
    whiten_advantages: bool = True  # over all tokens of the round
    checkpoints: int = 5  # last save points whose policies are kept
    checkpoint_every: int = 1  # updates between save points, counted back from the last
    save_every: int = 10  # updates between resumable states; at most this many are lost when killed
    max_unscored: float = 0.1  # share of a round's responses without a score; above it the run ends
    stop_kl: float | None = None  # approx_kl (nats a token) that ends a round's policy epochs; null: never
    kl_limit: float | None = None  # of a round's samples, nats a response (objective/kl); null: no limit
    entropy_floor: float | None = None  # the same, nats a token (objective/entropy)
    on_limit: OnLimit = OnLimit.STOP  # stop or rollback, beyond kl_limit or entropy_floor
    monitor_every: int = 10  # updates between two looks at held-out responses; 0: none
    monitor_prompts: int = 128  # of each look
    alarm_drop: float = 0.15  # fall of their score, of 1, that raises the alarm while the reward rises
    alarm_style: float = 0.2  # fall of a style's held-out share, of 1, that raises the alarm of style
    alarm_gap: float = 0.25  # between payer and judge on one proposition, of 1, that raises the alarm of it
    shared_trunk: bool = False  # the critic is a head on the policy's own trunk, not a model of its own
    gradient_checkpointing: bool = False  # less memory for more time, never another result
    offload: bool = False  # the same: reference and reward's models wait in main memory while idle
    seed: int = field(default=0, metadata={"omegaconf_ignore": True})  # the run's; no key of its own

    def __post_init__(self) -> None:
        self.kl_controller = _member(KLController, self.kl_controller, "kl_controller")
        self.on_limit = _member(OnLimit, self.on_limit, "on_limit")
        self.score_baseline = _member(ScoreBaseline, self.score_baseline, "score_baseline")
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


@dataclass
class TRPOConfig:
    """How far a round of TRPO goes, and how its step is found."""

    max_kl: float = 0.01  # nats a token from the round's old policy, at most
    damping: float = 0.1  # times the identity, added to the Fisher matrix
    conjugate_steps: int = 10  # of conjugate gradient, two backward passes over the round each
    backtracks: int = 10  # step lengths that are tried, each half the last; then the policy stays

    def __post_init__(self) -> None:
        ranges = {"max_kl damping": POSITIVE, "conjugate_steps backtracks": whole(1)}
        check_ranges(self, "trpo", ranges)


Named = TypeVar("Named", bound=Enum)


def _member(kind: type[Named], value: Any, field: str) -> Named:
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
    "gamma lam max_unscored alarm_drop alarm_style alarm_gap": SHARE,
}
