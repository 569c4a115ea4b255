"""train_ppo as a whole: invariances, metrics, checkpoints, failures, and learning what is known to be best."""

from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from ppo_world import (
    PAD,
    TextReward,
    eager_to_end,
    make_critic,
    make_policy,
    make_prompts,
    make_tokenizer,
    rows_of,
    small_config,
    train_small,
)

from evals.models.load import load_causal_lm, load_reward_model, load_tokenizer
from evals.values.conversation import Response
from evals.values.errors import InputError, UndecidableError
from trainers.devices.processes import Processes
from trainers.reward.reward import SumOfTerms
from trainers.reward.reward_model_term import RewardModelTerm
from trainers.rl import formulas
from trainers.rl.experience import Experience
from trainers.rl.learner import Learner
from trainers.rl.objectives import improve, minibatch_rows
from trainers.rl.ppo import Options
from trainers.rl.rollout import prompt_set, sample
from trainers.rl.token_batch import micro_batches

# --- the loss --------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_ratio_of_the_first_pass_is_one(tmp_path: Path, temperature: float) -> None:
    """Dropout, or a temperature left out, made the first pass off-policy; models come in training mode."""
    policy, critic = eager_to_end().train(), make_critic().train()
    reference = copy.deepcopy(policy).train()
    settings = small_config(epochs=1, temperature=temperature, updates=1)
    row = train_small(tmp_path, settings, policy=policy, critic=critic, reference=reference)[0]
    assert row["policy/ratio"] == pytest.approx(1.0, abs=1e-5)
    assert row["policy/approx_kl"] < 1e-9
    assert row["policy/clip_fraction"] == row["value/clip_fraction"] == 0.0
    assert row["objective/kl"] == pytest.approx(0.0, abs=1e-4)


def made_up_round(count: int = 8) -> tuple[Learner, Any, Experience]:
    """A learner, its samples, and an experience with uneven advantages, returns and old values."""
    settings, policy = small_config(), eager_to_end()
    data = prompt_set(make_prompts(count), make_tokenizer(), [policy], settings)
    generator = torch.Generator().manual_seed(3)
    uniforms = torch.rand(count, settings.max_new_tokens, generator=generator)
    samples = sample(policy, make_tokenizer(), data, range(count), settings, uniforms)
    old = samples.log_probs + 0.2 * torch.randn(samples.log_probs.shape, generator=generator)
    values, returns, advantages = torch.randn(3, *old.shape, generator=generator)
    experience = Experience(
        list(range(count)), samples.mask, old, old, values, torch.zeros_like(old), returns, advantages
    )
    return Learner.start(policy, make_critic(), settings, Processes()), samples, experience


def gradients(size: int) -> dict[str, torch.Tensor]:
    learner, samples, experience = made_up_round()
    batches = micro_batches(samples.prompt_ids, samples.tokens, samples.lengths, range(8), size, PAD)
    found = {}
    for objective, model in zip(learner.objectives, (learner.policy, learner.critic), strict=True):
        objective.optimizer.step = lambda: None
        objective.optimizer.zero_grad = lambda set_to_none: None
        improve(objective, [[batches]], experience, small_config(epochs=1, max_grad_norm=1e9), Processes())
        found |= {f"{type(model).__name__}.{n}": p.grad for n, p in model.named_parameters()}
    return found


def test_micro_batch_size_does_not_change_gradients() -> None:
    """The loss was divided per micro-batch, so that short rows weighed more (verl pull 6957)."""
    whole = gradients(8)
    assert all(bool(grad.abs().sum() > 0) for grad in whole.values())
    for size in (1, 3):
        parts = gradients(size)
        for name, grad in whole.items():
            assert torch.allclose(parts[name], grad, atol=1e-6), name


