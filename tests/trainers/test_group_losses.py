"""GRPO's and RLOO's gradients beside those of TRL's own loss, on the same made-up round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from ppo_world import PAD, eager_to_end, make_prompts, make_tokenizer, small_config
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from trainers.devices.processes import Processes
from trainers.rl.experience import Experience
from trainers.rl.grpo import GRPO
from trainers.rl.learner import Learner
from trainers.rl.objectives import improve
from trainers.rl.recipe import Recipe
from trainers.rl.rloo import RLOO
from trainers.rl.rollout import Samples, prompt_set, sample
from trainers.rl.token_batch import micro_batches

COUNT, BETA = 8, 0.3


def made_up_round(policy: Any) -> tuple[Samples, Experience]:
    """Responses of `policy`, old and reference log-probabilities apart from its own, an advantage a response."""
    settings = small_config()
    data = prompt_set(make_prompts(COUNT), make_tokenizer(), [policy], settings)
    generator = torch.Generator().manual_seed(3)
    uniforms = torch.rand(COUNT, settings.max_new_tokens, generator=generator)
    samples = sample(policy, make_tokenizer(), data, range(COUNT), settings, uniforms)
    shape = samples.log_probs.shape
    old, reference = (samples.log_probs + 0.2 * torch.randn(shape, generator=generator) for _ in range(2))
    zeros, advantages = torch.zeros(shape), torch.randn(COUNT, 1, generator=generator) * samples.mask
    rows = list(range(COUNT))
    return samples, Experience(rows, samples.mask, old, reference, zeros, zeros, zeros, advantages)


def our_gradients(recipe: Recipe) -> dict[str, torch.Tensor]:
    policy, settings = eager_to_end(), small_config(kl_coef=BETA, epochs=1, max_grad_norm=1e9)
    samples, experience = made_up_round(policy)
    objective: Any = Learner.start(policy, None, settings, Processes(), recipe).policy_objective
    objective.optimizer.step = lambda: None
    objective.optimizer.zero_grad = lambda set_to_none: None
    batches = micro_batches(samples.prompt_ids, samples.tokens, samples.lengths, range(COUNT), 3, PAD)
    improve(objective, [[batches]], experience, settings, Processes())
    return {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}


def trl_gradients(kind: Any, arguments: Any, folder: Path, **more: Any) -> dict[str, torch.Tensor]:
    policy = eager_to_end()
    samples, experience = made_up_round(policy)
    trainer = kind(
        model=policy,
        reward_funcs=lambda prompts, completions, **_: [0.0] * len(completions),
        args=arguments(
            str(folder), use_cpu=True, bf16=False, report_to=[], beta=0.0, per_device_train_batch_size=COUNT,
            num_generations=4, gradient_checkpointing=False, **more,
        ),
        train_dataset=Dataset.from_list([{"prompt": "w1"}] * COUNT),
        processing_class=make_tokenizer(),
    )  # fmt: skip
    trainer.beta, trainer.current_gradient_accumulation_steps = BETA, 1
    longest = max(map(len, samples.prompt_ids))
    left = [[PAD] * (longest - len(ids)) + list(ids) for ids in samples.prompt_ids]
    mask = experience.mask.int()
    inputs = {
        "prompt_ids": torch.tensor(left),
        "prompt_mask": torch.tensor(left).ne(PAD).int(),
        "completion_ids": samples.tokens,
        "completion_mask": mask,
        "advantages": experience.advantages[:, 0],
        "old_per_token_logps": experience.log_probs,
        "old_logps": (experience.log_probs * mask).sum(1),
        "ref_per_token_logps": experience.reference_log_probs,
    }
    model = trainer.model.eval()
    trainer._compute_loss(model, inputs).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("recipe", "theirs"),
    [
        (GRPO(4), (GRPOTrainer, GRPOConfig, {"loss_type": "grpo"})),
        (RLOO(4), (RLOOTrainer, RLOOConfig, {})),
    ],
    ids=["grpo", "rloo"],
)
def test_gradients_are_those_of_trl(tmp_path: Path, recipe: Recipe, theirs: Any) -> None:
    """A mean over tokens for one over responses, a ratio of tokens for one of responses, or the KL twice."""
    kind, arguments, more = theirs
    ours, expected = our_gradients(recipe), trl_gradients(kind, arguments, tmp_path, **more)
    assert ours.keys() == expected.keys() and all(bool(g.any()) for g in ours.values())
    for name, gradient in expected.items():
        assert torch.allclose(ours[name], gradient, rtol=1e-4, atol=1e-6), name
