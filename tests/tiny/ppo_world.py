"""A vocabulary of a few words, tiny random models and simple rewards, for the PPO tests."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_models import BOS, EOS, PAD, SPECIAL, numbered_words, random_model
from tiny_models import make_tokenizer as tokenizer_of
from transformers import LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from evals.values.conversation import Prompt, Response, user_prompt
from trainers.reward.reward import Breakdown
from trainers.rl.loop import train
from trainers.rl.ppo import PPO, Models, Options, PPOConfig, train_ppo
from trainers.rl.recipe import Recipe

__all__ = ["BOS", "EOS", "PAD"]

CONTENT = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
SIZES = {"max_position_embeddings": 64, "attention_dropout": 0.5}


def make_tokenizer(words: int = 16, pad: str = "<pad>") -> PreTrainedTokenizerFast:
    """Words w0, w1, ... after PAD, BOS, EOS and UNK; a prompt is its words alone."""
    return tokenizer_of(numbered_words(words), CONTENT, pad_token=pad)


def make_policy(seed: int = 0, words: int = 16, spread: float = 0.02, **changes: Any) -> LlamaForCausalLM:
    """A causal model with dropout in its configuration; `spread` is that of its initial weights."""
    settings = SIZES | {"initializer_range": spread} | changes
    return random_model(LlamaForCausalLM, words + len(SPECIAL), seed, **settings)


def eager_to_end(seed: int = 0) -> LlamaForCausalLM:
    """A policy of uneven choices that ends a response every few tokens.

    A constant in the first hidden unit reaches the logit of EOS.
    """
    policy = make_policy(seed, spread=0.2)
    with torch.no_grad():
        policy.model.embed_tokens.weight[:, 0] += 4.0
        policy.lm_head.weight[EOS, 0] = 0.3
    return policy


def make_critic(seed: int = 1, words: int = 16, **changes: Any) -> LlamaForSequenceClassification:
    settings = SIZES | {"num_labels": 1} | changes
    return random_model(LlamaForSequenceClassification, words + len(SPECIAL), seed, **settings)


def make_prompts(count: int = 8, shortest: int = 2, longest: int = 7, seed: int = 0) -> list[Prompt]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(shortest, longest + 1, count)
    return [
        user_prompt(f"p{i}", " ".join(f"w{w}" for w in rng.integers(0, 16, length)))
        for i, length in enumerate(lengths)
    ]


def small_config(**changes: Any) -> PPOConfig:
    """Three updates of eight responses, which learn quickly."""
    sizes = {"updates": 3, "batch_size": 8, "max_new_tokens": 8, "micro_batch_size": 4}
    return PPOConfig(**(sizes | {"learning_rate": 1e-3, "critic_learning_rate": 1e-3} | changes))


def train_small(
    out: Path,
    config: PPOConfig,
    reward: Any = None,
    *,
    prompts: Sequence[Prompt] | None = None,
    options: Options | None = None,
    **models: Any,
) -> list[dict[str, Any]]:
    """Train in `out` the fields of Models that are given, and fresh ones for the others; the rows of metrics."""
    if "policy" not in models:
        models["policy"] = eager_to_end()
    if "critic" not in models:
        models["critic"] = make_critic()
    if "reference" not in models:
        models["reference"] = copy.deepcopy(models["policy"])
    if "tokenizer" not in models:
        models["tokenizer"] = make_tokenizer()
    reward = reward or TextReward(distinct_words)
    train_ppo(Models(**models), prompts or make_prompts(8), reward, config, out, options or Options())
    return rows_of(out)


def rows_of(out: Path, name: str = "metrics") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / f"{name}.jsonl").read_text().splitlines()]


class TextReward:
    """A reward by a function of the response; None from it leaves the response unscored."""

    def __init__(self, score: Callable[[Response], float | None]) -> None:
        self.score = score

    def __call__(self, responses: Sequence[Response]) -> Breakdown:
        scores = [self.score(response) for response in responses]
        total = np.array([np.nan if score is None else score for score in scores], dtype=float)
        reasons = {i: "the grader is away" for i, score in enumerate(scores) if score is None}
        return Breakdown(total, {"text": total}, {"words": total / 2}, reasons)


def distinct_words(response: Response) -> float:
    return len(set(response.text.split())) / 4


class NoisyReward(TextReward):
    """Adds noise from every global random generator: each of them must be resumed."""

    def __init__(self) -> None:
        super().__init__(distinct_words)

    def __call__(self, responses: Sequence[Response]) -> Breakdown:
        total = super().__call__(responses).total
        noise = torch.rand(1).item() + np.random.random() + random.random()
        return Breakdown(total + 0.1 * noise, {"text": total})


def train_noisily(
    out: Path,
    reward: Callable[[Sequence[Response]], Breakdown] | None = None,
    recipe: Recipe | None = None,
    **changes: Any,
) -> None:
    """Twelve updates in `out`, a state after every second: the run that the resume tests interrupt."""
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    policy = eager_to_end()
    settings: dict[str, Any] = {
        "updates": 12,
        "batch_size": 8,
        "max_new_tokens": 6,
        "minibatches": 2,
        "epochs": 2,
        "learning_rate": 1e-3,
        "critic_learning_rate": 1e-3,
        "kl_controller": "adaptive",
        "kl_horizon": 100,
        "checkpoints": 2,
        "save_every": 2,
    }
    recipe = recipe or PPO()
    prompts, reference = make_prompts(11), copy.deepcopy(policy)
    models = Models(policy, make_critic() if recipe.has_critic else None, reference, make_tokenizer())
    train(recipe, models, prompts, reward or NoisyReward(), PPOConfig(**(settings | changes)), out)
