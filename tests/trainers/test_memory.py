"""The memory estimate, against a real model's own count and by hand."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import random_model
from transformers import LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from harness.keys.run import compose_run
from trainers.rl.config import PPOConfig
from trainers.rl.memory import GIB, Architecture, MemoryEstimate, ppo_memory, run_memory

# The published shape of Qwen2.5-1.5B (1.54 B parameters).
QWEN_1_5B = Architecture(width=1536, inner=8960, layers=28, key_values=256, vocabulary=151936)


def llama() -> LlamaForCausalLM:
    sizes = {"intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    return random_model(LlamaForCausalLM, 100, num_key_value_heads=2, tie_word_embeddings=True, **sizes)


def test_parameters_are_those_of_a_real_model() -> None:
    counted = sum(p.numel() for p in llama().parameters())
    assert Architecture(32, 48, 3, 16, 100).parameters == counted


def test_a_run_is_estimated_from_its_policy() -> None:
    """docs/ppo.md told users to estimate, and no command did."""
    policy = llama()
    assert Architecture.of(policy.config) == Architecture(32, 48, 3, 16, 100)
    policy.lm_head.weight.requires_grad_(False)
    settings = PPOConfig(updates=1, batch_size=8, micro_batch_size=2, max_new_tokens=5, offload=True)
    expected = ppo_memory(
        Architecture(32, 48, 3, 16, 100),
        bytes_per_value=4,
        trained_share=1.0 - 3200 / sum(p.numel() for p in policy.parameters()),
        batch_size=8,
        micro_batch_size=2,
        prompt_tokens=7,
        response_tokens=5,
        offload=True,
    )
    assert run_memory(policy, [[1] * 3, [1] * 7], settings) == expected
    assert str(expected).startswith("0.0 GiB (trained 0.0, frozen")


def test_an_algorithm_without_a_critic_has_none_in_memory() -> None:
    """GRPO was told to need half as much again as it takes."""
    settings = PPOConfig(updates=1, batch_size=8, micro_batch_size=2, max_new_tokens=5)
    with_one, without = (run_memory(llama(), [[1] * 7], settings, critic) for critic in (True, False))
    assert with_one.trained == 2 * without.trained
    assert (with_one.frozen, with_one.activations) == (without.frozen, without.activations)


def test_qwen_has_its_published_size() -> None:
    assert abs(QWEN_1_5B.parameters / 1.54e9 - 1) < 0.01


def test_estimate_against_hand_worked_numbers() -> None:
    tiny = Architecture(width=2, inner=4, layers=1, key_values=2, vocabulary=10)
    assert tiny.parameters == 2 * 4 + 2 * 4 + 3 * 8 + 4 + 20 + 2
    estimate = ppo_memory(
        tiny,
        bytes_per_value=4,
        trained_share=1.0,
        batch_size=3,
        micro_batch_size=1,
        prompt_tokens=2,
        response_tokens=2,
    )
    assert estimate.trained == 2 * (4 + 4 + 8) * 66
    assert estimate.frozen == 3 * 66 * 4
    assert estimate.cache == 2 * 4 * 3 * 4 * 1 * 2
    assert estimate.activations == 34 * 4 * 2 // 2 * 4 + 2 * 4 * 2 * 10


def test_options_save_what_they_say() -> None:
    """An option whose saving was not counted made a run look too large for its machine."""
    tiny = Architecture(width=2, inner=4, layers=3, key_values=2, vocabulary=10)
    n = tiny.parameters

    def estimate(**changes: Any) -> MemoryEstimate:
        sizes = {"batch_size": 8, "micro_batch_size": 1, "prompt_tokens": 2, "response_tokens": 2}
        return ppo_memory(tiny, **({"bytes_per_value": 2, "trained_share": 1.0} | sizes | changes))

    plain = estimate()
    assert plain.trained == 2 * (2 + 4 + 12) * n  # weights, gradients, masters and moments
    assert estimate(processes=4).trained == plain.trained and estimate(processes=4).cache == plain.cache // 4
    assert estimate(shared_trunk=True).trained == plain.trained // 2
    assert estimate(offload=True).frozen == 2 * n == plain.frozen // 3
    assert estimate(trained_share=0.5).trained == 2 * (2 + 8) * n
    assert estimate(trained_share=0.5).frozen == 2 * 2 * n  # the reference is the policy itself
    logits = 2 * 4 * 2 * 10
    assert estimate(gradient_checkpointing=True).activations == 4 * 2 * 3 * 2 + 34 * 4 * 2 // 2 * 2 + logits


def test_stages_of_zero_against_the_paper() -> None:
    """Figure 1 of arXiv 1910.02054: 7.5 B parameters over 64 devices, 2 + 2 + 12 bytes each; here gradients have 4."""
    seven = Architecture(width=2, inner=4, layers=1, key_values=2, vocabulary=10)
    n = seven.parameters
    sizes = {"batch_size": 8, "micro_batch_size": 1, "prompt_tokens": 2, "response_tokens": 2}

    def of_one_model(stage: int) -> float:
        found = ppo_memory(
            seven, bytes_per_value=2, trained_share=1.0, processes=64, zero_stage=stage, **sizes
        )
        return found.trained / 2 / n

    bytes_each = [of_one_model(stage) for stage in range(4)]
    assert bytes_each == pytest.approx([18, 2 + 4 + 12 / 64, 2 + 16 / 64, 18 / 64], rel=1e-2)
    whole = ppo_memory(seven, bytes_per_value=4, trained_share=1.0, processes=64, zero_stage=2, **sizes)
    assert whole.trained / 2 / n == pytest.approx(4 + 16 / 64, rel=1e-2)  # masters of float32 weights too
    split = ppo_memory(seven, bytes_per_value=2, trained_share=1.0, processes=4, zero_stage=3, **sizes)
    assert split.frozen == pytest.approx(3 * 2 * n / 4, abs=1) and split.gathered == 2 * 2 * n


def test_the_sizes_that_the_page_names_fit() -> None:
    """docs/ppo.md says which model fits a device of 80 GB, whole and with adapters."""
    three = Architecture(width=2048, inner=11008, layers=36, key_values=256, vocabulary=151936)  # Qwen2.5-3B
    seven = Architecture(4096, 11008, 32, 4096, 32000, tied=False)  # Llama-2-7B
    assert abs(three.parameters / 3.09e9 - 1) < 0.01 and abs(seven.parameters / 6.74e9 - 1) < 0.01
    sizes = {"batch_size": 64, "micro_batch_size": 1, "prompt_tokens": 512, "response_tokens": 512}
    saving = {"shared_trunk": True, "gradient_checkpointing": True, "offload": True, "processes": 8}
    whole = ppo_memory(three, bytes_per_value=2, trained_share=1.0, **sizes, **saving)
    adapted = ppo_memory(seven, bytes_per_value=2, trained_share=0.01, **sizes, **saving)
    too_much = ppo_memory(seven, bytes_per_value=2, trained_share=1.0, **sizes, **saving)
    apart = {"gradient_checkpointing": True, "processes": 8, "bytes_per_value": 2, "trained_share": 1.0}
    for model, expected in ((three, [150, 76, 51, 34]), (seven, [331, 168, 114, 77])):
        stages = [ppo_memory(model, zero_stage=stage, **sizes, **apart).total / 1e9 for stage in range(4)]
        assert [round(size) for size in stages] == expected
    assert whole.total < 80e9 and adapted.total < 80e9 < too_much.total, f"{whole}; {adapted}; {too_much}"


def test_gpu_experiment_fits_one_h200() -> None:
    """An experiment file that cannot fit the machine it is for would be found out only there."""
    config = compose_run(["experiment=gpu", "data.root=."])
    estimate = ppo_memory(
        QWEN_1_5B,
        bytes_per_value=2,
        trained_share=1.0,
        batch_size=config.ppo.batch_size,
        micro_batch_size=config.ppo.micro_batch_size,
        prompt_tokens=config.real.context - config.ppo.max_new_tokens,
        response_tokens=config.ppo.max_new_tokens,
    )
    assert 20 * GIB < estimate.total < 139 * GIB, str(estimate)


def test_model_class_of_the_gpu_experiment_is_one_that_loads() -> None:
    config = Qwen2Config(
        vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    assert Qwen2ForCausalLM(config).config.model_type == "qwen2"