def test_the_kl_is_in_the_reward_alone() -> None:
    """A KL term in the loss as well counts twice: without advantages there is nothing to descend."""
    learner, samples, experience = made_up_round()
    elsewhere = experience.log_probs - 3.0
    still = Experience(**(vars(experience) | {"advantages": elsewhere * 0, "reference_log_probs": elsewhere}))
    batches = micro_batches(samples.prompt_ids, samples.tokens, samples.lengths, range(8), 8, PAD)
    objective = learner.policy_objective
    objective.optimizer.step = lambda: None
    objective.optimizer.zero_grad = lambda set_to_none: None
    improve(objective, [[batches]], still, small_config(epochs=1, kl_coef=5.0), Processes())
    assert all(not p.grad.any() for p in learner.policy.parameters())


def test_loss_is_the_mean_over_all_tokens_of_the_formulas() -> None:
    """What the update differentiates must be ppo_math's losses over the whole padded batch."""
    learner, samples, experience = made_up_round()
    batch = micro_batches(samples.prompt_ids, samples.tokens, samples.lengths, range(8), 8, PAD)[0]
    log_probs = learner.policy_objective.language_model.log_probs(batch)
    values = learner.value_objective.critic.values(batch)
    policy = formulas.policy_loss(
        log_probs, batch.take(experience.log_probs), batch.take(experience.advantages), batch.mask, 0.2
    )
    value, _ = formulas.value_loss(
        values, batch.take(experience.values), batch.take(experience.returns), batch.mask, 0.2
    )
    tokens = int(samples.lengths.sum())
    (policy.total / tokens).backward()
    (0.1 * value / tokens).backward()
    found = gradients(4)
    for model in (learner.policy, learner.critic):
        for name, parameter in model.named_parameters():
            assert torch.allclose(found[f"{type(model).__name__}.{name}"], parameter.grad, atol=1e-6), name


def test_minibatches_split_every_epoch() -> None:
    """Some responses were seen twice an epoch and others never."""
    settings = small_config(batch_size=12, minibatches=3, epochs=4)
    epochs = list(minibatch_rows(settings, torch.Generator().manual_seed(0)))
    assert len(epochs) == 4
    for parts in epochs:
        assert [len(part) for part in parts] == [4, 4, 4]
        assert sorted(row for part in parts for row in part) == list(range(12))
    assert epochs[0] != epochs[1]


def test_minibatches_take_more_steps(tmp_path: Path) -> None:
    """Minibatches were accumulated into one step; one without a scored row divided by zero."""
    seen: list[int] = []

    def score(response: Response) -> float | None:
        seen.append(0)
        return None if len(seen) == 1 else 1.0

    settings = small_config(batch_size=4, minibatches=4, updates=1, max_unscored=0.5)
    row = train_small(tmp_path, settings, TextReward(score))[0]
    assert row["policy/ratio"] != pytest.approx(1.0, abs=1e-7)
    assert row["reward/unscored_share"] == 0.25


def test_gradient_norm_is_clipped() -> None:
    """One outlier threw the weights far off: the norm reaching Adam must be 1 at most."""
    learner, samples, experience = made_up_round()
    huge = Experience(**(vars(experience) | {"advantages": experience.advantages * 1e4}))
    batches = micro_batches(samples.prompt_ids, samples.tokens, samples.lengths, range(8), 8, PAD)
    objective, norms = learner.policy_objective, []
    objective.optimizer.step = lambda: norms.append(
        math.sqrt(sum(float(p.grad.square().sum()) for p in learner.policy.parameters()))
    )
    improve(objective, [[batches]], huge, small_config(epochs=1), Processes())
    assert norms == [pytest.approx(1.0, abs=1e-4)]


def test_stop_kl_ends_the_epochs() -> None:
    """The limit on approx_kl was looked at, if at all, only after the last epoch."""
    learner, samples, experience = made_up_round()
    batches = micro_batches(samples.prompt_ids, samples.tokens, samples.lengths, range(8), 8, PAD)
    settings = small_config(epochs=4, stop_kl=1e-6)
    steps: list[int] = []
    learner.policy_objective.optimizer.step = lambda: steps.append(1)
    improve(learner.policy_objective, [[batches]] * 4, experience, settings, Processes())
    assert len(steps) == 1


# --- metrics and files -----------------------------------------------------------------------

