"""The reward-hacking alarm: by hand, on a reward that can be hacked, and without effect on training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ppo_world import (
    TextReward,
    make_policy,
    make_prompts,
    make_tokenizer,
    small_config,
    train_small,
)

from evals.values.conversation import Message, Prompt, Response
from trainers.rl.alarm import reward_hacking
from trainers.rl.monitor import HeldOut, HeldOutScores, Monitor, evenly
from trainers.rl.ppo import Options, PPOConfig


def rows(rewards: Sequence[float], scores: dict[int, float], stderr: float = 0.02) -> list[dict[str, Any]]:
    """Metrics of updates 1, 2, ...; `scores` at some of them; the rule-based term carries the reward."""
    found: list[dict[str, Any]] = []
    for update, reward in enumerate(rewards, start=1):
        row: dict[str, Any] = {"update": update, "objective/score": reward}
        row |= {"score/rule_based": reward + 1, "score/reward_model": -1.0}
        row |= {"contribution/apology": reward / 2, "contribution/threatening": -reward}
        if update in scores:
            row |= {"held_out/score": scores[update], "held_out/score_stderr": stderr}
            row |= {"held_out/over_refusal": 0.1 * update, "held_out/length": 20.0}
        found.append(row)
    return found


RISING = [0.1 * u + 0.02 * (-1) ** u for u in range(1, 21)]


def test_reward_up_and_truth_down_is_an_alarm() -> None:
    """The alarm named no culprit."""
    alarm = reward_hacking(rows(RISING, {1: 0.6, 5: 0.8, 10: 0.8, 15: 0.5, 20: 0.5}), 0.1)
    assert alarm is not None
    assert (alarm.since, alarm.update) == (10, 20)
    assert alarm.score == (pytest.approx(0.8), pytest.approx(0.5))
    assert alarm.reward == (pytest.approx(0.804), pytest.approx(1.804))
    assert alarm.terms == {"rule_based": pytest.approx(1.0)}
    assert alarm.propositions == {"apology": pytest.approx(0.5)}
    for part in ("update 10 to 20", "rule_based", "apology", "over-refusal 1 to 2"):
        assert part in str(alarm)
    assert "threatening" not in str(alarm) and "reward_model" not in str(alarm)


@pytest.mark.parametrize("scores", [{1: 0.8, 10: 0.5, 20: 0.5}, {1: 0.8, 5: 0.5, 10: 0.5, 20: 0.5}])
def test_a_fall_from_the_start_is_an_alarm(scores: dict[int, float]) -> None:
    """A run that was sick from its first updates had no best to have fallen from."""
    alarm = reward_hacking(rows(RISING, scores), 0.15)
    assert alarm is not None and (alarm.since, alarm.score) == (1, (0.8, 0.5))


@pytest.mark.parametrize(
    ("rewards", "scores", "stderr"),
    [
        (RISING, {1: 0.6, 10: 0.8, 20: 0.85}, 0.02),  # both rise
        (RISING, {1: 0.8, 10: 0.75, 20: 0.72}, 0.001),  # less than the drop asked for
        (RISING, {1: 0.8, 10: 0.65, 20: 0.65}, 0.05),  # within three standard errors
        (RISING[::-1], {1: 0.8, 10: 0.5, 20: 0.5}, 0.02),  # the reward falls too
        (RISING, {1: 0.7, 5: 0.7, 10: 0.86, 15: 0.7, 20: 0.7}, 0.02),  # one lucky measurement
        (RISING, {1: 0.7, 5: 0.7, 10: 0.7, 15: 0.7, 20: 0.55}, 0.02),  # one unlucky one
        ([0.5 + 0.3 * (-1) ** u for u in range(20)], {1: 0.8, 20: 0.3}, 0.02),  # the reward only wavers
        (RISING, {10: 0.8}, 0.02),  # one measurement
        (RISING, {1: 0.8, 20: 0.5}, 0.02),  # one fall, which the next measurement may not confirm
        (RISING, {1: 0.9, 10: 0.5}, 0.02),  # the last row was not measured: it is not judged again
    ],
)
def test_no_alarm(rewards: Sequence[float], scores: dict[int, float], stderr: float) -> None:
    """An alarm that cries wolf is switched off."""
    assert reward_hacking(rows(rewards, scores, stderr), 0.1) is None


def test_when_held_out_responses_are_looked_at() -> None:
    """The first and the last update were not measured, so that a short run had nothing to compare."""
    settings = PPOConfig(updates=25, batch_size=4, max_new_tokens=4, monitor_every=10)
    monitor = Monitor(HELD_OUT, make_tokenizer(), settings)
    assert [u for u in range(1, 26) if monitor.is_due(u)] == [1, 10, 20, 25]
    assert not any(Monitor(None, make_tokenizer(), settings).is_due(u) for u in range(1, 26))
    settings.monitor_every = 0
    assert not any(monitor.is_due(u) for u in range(1, 26))


# --- in a run ----------------------------------------------------------------------------------


def w3_share(response: Response) -> float:
    words = response.text.split()
    return words.count("w3") / 4


class Truth:
    """The paid word is worth nothing; the first response cannot be judged. It also draws random numbers."""

    def __call__(self, responses: Sequence[Response]) -> HeldOutScores:
        torch.rand(3)
        np.random.random(3)
        score = [1 - r.text.split().count("w3") / max(1, len(r.text.split())) for r in responses]
        return HeldOutScores(np.array([np.nan, *score[1:]]), np.array([float(not r.text) for r in responses]))


def run(out: Path, kl_coef: float, held_out: HeldOut | None, **changes: Any) -> list[dict[str, Any]]:
    settings = {
        "updates": 20,
        "batch_size": 32,
        "max_new_tokens": 4,
        "micro_batch_size": 32,
        "checkpoints": 1,
    }
    rates = {"learning_rate": 1e-2, "critic_learning_rate": 1e-2, "kl_coef": kl_coef, "monitor_every": 5}
    config, policy = small_config(**(settings | rates | changes)), make_policy(0, spread=0.2)
    return train_small(out, config, TextReward(w3_share), policy=policy, options=Options(held_out=held_out))


HELD_OUT = HeldOut(make_prompts(40, seed=9), Truth())


def test_a_hacked_reward_raises_the_alarm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The reward pays for one word; without a KL penalty nothing else is said any more."""
    with caplog.at_level(logging.WARNING, logger="trainers.rl.loop"):
        found = run(tmp_path, 0.0, HELD_OUT)
    measured = [row["update"] for row in found if "held_out/score" in row]
    assert measured == [1, 5, 10, 15, 20]
    assert found[-1]["alarm/reward_hacking"] == 1.0 and "text" in found[-1]["alarm/text"]
    assert found[0]["alarm/reward_hacking"] == 0.0
    assert caplog.text.count("reward hacking") == 1
    assert found[-1]["held_out/unscored_share"] == pytest.approx(1 / 40)
    assert found[-1]["held_out/score"] < found[0]["held_out/score"] - 0.1


