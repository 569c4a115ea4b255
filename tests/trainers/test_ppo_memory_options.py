"""Adapters, a shared trunk, gradient checkpointing and offload: less memory, and the training that was asked for."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from ppo_world import (
    PAD,
    TextReward,
    distinct_words,
    eager_to_end,
    make_critic,
    make_policy,
    make_prompts,
    make_tokenizer,
    small_config,
    train_small,
)
from tiny_models import random_model
from transformers import GPT2ForSequenceClassification, GPT2LMHeadModel, LlamaForCausalLM

from evals.models.load import load_causal_lm, load_reward_model
from evals.values.errors import InputError
from trainers.devices.processes import Processes
from trainers.models.adapters import adapter_off, add_adapter, has_adapter, plain_weights
from trainers.models.selected_states import BackboneStates
from trainers.reward.reward import SumOfTerms
from trainers.reward.reward_model_term import RewardModelTerm
from trainers.rl.experience import Experience
from trainers.rl.learner import Learner
from trainers.rl.objectives import improve
from trainers.rl.ppo import PPOConfig
from trainers.rl.rollout import prompt_set, sample
from trainers.rl.token_batch import LanguageModelPass, micro_batches


def config(**changes: Any) -> PPOConfig:
    return small_config(**({"updates": 4, "checkpoints": 1, "save_every": 2} | changes))


class Stopping(TextReward):
    """Fails in the given call of this process."""

    def __init__(self, call: int) -> None:
        super().__init__(distinct_words)
        self.left = call

    def __call__(self, responses: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            raise RuntimeError("crash")
        return super().__call__(responses)


def run(
    out: Path, settings: PPOConfig, policy: Any, critic: Any, reference: Any, reward: Any = None
) -> list[dict[str, Any]]:
    return train_small(out, settings, reward, policy=policy, critic=critic, reference=reference)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(12)[None]).logits


# --- adapters --------------------------------------------------------------------------------


def adapted(rank: int = 4) -> tuple[Any, Any]:
    return add_adapter(eager_to_end(), rank), add_adapter(make_critic(), rank)


def test_the_reference_is_the_base_with_the_adapter_off(tmp_path: Path) -> None:
    """A second copy of the model was kept, or the reference moved with the policy."""
    policy, critic = adapted()
    found = run(tmp_path / "off", config(updates=6, learning_rate=3e-2), policy, critic, None)
    with adapter_off(policy):
        assert torch.equal(logits(policy), logits(eager_to_end()))
    assert not torch.allclose(logits(policy), logits(eager_to_end()), atol=0.1)
    assert found[0]["objective/kl"] == pytest.approx(0.0, abs=1e-4) and found[-1]["objective/kl"] > 0.1
    policy, critic = adapted()
    copied = run(tmp_path / "copy", config(updates=6, learning_rate=3e-2), policy, critic, eager_to_end())
    for row, other in zip(found, copied, strict=True):
        assert row["objective/kl"] == pytest.approx(other["objective/kl"], abs=1e-4)


def like_the_policy(policy: Any, number_type: torch.dtype = torch.float32) -> RewardModelTerm:
    """A reward model whose layers are copies of the policy's, but for the last one."""
    model = make_critic(num_hidden_layers=3, initializer_range=0.2).to(number_type)
    weights = {
        name: value.clone()
        for name, value in plain_weights(policy).items()
        if name.startswith("model.") and ".layers.2." not in name
    }
    assert not model.load_state_dict(weights, strict=False).unexpected_keys
    return RewardModelTerm(model, make_tokenizer())