NAMES = {
    "update", "objective/kl", "objective/k3", "objective/entropy", "objective/score", "objective/reward",
    "objective/kl_coef", "policy/approx_kl", "policy/clip_fraction", "policy/ratio", "policy/loss",
    "policy/learning_rate", "value/loss", "value/clip_fraction", "value/explained_variance",
    "value/learning_rate", "response/length", "response/eos_share", "reward/unscored_share",
    "score/text", "contribution/words",
}  # fmt: skip
PHASES = ("rollout", "grade", "evaluate", "update", "save")


def test_metrics_have_their_names_and_times_their_own_file(tmp_path: Path) -> None:
    """A metric was renamed, or wall-clock time made two equal runs differ."""
    rows = train_small(tmp_path, small_config())
    assert [row["update"] for row in rows] == [1, 2, 3]
    assert all(set(row) == NAMES for row in rows)
    times = rows_of(tmp_path, "timings")
    expected = {"update"} | {f"time/{p}_s" for p in PHASES} | {f"tokens_per_second/{p}" for p in PHASES}
    assert all(set(row) == expected for row in times)


def test_each_term_of_the_reward_has_its_time(tmp_path: Path) -> None:
    """Grading was one figure, and nobody saw that the reward model took most of it."""
    reward = SumOfTerms([RewardModelTerm(make_critic(3), make_tokenizer())])
    train_small(tmp_path, small_config(updates=1), reward)
    row = rows_of(tmp_path, "timings")[0]
    assert 0 < row["time/reward_model_s"] < row["time/grade_s"]
    assert row["tokens_per_second/reward_model"] > row["tokens_per_second/grade"]


def test_metrics_by_hand(tmp_path: Path) -> None:
    """Means took padding or unscored rows in, or a sum stood where a mean belongs."""
    calls: list[list[Response]] = []

    def score(response: Response) -> float | None:
        return None if response.prompt.id == "p0" else float(len(response.text))

    class Recorded(TextReward):
        def __call__(self, responses: Any) -> Any:
            calls.append(list(responses))
            return super().__call__(responses)

    settings = small_config(updates=1, learning_rate=0.0, critic_learning_rate=0.0, max_unscored=0.2)
    row = train_small(tmp_path, settings, Recorded(score), reference=eager_to_end(seed=9))[0]
    scored = [response for response in calls[0] if response.prompt.id != "p0"]
    mean = sum(len(response.text) for response in scored) / 7
    assert row["objective/score"] == row["score/text"] == pytest.approx(mean)
    assert row["contribution/words"] == pytest.approx(mean / 2)
    assert row["reward/unscored_share"] == pytest.approx(1 / 8)
    assert row["response/eos_share"] == pytest.approx(sum(r.finished for r in calls[0]) / 8)
    clipped = sum(min(len(r.text), 10) - (not r.finished) for r in scored) / 7
    assert row["objective/reward"] == pytest.approx(clipped - 0.05 * row["objective/kl"], abs=1e-4)
    assert row["objective/kl"] != pytest.approx(0.0, abs=1e-3)
    assert row["objective/k3"] > 0


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    """The same seed gave another run (verl issue 3126)."""
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_small(tmp_path / name, small_config(seed=seed, minibatches=2, checkpoints=1))
    files = ("metrics.jsonl", "checkpoint-3/model.safetensors", "critic/model.safetensors")
    for file in files:
        a, b, c = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert a == b != c


def test_checkpoints_of_the_last_save_points(tmp_path: Path) -> None:
    """The wrong five policies were evaluated, or one could not be loaded."""
    policy, critic, seen = eager_to_end(), make_critic(), []
    settings = small_config(updates=7, checkpoints=3, checkpoint_every=2, save_every=2)
    train_small(tmp_path, settings, policy=policy, critic=critic, options=Options(seen.append))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-3", "checkpoint-5", "checkpoint-7", "critic", "metrics.jsonl", "run.json", "timings.jsonl",
    ]  # fmt: skip
    last = load_causal_lm(tmp_path / "checkpoint-7")
    assert all(torch.equal(last.state_dict()[n], p) for n, p in policy.state_dict().items())
    saved = load_reward_model(tmp_path / "critic")
    assert all(torch.equal(saved.state_dict()[n], p) for n, p in critic.state_dict().items())
    assert load_tokenizer(tmp_path / "checkpoint-3").pad_token_id == PAD
    assert sum(seen) == 7


