"""A policy that thinks: its answer alone is paid, a thought without one is unscored, and metrics tell them apart."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, save_family
from ppo_world import TextReward, rows_of

from evals.models.load import load_causal_lm, load_tokenizer
from evals.models.sampling import Generation
from evals.models.thoughts import UNENDED
from evals.values.conversation import Message, Prompt, Response
from evals.values.errors import UndecidableError
from trainers.models.model_config import Precision
from trainers.models.sizes import new_reward_model
from trainers.rl.loop import Options
from trainers.rl.ppo import Models, PPOConfig, train_ppo

WRITTEN = (
    "<think>Hm.</think>No.<|im_end|>",
    "<think>Hm",
    "Yes.<|im_end|>",
    "<think>Oh.</think>Oh.<|im_end|>",
)
PROMPTS = [Prompt(f"p{i}", (Message("user", f"Name river {i}."),)) for i in range(4)]


class Fixed:
    """Writes WRITTEN, whatever it is asked."""

    def __init__(self, tokenizer: Any) -> None:
        self.rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in WRITTEN]
        self.end = tokenizer.convert_tokens_to_ids("<|im_end|>")

    def __call__(self, policy: Any, prompts: Sequence[Any], config: PPOConfig, uniforms: Any) -> Generation:
        width = max(map(len, self.rows))
        tokens = torch.tensor([row + [0] * (width - len(row)) for row in self.rows])
        lengths = torch.tensor([len(row) for row in self.rows])
        finished = torch.tensor([row[-1] == self.end for row in self.rows])
        evenly = torch.full((4, width), -math.log(policy.config.vocab_size))  # as an untrained policy writes
        return Generation(tokens, lengths, finished, evenly, torch.zeros(4, width))


def trained(folder: Path, max_unscored: float) -> tuple[list[str], list[dict[str, Any]]]:
    """The texts that were paid for, and the rows of metrics."""
    given = save_family(FAMILIES["Qwen3"], folder / "given")
    policy, tokenizer = load_causal_lm(given), load_tokenizer(given)
    paid: list[str] = []

    def length(response: Response) -> float:
        paid.append(response.text)
        return float(len(response.text))

    reward_model = new_reward_model(given, tokenizer, Precision.FLOAT32, 0)
    models = Models(policy, reward_model, copy.deepcopy(policy), tokenizer)
    config = PPOConfig(
        updates=1, batch_size=4, micro_batch_size=2, max_new_tokens=16, epochs=1, max_unscored=max_unscored
    )
    options = Options(sampler=Fixed(tokenizer))
    train_ppo(models, PROMPTS, TextReward(length), config, folder / "ppo", options)
    return paid, rows_of(folder / "ppo")


def test_the_answer_alone_is_paid_and_counted_apart(tmp_path: Path) -> None:
    """A thought was graded as the answer, and its tokens made responses look long."""
    paid, (row,) = trained(tmp_path, max_unscored=0.3)
    assert sorted(paid) == ["No.", "Oh.", "Yes."]
    assert row["objective/score"] == pytest.approx((3 + 3 + 4) / 3)
    assert row["reward/unscored_share"] == row["response/unanswered"] == 0.25
    marks = 2  # of bytes and marks: <think>Hm.</think>No. and the end
    lengths = [3 + marks + 3 + 1, 1 + 2, 4 + 1, 3 + marks + 3 + 1]
    thoughts = [3 + marks + 1, 3, 0, 3 + marks + 1]
    assert row["response/length"] == pytest.approx(sum(lengths) / 4)
    assert row["response/thought_length"] == pytest.approx(sum(thoughts) / 4)
    assert row["response/answer_length"] == pytest.approx((sum(lengths) - sum(thoughts)) / 4)


def test_too_many_endless_thoughts_end_the_run(tmp_path: Path) -> None:
    """A limit too short for thoughts trained on what was left, and nobody was told why."""
    with pytest.raises(UndecidableError, match=UNENDED):
        trained(tmp_path, max_unscored=0.1)
