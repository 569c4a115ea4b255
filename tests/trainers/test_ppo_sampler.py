"""A sampler that is not the trainer: its log-probabilities are checked, and corrected for."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from ppo_world import (
    EOS,
    PAD,
    make_policy,
    make_tokenizer,
    small_config,
    train_small,
)
from torch import Tensor

from evals.models.sampling import Generation, generate
from evals.values.errors import InputError
from trainers.rl import formulas
from trainers.rl.ppo import Options, PPOConfig
from trainers.rl.vllm import VLLMSampler, generation


class Elsewhere:
    """A bfloat16 copy of the policy writes, as an inference server would; `weights` None: the present ones."""

    def __init__(self, weights: Any = None) -> None:
        self.weights = weights

    def __call__(
        self, policy: Any, prompts: Sequence[Sequence[int]], config: PPOConfig, uniforms: Tensor
    ) -> Generation:
        return generate(
            copy.deepcopy(self.weights or policy).to(torch.bfloat16),
            prompts,
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            stop_ids=[EOS],
            pad_id=PAD,
            uniforms=uniforms,
            record=True,
        )


def run(out: Path, sampler: Any, **changes: Any) -> list[dict[str, Any]]:
    settings = {"batch_size": 16, "micro_batch_size": 8, "checkpoints": 1} | changes
    return train_small(out, small_config(**settings), options=Options(sampler=sampler))


def test_a_sampler_of_less_precision_is_corrected_for(tmp_path: Path) -> None:
    """The ratio of the first pass was that between two programs, not 1, and clipping ate the difference."""
    found = run(tmp_path, Elsewhere(), epochs=1)
    assert all(1e-4 < row["rollout/log_prob_gap"] < 0.1 for row in found)
    assert all(row["policy/ratio"] == pytest.approx(1.0, abs=1e-5) for row in found)
    assert found[0]["objective/kl"] == pytest.approx(0.0, abs=1e-4)


def test_the_trainer_itself_has_no_gap_to_report(tmp_path: Path) -> None:
    """The default run paid for the check."""
    assert all("rollout/log_prob_gap" not in row for row in run(tmp_path, None))


def test_a_sampler_of_other_weights_ends_the_run(tmp_path: Path) -> None:
    """Weights were never sent to the server, and the run learnt from another model's words."""
    with pytest.raises(InputError, match=r"differ from the trainer's by \d.*present weights"):
        run(tmp_path, Elsewhere(make_policy(7, spread=0.3)))


def test_importance_weights_by_hand() -> None:
    """p_trainer / p_sampler, no more than the cap, and nothing in the padding."""
    trainer = torch.tensor([[0.5, 0.2, 0.9]]).log()
    sampler = torch.tensor([[0.25, 0.4, 0.1]]).log()
    mask = torch.tensor([[True, True, True]])
    assert torch.allclose(
        formulas.importance_weights(trainer, sampler, mask, 2.0), torch.tensor([[2.0, 0.5, 2.0]])
    )
    padded = formulas.importance_weights(trainer, sampler, torch.tensor([[True, False, False]]), 9.0)
    assert torch.allclose(padded, torch.tensor([[2.0, 0.0, 0.0]]))


def test_a_server_s_lists_become_padded_tensors() -> None:
    """A response that the limit cut counted as finished, or padding as tokens."""
    found = generation([[5, EOS], [6, 7, 8]], [[-0.1, -0.2], [-1.0, -2.0, -3.0]], [EOS], PAD, 3, "cpu")
    assert found.tokens.tolist() == [[5, EOS, PAD], [6, 7, 8]]
    assert found.lengths.tolist() == [2, 3] and found.finished.tolist() == [True, False]
    assert torch.allclose(found.log_probs, torch.tensor([[-0.1, -0.2, 0.0], [-1.0, -2.0, -3.0]]))
    for broken in ([5], []):
        with pytest.raises(InputError, match="without a stop token"):
            generation([broken], [[-0.1] * len(broken)], [EOS], PAD, 3, "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="tells what a machine without CUDA says")
def test_no_server_is_one_clear_line() -> None:
    """An ImportError from deep inside ended the run."""
    with pytest.raises(InputError, match="no vLLM server can be used"):
        VLLMSampler("http://127.0.0.1:9", make_tokenizer(), timeout=1.0)


@pytest.mark.gpu
@pytest.mark.skipif("RBRBENCH_VLLM_URL" not in os.environ, reason="set RBRBENCH_VLLM_URL to a trl vllm-serve")
def test_a_vllm_server_agrees_with_the_trainer(tmp_path: Path) -> None:
    """Serve the policy of ppo_world (seed 0, in bfloat16) with `trl vllm-serve` and name the server's address."""
    found = run(tmp_path, VLLMSampler(os.environ["RBRBENCH_VLLM_URL"], make_tokenizer()))
    assert all(row["rollout/log_prob_gap"] < 0.05 for row in found)
