"""The formulas of PPO against numbers worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from trainers.rl import formulas

MASK = torch.tensor([[True, True, True], [True, True, False]])


def junk(x: torch.Tensor) -> torch.Tensor:
    """`x` with large values in the padding, which nothing may read."""
    return torch.where(MASK, x, 1e4)


def test_token_log_probs_by_hand() -> None:
    """Temperature divided the probabilities instead of the logits."""
    logits = torch.tensor([[0.0, math.log(3.0)], [math.log(9.0), 0.0]])
    tokens = torch.tensor([1, 1])
    expected = torch.tensor([math.log(0.75), math.log(0.1)])
    assert torch.allclose(formulas.token_log_probs(logits, tokens), expected)
    halved = torch.tensor([math.log(3**0.5 / (1 + 3**0.5)), math.log(0.25)])
    assert torch.allclose(formulas.token_log_probs(logits, tokens, temperature=2.0), halved)


def test_kl_estimates_by_hand() -> None:
    """The sign of the KL was wrong (safe-rlhf issue 173)."""
    log_probs, reference = torch.tensor([math.log(0.5)]), torch.tensor([math.log(0.25)])
    assert formulas.kl_k1(log_probs, reference).item() == pytest.approx(math.log(2))
    assert formulas.kl_k3(log_probs, reference).item() == pytest.approx(0.5 - 1 + math.log(2))


def test_kl_estimates_are_unbiased() -> None:
    """k1 and k3, weighted by the policy's probabilities, must give the true KL divergence."""
    policy, reference = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.2, 0.3, 0.5])
    true = (policy * (policy / reference).log()).sum()
    for estimate in (formulas.kl_k1, formulas.kl_k3):
        assert torch.allclose((policy * estimate(policy.log(), reference.log())).sum(), true)
    assert bool((formulas.kl_k3(policy.log(), reference.log()) >= 0).all())


def test_scores_are_clipped_then_penalised() -> None:
    """A cut response with a high score escaped the missing-EOS penalty through the clip."""
    totals = torch.tensor([25.0, 25.0, -30.0, 1.0])
    finished = torch.tensor([True, False, True, False])
    scores = formulas.bounded_scores(totals, finished, score_clip=10.0, missing_eos_penalty=1.0)
    assert scores.tolist() == [10.0, 9.0, -10.0, 0.0]


def test_score_lands_on_the_last_real_token() -> None:
    """The reward landed on padding (trl issue 3750)."""
    kl = junk(torch.tensor([[0.1, 0.2, 0.3], [0.4, -0.5, 0.0]]))
    rewards = formulas.token_rewards(kl, torch.tensor([1.0, 2.0]), MASK, kl_coef=0.5)
    expected = torch.tensor([[-0.05, -0.10, 0.85], [-0.20, 2.25, 0.0]])
    assert torch.allclose(rewards, expected)


def test_gae_by_hand() -> None:
    """gamma 0.9, lambda 0.5, worked on paper.

    Row 1: deltas 1 + .9*2 - 1 = 1.8, 0 + .9*3 - 2 = .7, 2 + 0 - 3 = -1; advantages backwards -1,
    .7 + .45*-1 = .25, 1.8 + .45*.25 = 1.9125. Row 2 ends one token earlier: deltas 0 + .9*1 - 0 = .9,
    5 + 0 - 1 = 4; advantages 4, .9 + .45*4 = 2.7. A value read in the padding gave row 2 another 4.
    """
    rewards = torch.tensor([[1.0, 0.0, 2.0], [0.0, 5.0, 0.0]])
    values = junk(torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]]))
    advantages, returns = formulas.gae(rewards, values, MASK, gamma=0.9, lam=0.5)
    assert torch.allclose(advantages, torch.tensor([[1.9125, 0.25, -1.0], [2.7, 4.0, 0.0]]))
    assert torch.allclose(returns, torch.tensor([[2.9125, 2.25, 2.0], [2.7, 5.0, 0.0]]))


def test_gae_equals_its_definition() -> None:
    """The recursion against the sum of discounted residuals (arXiv 1506.02438, eq. 16)."""
    generator = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(2, 4, 9, generator=generator, dtype=torch.float64)
    lengths = torch.tensor([9, 1, 5, 8])
    mask = torch.arange(9) < lengths[:, None]
    rewards = torch.where(mask, rewards, 0.0)
    advantages, _ = formulas.gae(rewards, values, mask, gamma=0.97, lam=0.9)
    for row, length in enumerate(lengths.tolist()):
        following = torch.cat([values[row, 1:length], torch.zeros(1, dtype=torch.float64)])
        deltas = rewards[row, :length] + 0.97 * following - values[row, :length]
        for t in range(length):
            weights = (0.97 * 0.9) ** torch.arange(length - t, dtype=torch.float64)
            assert torch.allclose(advantages[row, t], (weights * deltas[t:]).sum())