def test_learning_rates_and_kl_coefficient_follow_their_schedules(tmp_path: Path) -> None:
    """The schedule was logged but not used, or moved once an epoch."""
    fixed = train_small(tmp_path / "fixed", small_config(updates=4, warmup=2, learning_rate=1e-3))
    assert [row["policy/learning_rate"] for row in fixed] == pytest.approx([5e-4, 7.5e-4, 5e-4, 2.5e-4])
    assert {row["objective/kl_coef"] for row in fixed} == {0.05}
    settings = small_config(kl_controller="adaptive", kl_target=50.0, kl_horizon=80)
    adaptive = train_small(tmp_path / "adaptive", settings)
    ratios = [b["objective/kl_coef"] / a["objective/kl_coef"] for a, b in itertools.pairwise(adaptive)]
    assert ratios == pytest.approx([0.98, 0.98])


def test_rate_of_zero_leaves_the_policy_as_it_was(tmp_path: Path) -> None:
    """Policy and critic shared an optimiser or a rate."""
    policy, critic = eager_to_end(), make_critic()
    before = copy.deepcopy(policy.state_dict()), copy.deepcopy(critic.state_dict())
    train_small(tmp_path, small_config(learning_rate=0.0), policy=policy, critic=critic)
    assert all(torch.equal(before[0][n], p) for n, p in policy.state_dict().items())
    assert not all(torch.equal(before[1][n], p) for n, p in critic.state_dict().items())


def test_the_reference_stays(tmp_path: Path) -> None:
    """A reference that learns with the policy makes the KL nought."""
    policy = eager_to_end()
    reference = copy.deepcopy(policy)
    rows = train_small(
        tmp_path, small_config(updates=5, learning_rate=1e-2), policy=policy, reference=reference
    )
    original = eager_to_end().state_dict()
    assert all(torch.equal(original[n], p) for n, p in reference.state_dict().items())
    assert rows[-1]["objective/kl"] > 0.01


# --- failures --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"minibatches": 3}, "minibatches"),
        ({"batch_size": 0}, "batch_size"),
        ({"updates": 1.5}, "updates"),
        ({"temperature": 0.0}, "temperature"),
        ({"gamma": 1.1}, "gamma"),
        ({"clip": float("nan")}, "clip"),
        ({"learning_rate": -1e-5}, "learning_rate"),
        ({"kl_controller": "clever"}, "kl_controller"),
        ({"score_baseline": "prompt"}, "score_baseline"),
        ({"max_unscored": 2}, "max_unscored"),
        ({"warmup": 9}, "warmup"),
        ({"stop_kl": 0.0}, "stop_kl"),
        ({"adam_eps": "1e-5"}, "adam_eps"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict, field: str) -> None:
    """A minibatch count that did not divide the batch dropped the rest without a word."""
    with pytest.raises(InputError, match=f"field 'ppo.{field}'"):
        small_config(**changes)


def test_too_many_unscored_end_the_train_small(tmp_path: Path) -> None:
    """A grader that failed on half the batch became half a batch of zeros (verl issue 4417)."""
    score = TextReward(lambda r: None if r.prompt.id in ("p1", "p2") else 1.0)
    with pytest.raises(UndecidableError, match=r"2 of 8 .*the grader is away"):
        train_small(tmp_path, small_config(max_unscored=0.2), score)


def test_a_fault_of_the_grader_now_and_then_is_survived(tmp_path: Path) -> None:
    """One time-out killed the run."""
    rows = train_small(
        tmp_path, small_config(max_unscored=0.2), TextReward(lambda r: None if r.prompt.id == "p1" else 1.0)
    )
    assert [row["reward/unscored_share"] for row in rows] == [0.125] * 3
    assert all(math.isfinite(row["policy/loss"]) for row in rows)


