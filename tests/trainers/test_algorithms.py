"""GRPO, RLOO and REINFORCE learn what PPO learns, from the same reward, and refuse what they do not have."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ppo_world import TextReward, eager_to_end, make_policy, make_prompts, make_tokenizer

from evals.models.load import load_causal_lm, save_model
from evals.models.sampling import Decoding, sample_responses
from evals.values.conversation import Response, user_prompt
from evals.values.errors import InputError, UndecidableError
from trainers.models.adapters import add_adapter
from trainers.rl.config import Algorithm, PPOConfig, check_algorithm
from trainers.rl.group_relative import Bounded, metrics_row, train_group_relative
from trainers.rl.monitor import HeldOut, HeldOutScores
from trainers.rl.reinforce import leave_one_out, train_reinforce

WORTH = {"w3": 1.0, "w5": 0.5}


def config(**changes: Any) -> PPOConfig:
    settings: dict[str, Any] = {"updates": 40, "batch_size": 64, "micro_batch_size": 64, "max_new_tokens": 1}
    settings |= {"learning_rate": 1e-2, "kl_coef": 0.25, "missing_eos_penalty": 0.0, "checkpoints": 1}
    return PPOConfig(**(settings | changes))


def worth(response: Response) -> float:
    return WORTH.get(response.text, 0.0)


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


# --- REINFORCE -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_reinforce_reaches_the_known_optimum(tmp_path: Path, seed: int) -> None:
    """The bandit of PPO's test: the best policy is the reference times exp(reward / kl_coef), normalised."""
    policy, tokenizer = make_policy(seed, num_hidden_layers=1), make_tokenizer()
    reference, prompts = copy.deepcopy(policy), make_prompts(8)
    settings = config(updates=120, seed=seed, epochs=1)
    train_reinforce(policy, reference, tokenizer, prompts, TextReward(worth), settings, tmp_path)
    prompt = torch.tensor([tokenizer(prompts[0].text)["input_ids"]])
    with torch.no_grad():
        p, q = (model(prompt).logits[0, -1].softmax(-1) for model in (policy, reference))
    values = torch.zeros(len(p))
    values[tokenizer.convert_tokens_to_ids(list(WORTH))] = torch.tensor(list(WORTH.values()))
    best = (q.log() + values / 0.25).softmax(-1)
    assert (p * (p / best).log()).sum() < 0.05
    found = rows(tmp_path)
    assert [row["update"] for row in found] == list(range(1, 121))
    saved = load_causal_lm(tmp_path / "checkpoint-120")
    assert all(torch.equal(saved.state_dict()[n], p) for n, p in policy.state_dict().items())


def test_the_baseline_is_the_mean_of_the_others() -> None:
    """A baseline that holds the response itself shrinks its own advantage."""
    assert leave_one_out(torch.tensor([1.0, 2.0, 6.0])).tolist() == [-3.0, -1.5, 4.5]
    assert leave_one_out(torch.tensor([3.0])).tolist() == [0.0]


def test_reinforce_leaves_unscored_responses_out(tmp_path: Path) -> None:
    """A failed grade counted as a reward of 0."""
    score = TextReward(lambda r: None if r.prompt.id == "p0" else 1.0)
    policy = make_policy(spread=0.2)
    before = copy.deepcopy(policy.state_dict())
    settings = config(updates=2, kl_coef=0.0, batch_size=8, max_unscored=0.2)
    train_reinforce(
        policy, copy.deepcopy(policy), make_tokenizer(), make_prompts(8), score, settings, tmp_path
    )
    assert all(
        torch.equal(before[n], p) for n, p in policy.state_dict().items()
    )  # equal rewards teach nothing
    assert rows(tmp_path)[0]["reward/unscored_share"] == 0.125
    with pytest.raises(UndecidableError, match="the grader is away"):
        settings = config(updates=1, batch_size=8, max_unscored=0.1)
        train_reinforce(
            policy, copy.deepcopy(policy), make_tokenizer(), make_prompts(8), score, settings, tmp_path / "b"
        )