@pytest.mark.parametrize("number_type", [torch.float32, torch.bfloat16])
def test_a_reward_model_of_the_same_base_shares_the_frozen_layers(
    tmp_path: Path, number_type: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reward model and policy had a copy each of the same frozen layers, and each passed every text through them."""
    rows = found_rows(monkeypatch)
    found, passed = {}, {}
    for name in ("shared", "apart"):
        policy = add_adapter(make_policy(num_hidden_layers=3, spread=0.2).to(number_type), 4, layers=1)
        critic, term = make_critic(num_hidden_layers=3).to(number_type), like_the_policy(policy, number_type)
        if name == "apart":
            monkeypatch.setattr(term, "begin_as", lambda policy, rows: 0)
        rows.clear()
        found[name] = run(
            tmp_path / name, config(shared_trunk=True), policy, critic, None, SumOfTerms([term])
        )
        first, own = policy.base_model.layers[0], term.model.base_model.layers[0]
        assert (first is own) is (name == "shared")
        passed[name] = sum(rows)
    # Four updates of eight responses; the policy has rows of its own where it wrote what no text shows, such as PAD.
    assert passed["apart"] == 32 and 32 <= passed["shared"] <= 48
    for row, other in zip(found["shared"], found["apart"], strict=True):
        for key in ("objective/score", "objective/kl", "value/loss"):
            assert row[key] == pytest.approx(
                other[key], rel=1e-3 if number_type == torch.float32 else 5e-2, abs=1e-4
            )


def found_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by how many rows pass the frozen layers, each time."""
    rows: list[int] = []
    below = BackboneStates._below

    def counted(self: BackboneStates, ids: torch.Tensor) -> torch.Tensor:
        rows.append(len(ids))
        return below(self, ids)

    monkeypatch.setattr(BackboneStates, "_below", counted)
    return rows


def test_a_reward_model_of_another_base_keeps_its_own_layers() -> None:
    """One frozen weight that differs, and its scores would be another model's."""
    policy = add_adapter(make_policy(num_hidden_layers=3, spread=0.2), 4, layers=1)
    term = like_the_policy(policy)
    layers = term.model.base_model.layers
    before = logits(term.model)
    assert term.begin_as(policy, 8) == 2 and torch.equal(logits(term.model), before)
    for change in (
        lambda model: layers_of(model)[1].mlp.up_proj.weight.data[0, 0].add_(1e-4),
        rotated_otherwise,
    ):
        other = like_the_policy(policy)
        change(other.model)
        assert other.begin_as(policy, 8) == 0
        assert layers_of(other.model)[0] is not layers[0]
    whole = add_adapter(make_policy(num_hidden_layers=3, spread=0.2), 4)
    assert like_the_policy(policy).begin_as(whole, 8) == 0


def layers_of(model: Any) -> Any:
    return model.base_model.layers


def rotated_otherwise(model: Any) -> None:
    model.base_model.rotary_emb.inv_freq.mul_(0.5)


def test_only_adapters_and_the_score_head_are_trained() -> None:
    """The frozen trunk had optimiser states, or the critic's head stayed as it was."""
    policy, critic = adapted()
    assert all("lora_" in name for name, p in policy.named_parameters() if p.requires_grad)
    trained = [name for name, p in critic.named_parameters() if p.requires_grad and "lora_" not in name]
    assert trained == ["score.weight"]
    assert not has_adapter(add_adapter(eager_to_end(), 0))


def test_checkpoints_are_plain_models(tmp_path: Path) -> None:
    """What was saved needed peft and the base model to be read again."""
    policy, critic = adapted()
    run(tmp_path, config(learning_rate=3e-2), policy, critic, None)
    assert not any("lora" in name for name in plain_weights(policy))
    saved = load_causal_lm(tmp_path / "checkpoint-4")
    assert torch.allclose(logits(saved), logits(policy), atol=1e-4)
    assert not torch.allclose(logits(saved), logits(eager_to_end()), atol=0.1)
    assert torch.allclose(logits(load_reward_model(tmp_path / "critic")), logits(critic), atol=1e-4)


def test_a_run_with_adapters_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    """Adapters were not part of the saved state."""
    run(tmp_path / "whole", config(), *adapted(), None)
    with pytest.raises(RuntimeError, match="crash"):
        run(tmp_path / "cut", config(), *adapted(), None, Stopping(4))
    run(tmp_path / "cut", config(), *adapted(), None)
    for file in ("metrics.jsonl", "checkpoint-4/model.safetensors", "critic/model.safetensors"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "cut" / file).read_bytes()


def test_no_reference_without_an_adapter_is_refused(tmp_path: Path) -> None:
    """The KL was silently left out."""
    with pytest.raises(InputError, match="no adapter to turn off"):
        run(tmp_path, config(), eager_to_end(), make_critic(), None)


# --- shared trunk ------------------------------------------------------------------------------


def test_a_shared_trunk_is_trained_by_both_losses(tmp_path: Path) -> None:
    """The critic kept a trunk of its own, the first pass was off-policy, or the head did not learn."""
    policy, critic = eager_to_end(), make_critic()
    before, head = logits(policy).clone(), critic.score.weight.detach().clone()
    settings = config(shared_trunk=True, learning_rate=0.0, critic_learning_rate=1e-2)
    found = run(tmp_path, settings, policy, critic, copy.deepcopy(policy))
    assert critic.base_model is policy.base_model
    assert found[0]["policy/ratio"] == pytest.approx(1.0, abs=1e-5)
    assert torch.equal(logits(policy), before) and not torch.equal(critic.score.weight, head)
    assert found[0]["value/learning_rate"] == 1e-2 and found[0]["policy/learning_rate"] == 0.0


def test_a_shared_trunk_learns_and_resumes(tmp_path: Path) -> None:
    """One optimiser was saved twice, or not at all."""
    settings = config(shared_trunk=True, updates=6)

    def models() -> tuple[Any, Any, Any]:
        policy = eager_to_end()
        return policy, make_critic(), copy.deepcopy(policy)

    policy, critic, reference = models()
    head = critic.score.weight.detach().clone()
    run(tmp_path / "whole", settings, policy, critic, reference)
    assert not torch.equal(logits(policy), logits(reference)) and not torch.equal(critic.score.weight, head)
    with pytest.raises(RuntimeError, match="crash"):
        run(tmp_path / "cut", settings, *models(), Stopping(4))
    assert not (tmp_path / "cut" / "state-2" / "critic_optimizer.safetensors").exists()
    run(tmp_path / "cut", settings, *models())
    for file in ("metrics.jsonl", "checkpoint-6/model.safetensors", "critic/model.safetensors"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "cut" / file).read_bytes()


def test_a_shared_trunk_with_an_adapter_keeps_its_reference(tmp_path: Path) -> None:
    """While the adapter was off for the reference, the critic on the same trunk read the base too."""
    policy = add_adapter(eager_to_end(), 4)
    settings = config(shared_trunk=True, learning_rate=1e-2)
    found = run(tmp_path, settings, policy, make_critic(), None)
    assert found[0]["objective/kl"] == pytest.approx(0.0, abs=1e-4)
    assert found[-1]["objective/kl"] > 0.01


def test_trunks_of_another_width_are_refused(tmp_path: Path) -> None:
    """The score head failed on a matrix product."""
    policy = eager_to_end()
    with pytest.raises(InputError, match="shared_trunk.*width 32.*width 64"):
        run(tmp_path, config(shared_trunk=True), policy, make_critic(hidden_size=64), copy.deepcopy(policy))


# --- gradient checkpointing and offload --------------------------------------------------------


def gpt2() -> tuple[Any, Any]:
    """A family that is called whole, with dropout at every place GPT-2 has one."""
    dropouts = dict.fromkeys(("attn_pdrop", "resid_pdrop", "embd_pdrop"), 0.5)
    settings = {"max_position_embeddings": 64, "num_labels": 1} | dropouts
    kinds = (GPT2LMHeadModel, GPT2ForSequenceClassification)
    policy, critic = (random_model(kind, 20, **settings) for kind in kinds)
    return policy, critic


def gradients(models: tuple[Any, Any], checkpointing: bool) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients of both losses over one made-up round, and the bytes kept for the backward pass."""
    policy, critic = models
    settings = config(gradient_checkpointing=checkpointing, epochs=1, max_grad_norm=1e9)
    data = prompt_set(make_prompts(8), make_tokenizer(), [policy], settings)
    generator = torch.Generator().manual_seed(3)
    uniforms = torch.rand(8, settings.max_new_tokens, generator=generator)
    samples = sample(policy, make_tokenizer(), data, range(8), settings, uniforms)
    old = samples.log_probs
    values, returns, advantages = torch.randn(3, *old.shape, generator=generator)
    experience = Experience(list(range(8)), samples.mask, old, old, values, old * 0, returns, advantages)
    learner = Learner.start(policy, critic, settings, Processes())
    batches = micro_batches(samples.prompt_ids, samples.tokens, samples.lengths, range(8), 8, PAD)
    kept = [0]

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[0] += tensor.numel() * tensor.element_size()
        return tensor

    found = {}
    for name, objective, model in zip("ab", learner.objectives, models, strict=True):
        objective.optimizer.step = lambda: None
        objective.optimizer.zero_grad = lambda set_to_none: None
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            improve(objective, [[batches]], experience, settings, Processes())
        found |= {f"{name}.{n}": p.grad for n, p in model.named_parameters()}
    return found, kept[0]


class Capped(LlamaForCausalLM):
    """More than a trunk and a head, so that it is called whole."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = torch.tanh(output.logits)
        return output


def capped() -> tuple[Any, Any]:
    policy = eager_to_end()
    policy.__class__ = Capped
    assert not LanguageModelPass(policy, 1.0).splits
    return policy, make_critic()


@pytest.mark.parametrize(
    "make", [lambda: (eager_to_end(), make_critic()), gpt2, capped], ids=["llama", "gpt2", "capped"]
)
def test_checkpointing_keeps_less_and_changes_no_gradient(make: Any) -> None:
    """transformers checkpoints in training mode alone, where dropout made the update off-policy."""
    plain, kept = gradients(make(), False)
    again, kept_less = gradients(make(), True)
    assert kept_less < 0.7 * kept
    for name, grad in plain.items():
        assert (grad is None) == (again[name] is None)
        assert grad is None or torch.allclose(again[name], grad, atol=1e-6), name


def test_options_that_save_memory_do_not_change_the_run(tmp_path: Path) -> None:
    """Offloading left a model behind, or a recomputed pass differed."""
    rows = {}
    for name, changes in {"plain": {}, "saving": {"offload": True, "gradient_checkpointing": True}}.items():
        policy = eager_to_end()
        reference = copy.deepcopy(policy)
        rows[name] = run(tmp_path / name, config(**changes), policy, make_critic(), reference)
    for row, other in zip(rows["plain"], rows["saving"], strict=True):
        assert row == pytest.approx(other, abs=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_offloaded_models_are_in_main_memory_while_they_idle(tmp_path: Path) -> None:
    """The reference stayed on the device."""
    policy, critic = eager_to_end().cuda(), make_critic().cuda()
    reference = copy.deepcopy(policy)
    run(tmp_path, config(offload=True), policy, critic, reference)
    assert reference.device.type == "cpu" and policy.device.type == "cuda"