def test_the_policy_as_its_own_reference_is_refused(tmp_path: Path) -> None:
    """The KL was nought for ever."""
    policy = eager_to_end()
    with pytest.raises(InputError, match="reference is the policy itself"):
        train_small(tmp_path, small_config(), policy=policy, reference=policy)


def test_pad_that_is_eos_is_refused(tmp_path: Path) -> None:
    """The policy never learnt to stop (arXiv 2403.17031)."""
    with pytest.raises(InputError, match="PAD"):
        train_small(tmp_path, small_config(), tokenizer=make_tokenizer(pad="<eos>"))


def test_a_folder_of_other_settings_is_refused_and_a_finished_one_left(tmp_path: Path) -> None:
    """A changed setting resumed the old run; a finished run was trained further."""
    train_small(tmp_path, small_config())
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    train_small(tmp_path, small_config())
    assert before == {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(InputError, match="other settings"):
        train_small(tmp_path, small_config(learning_rate=2e-3))
    with pytest.raises(InputError, match="other settings or prompts"):
        train_small(tmp_path, small_config(), prompts=make_prompts(8, seed=2))


# --- learning --------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "baseline"), [*((s, "none") for s in range(5)), (0, "response_type")])
def test_bandit_reaches_its_known_optimum(tmp_path: Path, seed: int, baseline: str) -> None:
    """One token, w3 worth 1 and w5 worth 0.5, KL coefficient 0.25: within 40 updates of 64 responses.

    The best policy is the reference times exp(reward / 0.25), normalised; a KL of the wrong sign,
    scale or direction, or a biased gradient, converges elsewhere.
    """
    tokenizer, prompts = make_tokenizer(), make_prompts(8)
    policy = make_policy(seed, num_hidden_layers=1)
    reference = copy.deepcopy(policy)
    settings = small_config(
        updates=40, batch_size=64, micro_batch_size=64, max_new_tokens=1, learning_rate=1e-2,
        critic_learning_rate=1e-2, kl_coef=0.25, missing_eos_penalty=0.0, seed=seed, checkpoints=1,
        score_baseline=baseline,
    )  # fmt: skip
    worth = {"w3": 1.0, "w5": 0.5}
    critic = make_critic(seed, num_hidden_layers=1)
    train_small(
        tmp_path,
        settings,
        TextReward(lambda r: worth.get(r.text, 0.0)),
        policy=policy,
        reference=reference,
        critic=critic,
    )
    prompt = torch.tensor([tokenizer(prompts[0].text)["input_ids"]])
    with torch.no_grad():
        p, q = (model(prompt).logits[0, -1].softmax(-1) for model in (policy, reference))
    values = torch.zeros(len(p))
    values[tokenizer.convert_tokens_to_ids(["w3", "w5"])] = torch.tensor([1.0, 0.5])
    best = (q.log() + values / 0.25).softmax(-1)
    assert (p * (p / best).log()).sum() < 0.03
    optimum = 0.25 * (q * (values / 0.25).exp()).sum().log()
    reached = (p * values).sum() - 0.25 * (p * (p / q).log()).sum()
    assert reached > 0.97 * optimum


@pytest.mark.parametrize("seed", range(5))
def test_length_target_is_reached(tmp_path: Path, seed: int) -> None:
    """Responses of four words, from about nine: credit must reach back through the tokens to EOS."""
    policy = make_policy(seed, num_hidden_layers=1)
    settings = small_config(
        updates=45, batch_size=64, micro_batch_size=64, max_new_tokens=10, learning_rate=5e-3,
        critic_learning_rate=5e-3, kl_coef=0.0, seed=seed, checkpoints=1,
    )  # fmt: skip
    rows = train_small(
        tmp_path, settings, TextReward(lambda r: -abs(len(r.text.split()) - 4.0)), policy=policy
    )
    assert rows[0]["objective/score"] < -3
    assert sum(row["objective/score"] for row in rows[-5:]) / 5 > -0.6