def test_reinforce_is_watched_and_unchanged_by_it(tmp_path: Path) -> None:
    """monitor_every was taken and no held-out response was ever looked at, so that no alarm could come."""
    prompts, looked = make_prompts(8), 0

    def judge(responses: Sequence[Response]) -> HeldOutScores:
        nonlocal looked
        looked += 1  # The score falls as the reward rises.
        return HeldOutScores(
            np.full(len(responses), 1.0 - looked / 10) + np.arange(len(responses)) / 1000,
            np.zeros(len(responses)),
        )

    settings, policies = config(updates=20, monitor_every=5, alarm_drop=0.1, monitor_prompts=8), []
    for name, held_out in (("watched", HeldOut(prompts, judge)), ("not", None)):
        policy = make_policy(0, num_hidden_layers=1)
        train_reinforce(
            policy, copy.deepcopy(policy), make_tokenizer(), prompts, TextReward(worth), settings,
            tmp_path / name, held_out=held_out,
        )  # fmt: skip
        policies.append(policy)
    found = rows(tmp_path / "watched")
    assert [row["update"] for row in found if "held_out/score" in row] == [1, 5, 10, 15, 20]
    assert found[0]["alarm/reward_hacking"] == 0.0 and found[-1]["alarm/reward_hacking"] == 1.0
    assert all(torch.equal(policies[1].state_dict()[n], p) for n, p in policies[0].state_dict().items())


# --- through TRL -----------------------------------------------------------------------------


def saved_policy(folder: Path) -> Any:
    """From a folder, as TRL wants it: the reference is loaded from there again."""
    save_model(make_policy(0, num_hidden_layers=1), make_tokenizer(), folder)
    return load_causal_lm(folder)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", [Algorithm.GRPO, Algorithm.RLOO])
def test_trl_learns_the_bandit_under_our_names(tmp_path: Path, algorithm: Algorithm) -> None:
    """The reward did not reach TRL, an update was counted once an epoch, or no policy was saved."""
    settings = config(updates=12, epochs=2, kl_coef=0.02, learning_rate=2e-2, monitor_every=0)
    tokenizer, progress = make_tokenizer(), []
    prompts = [user_prompt(f"p{i}", f"w{i} w1") for i in range(16)]
    policy = saved_policy(tmp_path / "start")
    train_group_relative(
        algorithm, policy, tokenizer, prompts, TextReward(worth), settings, tmp_path, progress.append
    )
    found = rows(tmp_path)
    assert [row["update"] for row in found] == list(range(1, 13)) and sum(progress) == 12
    assert found[-1]["objective/score"] > found[0]["objective/score"] + 0.4
    assert found[-1]["score/text"] == pytest.approx(found[-1]["objective/score"], abs=1e-5)
    assert found[-1]["objective/kl"] > 0.2 > abs(found[0]["objective/kl"])
    assert found[0]["response/length"] == 1.0 and all(math.isfinite(row["policy/loss"]) for row in found)
    saved = load_causal_lm(tmp_path / "checkpoint-12")
    prompt = torch.tensor([tokenizer("w0 w1")["input_ids"]])
    with torch.no_grad():
        chosen = int(saved(prompt).logits[0, -1].argmax())
    assert tokenizer.decode([chosen]) == "w3"


@pytest.mark.slow
def test_the_first_look_of_grpo_is_at_the_policy_as_given(tmp_path: Path) -> None:
    """It came after the first update, which may already have done the harm."""
    prompts = [user_prompt(f"p{i}", f"w{i} w1") for i in range(8)]
    looked: list[list[str]] = []

    def judge(responses: Sequence[Response]) -> HeldOutScores:
        looked.append([response.text for response in responses])
        return HeldOutScores(np.array([float(r.text == "w5") for r in responses]), np.zeros(len(responses)))

    policy = saved_policy(tmp_path / "start")
    given = [r.text for r in sample_responses(policy, make_tokenizer(), prompts, Decoding(1, batch_size=8))]
    settings = config(updates=2, batch_size=8, micro_batch_size=8, learning_rate=0.3, monitor_every=1)
    train_group_relative(
        Algorithm.GRPO, policy, make_tokenizer(), prompts, TextReward(worth), settings, tmp_path,
        held_out=HeldOut(prompts, judge),
    )  # fmt: skip
    found = rows(tmp_path)
    assert len(looked) == 2 and looked[0] == given != looked[1]
    assert [row["held_out/score"] for row in found] == [
        np.mean([t == "w5" for t in texts]) for texts in looked
    ]