def test_gae_without_discount_is_the_sum_of_rewards() -> None:
    """gamma = lambda = 1: advantage = rewards to come - value, whatever lies between."""
    rewards, values = torch.tensor([[0.0, 0.0, 3.0], [1.0, 2.0, 0.0]]), torch.full((2, 3), 0.5)
    _, returns = formulas.gae(rewards, values, MASK, 1.0, 1.0)
    assert torch.allclose(returns, torch.tensor([[3.0, 3.0, 3.0], [3.0, 2.0, 0.0]]))


def test_whitening_ignores_padding() -> None:
    """Padding took part in mean and variance (trl issue 6809). Tokens 1..5: mean 3, variance 2.5."""
    x = junk(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 0.0]]))
    expected = torch.tensor([[-2.0, -1.0, 0.0], [1.0, 2.0, 0.0]]) / 2.5**0.5
    assert torch.allclose(formulas.whiten(x, MASK), expected)


def test_whitening_over_processes_equals_one() -> None:
    """Each process whitened its own rows with its own mean."""
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 0.0]])
    partial = iter([torch.tensor(5.0), torch.tensor(15.0), torch.tensor(10.0)])  # count, sum, squares
    first = formulas.whiten(x[:1], MASK[:1], reduce=lambda _: next(partial))
    assert torch.allclose(first, formulas.whiten(x, MASK)[:1])


def test_whitening_of_one_token_is_zero() -> None:
    """A batch of one token divided by zero."""
    assert formulas.whiten(torch.tensor([[4.0]]), torch.tensor([[True]])).tolist() == [[0.0]]


def test_policy_loss_by_hand() -> None:
    """Ratios 1.5, 0.5, 1.5, 0.5 and 1 with advantages 2, 2, -2, -2 and 1, clip 0.2.

    Losses: -2.4 (clipped), -1, 3, 1.6 (clipped), -1: sum 0.2.
    """
    ratios = torch.tensor([[1.5, 0.5, 1.5], [0.5, 1.0, 1.0]])
    advantages = junk(torch.tensor([[2.0, 2.0, -2.0], [-2.0, 1.0, 0.0]]))
    old = torch.full((2, 3), -1.0)
    loss = formulas.policy_loss(junk(old + ratios.log()), old, advantages, MASK, clip=0.2)
    assert loss.total.item() == pytest.approx(0.2, abs=1e-5)
    assert loss.clipped.item() == 2
    assert loss.ratio.item() == pytest.approx(5.0)
    squares = 2 * math.log(1.5) ** 2 + 2 * math.log(0.5) ** 2
    assert loss.approx_kl.item() == pytest.approx(0.5 * squares)


def test_policy_gradient_is_nought_where_clipped() -> None:
    """Clipped tokens kept pushing; padding had a gradient."""
    old = torch.full((2, 3), -1.0)
    ratios = torch.tensor([[1.5, 0.5, 1.5], [0.5, 1.0, 1.0]])
    log_probs = (old + ratios.log()).requires_grad_()
    advantages = torch.tensor([[2.0, 2.0, -2.0], [-2.0, 1.0, 7.0]])
    formulas.policy_loss(log_probs, old, advantages, MASK, clip=0.2).total.backward()
    assert torch.allclose(log_probs.grad, torch.tensor([[0.0, -1.0, 3.0], [0.0, -1.0, 0.0]]))


def test_value_loss_by_hand() -> None:
    """Old values 0, clip 0.2: the larger of clipped and unclipped error, halved.

    Values 1, .1, -1, .5, 0 with returns 2, 1, 1, 0, 3. Unclipped 1, .81, 4, .25, 9; clipped at .2,
    .1, -.2, .2, 0: 3.24, .81, 1.44, .04, 9. Maxima 3.24 + .81 + 4 + .25 + 9 = 17.3; halved 8.65.
    """
    values = junk(torch.tensor([[1.0, 0.1, -1.0], [0.5, 0.0, 0.0]]))
    returns = torch.tensor([[2.0, 1.0, 1.0], [0.0, 3.0, 0.0]])
    loss, clipped = formulas.value_loss(values, torch.zeros(2, 3), returns, MASK, clip=0.2)
    assert loss.item() == pytest.approx(8.65)
    assert clipped.item() == 1


def test_adaptive_kl_by_hand() -> None:
    """The step of the controller is bounded to 20 % of responses / horizon (arXiv 1909.08593)."""
    assert formulas.adapted_kl_coef(0.1, kl=6.6, target=6.0, horizon=640, responses=64) == pytest.approx(
        0.1 * (1 + 0.1 * 0.1)
    )
    assert formulas.adapted_kl_coef(0.1, 60.0, 6.0, 640, 64) == pytest.approx(0.102)
    assert formulas.adapted_kl_coef(0.1, 0.0, 6.0, 640, 64) == pytest.approx(0.098)


def test_learning_rate_by_hand() -> None:
    """The last update had a rate of 0, or the first one the rate of the second."""
    factors = [formulas.learning_rate_factor(u, 4, 0, True) for u in (1, 2, 3, 4)]
    assert factors == [1.0, 0.75, 0.5, 0.25]
    assert [formulas.learning_rate_factor(u, 4, 2, False) for u in (1, 2, 3)] == [0.5, 1.0, 1.0]
    assert formulas.learning_rate_factor(1, 4, 2, True) == 0.5
