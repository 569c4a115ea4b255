"""Held-out truth beside the reward: every `monitor_every` updates the policy answers held-out prompts.

It answers greedily, so that no random number of the training is used, and someone who does not pay
the reward scores the answers. What is found becomes an alarm in `trainers.ppo_alarm`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.conversation import Prompt, Response
from evals.sampling import Decoding, sample_responses
from trainers.ppo_alarm import LENGTH, OVER_REFUSAL, SCORE, STDERR, UNSCORED_SHARE
from trainers.ppo_checkpoint import random_state, set_random_state
from trainers.ppo_config import PPOConfig
from trainers.processes import Processes


@dataclass(frozen=True)
class HeldOutScores:
    """Scores of responses, [responses] each; NaN is unscored or does not apply.

    score: 0 worst to 1 best, by a judge that pays no reward. over_refusal: 1 where a prompt that
    should be answered is refused, 0 where it is not.
    """

    score: np.ndarray
    over_refusal: np.ndarray


@dataclass(frozen=True)
class HeldOut:
    """Prompts that no training sees, of the kinds that training uses, and who scores the answers."""

    prompts: Sequence[Prompt]
    judge: Callable[[Sequence[Response]], HeldOutScores]


def is_due(update: int, config: PPOConfig) -> bool:
    """In the first update (there before it, see `trainers.ppo`), after every `monitor_every`, and the last."""
    every = config.monitor_every
    return every > 0 and (update in (1, config.updates) or update % every == 0)


def measure_held_out(
    held_out: HeldOut,
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: PPOConfig,
    processes: Processes,
) -> dict[str, float | None]:
    """Mean score with its standard error, over-refusal, length in tokens, unscored share; over all processes.

    Whatever the judge does with the global random generators is undone: monitoring a run does not change it.
    """
    kept = random_state()
    prompts = list(held_out.prompts)[: config.monitor_prompts]
    mine = [prompts[i] for i in processes.share(list(range(len(prompts))))]
    decoding = Decoding(config.max_new_tokens, batch_size=config.batch_size)
    responses = sample_responses(policy, tokenizer, mine, decoding) if mine else []
    scores = held_out.judge(responses) if responses else HeldOutScores(np.zeros(0), np.zeros(0))
    lengths = [len(tokenizer(r.text, add_special_tokens=False)["input_ids"]) for r in responses]
    parts = processes.gather((scores.score.tolist(), scores.over_refusal.tolist(), lengths))
    score, refusal, length = (np.array([x for part in parts for x in part[k]], float) for k in range(3))
    set_random_state(kept)
    known = score[~np.isnan(score)]
    spread = float(known.std(ddof=1) / math.sqrt(len(known))) if len(known) > 1 else None
    return {
        SCORE: _mean(score),
        STDERR: spread,
        OVER_REFUSAL: _mean(refusal),
        LENGTH: _mean(length),
        UNSCORED_SHARE: 1.0 - len(known) / len(score) if len(score) else None,
    }


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