def test_scores_are_bounded_as_in_ppo() -> None:
    """The same reward was worth more to GRPO than to PPO, and a cut response cost nothing."""
    prompt = make_prompts(1)[0]
    responses = [Response(prompt, "w3"), Response(prompt, "w3", finished=False), Response(prompt, "")]
    reward = TextReward(lambda r: 30.0 if r.text else None)
    breakdown = Bounded(reward, config(score_clip=2.0, missing_eos_penalty=0.5))(responses)
    assert breakdown.total[:2].tolist() == [2.0, 1.5] and math.isnan(breakdown.total[2])
    assert breakdown.terms["text"][0] == 30.0 and breakdown.reasons == {2: "the grader is away"}


def test_rows_have_the_names_of_ppo() -> None:
    """A plot of GRPO was empty, since its metrics had other names; its KL is a mean over tokens."""
    logs = {"reward": 0.5, "kl": 0.1, "completions/mean_length": 20.0, "completions/clipped_ratio": 0.25}
    row = metrics_row(3, logs | {"score/text": 0.4, "step_time": 1.0})
    assert row == {
        "update": 3, "objective/score": 0.5, "response/length": 20.0, "objective/kl": 2.0,
        "response/eos_share": 0.75, "score/text": 0.4,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kl_controller": "adaptive"}, "kl_controller"),
        ({"minibatches": 2}, "minibatches"),
        ({"kl_limit": 5.0}, "kl_limit"),
        ({"stop_kl": 0.1}, "stop_kl"),
        ({"shared_trunk": True}, "shared_trunk"),
    ],
)
@pytest.mark.parametrize("algorithm", [Algorithm.GRPO, Algorithm.RLOO, Algorithm.REINFORCE])
def test_settings_that_an_algorithm_lacks_are_refused(
    changes: dict[str, Any], field: str, algorithm: Algorithm
) -> None:
    """A limit that was set guarded nothing."""
    with pytest.raises(InputError, match=f"{field}.*{algorithm.value} has no such setting"):
        check_algorithm(algorithm, config(**changes))
    check_algorithm(algorithm, config())
    check_algorithm(Algorithm.PPO, config(**changes))


@pytest.mark.parametrize("changes", [{"group_size": 1}, {"group_size": 5}])
def test_groups_fill_the_batch(tmp_path: Path, changes: dict[str, Any]) -> None:
    """TRL's message named a setting that nobody had set."""
    with pytest.raises(InputError, match="group_size"):
        train_group_relative(
            Algorithm.GRPO, eager_to_end(), make_tokenizer(), make_prompts(8), TextReward(worth), config(),
            tmp_path, **changes,
        )  # fmt: skip


def test_adapters_are_trained_by_reinforce_too(tmp_path: Path) -> None:
    """The whole model was trained although an adapter was asked for."""
    policy = add_adapter(make_policy(spread=0.2), 2)
    frozen = {n: p.clone() for n, p in policy.named_parameters() if not p.requires_grad}
    settings = config(updates=3)
    reference = make_policy(spread=0.2)
    train_reinforce(
        policy, reference, make_tokenizer(), make_prompts(8), TextReward(worth), settings, tmp_path
    )
    assert all(torch.equal(frozen[n], dict(policy.named_parameters())[n]) for n in frozen)
    assert any(bool(p.abs().sum() > 0) for n, p in policy.named_parameters() if "lora_B" in n)