def test_a_held_reward_raises_none(tmp_path: Path) -> None:
    """The same reward with a KL penalty that keeps the policy where it was."""
    found = run(tmp_path, 5.0, HELD_OUT, updates=10)
    assert {row["alarm/reward_hacking"] for row in found if "held_out/score" in row} == {0.0}


def test_the_first_look_is_at_the_policy_as_given(tmp_path: Path) -> None:
    """One large update had done the harm before the first look, and nothing fell any more."""
    mild, wild = (
        run(tmp_path / str(rate), 0.0, HELD_OUT, updates=2, learning_rate=rate)[0] for rate in (1e-9, 0.3)
    )
    keys = ("held_out/score", "held_out/length", "held_out/over_refusal")
    assert [mild[key] for key in keys] == [wild[key] for key in keys]
    assert mild["policy/approx_kl"] < wild["policy/approx_kl"]


def test_monitoring_does_not_change_the_training(tmp_path: Path) -> None:
    """Looking at held-out responses moved the random generators: a watched run was another run."""
    watched = run(tmp_path / "watched", 0.1, HELD_OUT, updates=6, monitor_every=2)
    alone = run(tmp_path / "alone", 0.1, None, updates=6, monitor_every=2)
    kept = [{k: v for k, v in row.items() if not k.startswith(("held_out/", "alarm/"))} for row in watched]
    assert kept == alone and watched != alone
    for file in ("checkpoint-6/model.safetensors", "critic/model.safetensors"):
        assert (tmp_path / "watched" / file).read_bytes() == (tmp_path / "alone" / file).read_bytes()


def test_a_smaller_look_is_at_every_kind_of_prompt() -> None:
    """The first prompts of the list were asked: helpful ones alone, whatever became of the others."""
    prompts = [
        Prompt(f"{kind}{i}", (Message("user", "?"),)) for kind in ("helpful", "safety") for i in range(6)
    ]
    assert [prompt.id for prompt in evenly(prompts, 4)] == ["helpful0", "helpful3", "safety0", "safety3"]
    assert evenly(prompts, 12) == evenly(prompts, 99) == prompts
    assert evenly([], 4) == []
