"""Sampling, packing and judging of a round's responses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ppo_world import (
    EOS,
    PAD,
    TextReward,
    distinct_words,
    eager_to_end,
    make_critic,
    make_policy,
    make_prompts,
    make_tokenizer,
)
from torch import Tensor

from evals.models.sampling import generate
from evals.values.conversation import user_prompt
from evals.values.errors import InputError, UndecidableError
from trainers.devices.processes import Processes
from trainers.reward.reward import Breakdown
from trainers.rl.config import PPOConfig
from trainers.rl.experience import judge_tokens
from trainers.rl.rollout import PromptSet, Samples, prompt_set, sample, scored_rows
from trainers.rl.token_batch import CriticPass, LanguageModelPass, TokenBatch, micro_batches, token_batch

CONFIG = PPOConfig(updates=1, batch_size=8, max_new_tokens=10, kl_coef=0.1, missing_eos_penalty=1.5)


def draw(config: PPOConfig = CONFIG, policy: torch.nn.Module | None = None, count: int = 8) -> Samples:
    """`count` responses; EOS is likely enough that some end early and some are cut."""
    tokenizer, prompts = make_tokenizer(), make_prompts(count)
    policy = policy if policy is not None else eager_to_end()
    data = prompt_set(prompts, tokenizer, [policy], config)
    uniforms = torch.rand(count, config.max_new_tokens, generator=torch.Generator().manual_seed(5))
    return sample(policy, tokenizer, data, range(count), config, uniforms)


def packed(samples: Samples, rows: range | list[int] | None = None, size: int = 3) -> list[TokenBatch]:
    rows = range(len(samples.lengths)) if rows is None else rows
    return micro_batches(samples.prompt_ids, samples.tokens, samples.lengths, rows, size, PAD)


def judged(
    samples: Samples, breakdown: Breakdown, policy: torch.nn.Module, config: PPOConfig = CONFIG, size: int = 3
) -> tuple:
    rows = [row for row in range(len(samples.lengths)) if row not in breakdown.reasons]
    reference = LanguageModelPass(make_policy(7, spread=0.2), config.temperature)
    critic = CriticPass(make_critic())
    batches = packed(samples, rows, size)
    policy_pass = LanguageModelPass(policy, config.temperature)
    return judge_tokens(samples, breakdown, batches, policy_pass, reference, critic, config.kl_coef, config)


def test_batches_take_every_response_token_once() -> None:
    """An off-by-one paired each token with the wrong prediction, or lost the last."""
    responses = torch.tensor([[11, 12, EOS], [13, PAD, PAD]])
    batch = token_batch([[5, 6], [7, 8, 9]], responses, torch.tensor([3, 1]), [0, 1], PAD)
    assert batch.ids.tolist() == [[5, 6, 11, 12, EOS], [7, 8, 9, 13, PAD]]
    assert batch.predictors.tolist() == [1, 2, 3, 5 + 2]
    assert batch.targets.tolist() == [11, 12, EOS, 13]
    assert batch.mask.tolist() == [[True, True, True], [True, False, False]]
    assert batch.padded(torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist() == [[1, 2, 3], [4, 0, 0]]


def test_batches_are_of_like_length() -> None:
    """Rows in the order of sampling filled the update with padding."""
    samples = draw(count=32)
    batches = packed(samples, size=4)
    assert sorted(row for batch in batches for row in batch.rows.tolist()) == list(range(32))
    widths = [batch.ids.shape[1] for batch in batches]
    assert widths == sorted(widths)
    assert len(set(widths)) > 2


@pytest.mark.parametrize("kind", ["policy", "critic"])
def test_a_row_alone_equals_the_row_in_a_batch(kind: str) -> None:
    """Padding leaked into log-probabilities and values (trl issue 6809)."""
    samples = draw()
    model = LanguageModelPass(eager_to_end(), 0.7) if kind == "policy" else CriticPass(make_critic())

    def run(batch: TokenBatch) -> Tensor:
        return model.log_probs(batch) if isinstance(model, LanguageModelPass) else model.values(batch)

    together = packed(samples, size=8)[0]
    with torch.no_grad():
        joint = run(together)
        for place, row in enumerate(together.rows.tolist()):
            alone = run(packed(samples, [row])[0])
            length = int(samples.lengths[row])
            assert torch.allclose(joint[place, :length], alone[0], atol=1e-5)
            assert bool((joint[place, length:] == 0).all())


def test_critic_value_is_the_reward_models_head_at_each_position() -> None:
    """The critic's value at EOS must be what the same model gives as a reward model."""
    samples, critic = draw(), make_critic()
    batch = packed(samples, [0])[0]
    ids = batch.ids[:, :-1]  # The value before the last token is read at the token before it.
    with torch.no_grad():
        score = critic(input_ids=ids).logits[0, 0]
        assert torch.allclose(CriticPass(critic).values(batch)[0, -1], score, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampled_log_probs_equal_the_training_pass(temperature: float) -> None:
    """Rollout and trainer disagreed (verl issue 2996), or one of them left the temperature out."""
    config = PPOConfig(updates=1, batch_size=8, max_new_tokens=10, temperature=temperature)
    policy = eager_to_end()
    samples = draw(config, policy, count=24)
    assert len(set(samples.lengths.tolist())) > 3
    with torch.no_grad():
        for batch in packed(samples):
            again = LanguageModelPass(policy, temperature).log_probs(batch)
            assert torch.allclose(again, batch.take(samples.log_probs), atol=1e-5)


def test_log_probs_equal_the_whole_models_own() -> None:
    """The backbone and head, called apart, must give the logits of the model; so must the fallback."""
    samples, policy = draw(), eager_to_end()
    apart = LanguageModelPass(policy, 1.0)
    whole = LanguageModelPass(policy, 1.0)
    whole._states = None
    assert apart.splits
    with torch.no_grad():
        for batch in packed(samples):
            assert torch.allclose(apart.log_probs(batch), whole.log_probs(batch), atol=1e-6)


def test_a_model_with_more_than_a_head_is_called_whole() -> None:
    """A soft cap on the logits was skipped."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=20, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, final_logit_softcapping=0.01, pad_token_id=PAD,
    )  # fmt: skip
    assert not LanguageModelPass(Gemma2ForCausalLM(config).eval(), 1.0).splits


def test_rewards_by_hand() -> None:
    """KL on every token, the clipped score on the last, the penalty only where EOS is missing."""
    policy = eager_to_end()
    samples = draw(policy=policy)
    assert 0 < int(samples.finished.sum()) < 8
    breakdown = Breakdown(np.array([0.0, 1, 2, 3, 4, 5, 6, 70]), {})
    experience = judged(samples, breakdown, policy)
    kl = experience.log_probs - experience.reference_log_probs
    for row in range(8):
        length = int(samples.lengths[row])
        expected = -0.1 * kl[row, :length]
        score = min(breakdown.total[row], 10.0) - (0.0 if samples.finished[row] else 1.5)
        expected[-1] += score
        assert torch.allclose(experience.rewards[row, :length], expected, atol=1e-6)
        assert bool((experience.rewards[row, length:] == 0).all())


def test_rewards_carry_no_gradient() -> None:
    """The KL must act through the reward alone, never through the loss as well."""
    policy = eager_to_end()
    samples = draw(policy=policy)
    experience = judged(samples, Breakdown(np.ones(8), {}), policy)
    for name in ("log_probs", "reference_log_probs", "values", "rewards", "returns", "advantages"):
        assert not getattr(experience, name).requires_grad


def test_advantages_are_whitened_over_the_scored_tokens() -> None:
    """Padding, or rows that left the batch, moved the mean."""
    policy = eager_to_end()
    samples = draw(policy=policy)
    breakdown = Breakdown(np.array([1.0, np.nan, 2, 3, 4, 5, 6, 7]), {}, reasons={1: "no answer"})
    experience = judged(samples, breakdown, policy)
    tokens = experience.advantages[experience.mask]
    assert len(tokens) == int(samples.lengths.sum() - samples.lengths[1])
    assert tokens.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert tokens.var().item() == pytest.approx(1.0, abs=1e-4)
    assert bool((experience.advantages[1] == 0).all())


def test_unscored_rows_do_not_touch_the_others() -> None:
    """A failed grade counted as 0 and moved everything (verl issue 4417)."""
    policy, config = (
        eager_to_end(),
        PPOConfig(updates=1, batch_size=8, max_new_tokens=10, whiten_advantages=False),
    )
    samples = draw(config, policy)
    whole = judged(samples, Breakdown(np.arange(8.0), {}), policy, config)
    part = judged(
        samples, Breakdown(np.array([0, 1, np.nan, 3, 4, 5, 6, 7]), {}, reasons={2: "?"}), policy, config
    )
    kept = [0, 1, 3, 4, 5, 6, 7]
    assert torch.allclose(whole.advantages[kept], part.advantages[kept], atol=1e-5)
    assert part.scored == kept


def test_scored_rows_counts_and_gives_the_commonest_reason() -> None:
    """A run with a dead grader trained on nothing and said nothing."""
    total = np.array([1.0, np.nan, np.nan, np.nan])
    breakdown = Breakdown(total, {}, reasons={1: "time-out", 2: "time-out", 3: "no JSON"})
    assert scored_rows(breakdown, 4, 0.75, Processes()) == [0]
    with pytest.raises(UndecidableError, match=r"3 of 4 .*\(2 times\): time-out"):
        scored_rows(breakdown, 4, 0.5, Processes())


def test_no_score_at_all_ends_the_run_whatever_the_limit() -> None:
    """max_unscored 1 divided by a batch of nothing."""
    breakdown = Breakdown(np.array([np.nan]), {}, reasons={0: "down"})
    with pytest.raises(UndecidableError, match="down"):
        scored_rows(breakdown, 1, 1.0, Processes())


@pytest.mark.parametrize(
    ("total", "reasons", "problem"),
    [
        ([1.0, np.nan], {}, "response 1 is nan with reason None"),
        ([1.0, np.inf], {}, "response 1 is inf"),
        ([1.0, 2.0], {0: "lost"}, "response 0 is 1.0 with reason 'lost'"),
        ([1.0], {}, r"shape \(1,\) for 2 responses"),
    ],
)
def test_a_reward_that_breaks_its_contract_is_refused(total: list, reasons: dict, problem: str) -> None:
    """NaN spread through the advantages into every weight."""
    with pytest.raises(InputError, match=problem):
        scored_rows(Breakdown(np.array(total), {}, reasons=reasons), 2, 0.5, Processes())


def test_every_prompt_comes_once_a_pass() -> None:
    """The data's position was lost, or a pass repeated some prompts and left others out."""
    data = PromptSet(make_prompts(7), [[5]] * 7)
    taken = [row for update in range(1, 8) for row in data.rows(update, batch_size=3, seed=4)]
    passes = [taken[0:7], taken[7:14], taken[14:21]]
    assert all(sorted(part) == list(range(7)) for part in passes)
    assert passes[0] != passes[1] != passes[2]
    assert data.rows(2, 3, seed=5) != data.rows(2, 3, seed=4) or data.rows(3, 3, 5) != data.rows(3, 3, 4)
    assert len(data.rows(1, batch_size=20, seed=0)) == 20


def test_pad_that_is_eos_is_refused() -> None:
    """EOS was masked away with the padding and the model never learnt to stop (arXiv 2403.17031)."""
    with pytest.raises(InputError, match="PAD token is missing or is its EOS"):
        prompt_set(make_prompts(2), make_tokenizer(pad="<eos>"), [make_policy()], CONFIG)


@pytest.mark.parametrize(
    ("prompts", "limit", "problem"),
    [
        ([], 10, "no prompts"),
        (make_prompts(1), 64, "context is 64 tokens"),
        ([user_prompt("long", " ".join(["w1"] * 55))], 10, "'long' has 55 tokens"),
    ],
)
def test_what_does_not_fit_is_refused(prompts: list, limit: int, problem: str) -> None:
    """A response limit beyond the context ran into untrained positions without a word."""
    config = PPOConfig(updates=1, batch_size=2, max_new_tokens=limit)
    with pytest.raises(InputError, match=problem):
        prompt_set(prompts, make_tokenizer(), [make_policy()], config)


def test_the_shorter_context_of_the_models_counts() -> None:
    """A critic with a shorter context than the policy's read positions that it does not have."""
    critic = make_critic(max_position_embeddings=12)
    with pytest.raises(InputError, match="room for prompts is 2"):
        prompt_set(make_prompts(4, 3, 7), make_tokenizer(), [make_policy(), critic], CONFIG)


def test_text_and_finish_reach_the_reward() -> None:
    """The grader read special tokens, or a cut response passed for a finished one."""
    samples = draw()
    for response, row, length in zip(
        samples.responses, samples.tokens.tolist(), samples.lengths.tolist(), strict=True
    ):
        assert "<" not in response.text
        assert response.finished == (row[length - 1] == EOS)
    assert len(TextReward(distinct_words)(samples.responses).total) == 8


def test_sampling_loop_leaves_no_inference_tensors() -> None:
    """Tensors of inference mode can not take part in a loss."""
    written = generate(make_policy(), [[5]], max_new_tokens=2, temperature=0.0, stop_ids=[EOS], pad_id=PAD)
    assert not any(getattr(written, name).is_inference() for name in ("tokens", "log_probs", "lengths"))
