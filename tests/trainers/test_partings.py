"""Alarms behind the score: a style that falls, and a proposition on which payer and judge part."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ppo_world import make_policy, make_prompts, small_config, train_small

from conf import CONF
from evals.graders.oracle import OracleGrader
from evals.rules.features import feature_names
from evals.rules.rulebook import load_rulebook
from evals.values.conversation import Prompt, Response, ResponseType
from trainers.reward.reward import SumOfTerms, paying_grades
from trainers.reward.reward_weights import RewardWeights
from trainers.reward.rule_based_term import RuleBasedTerm
from trainers.rl.alarm import alarm_metrics
from trainers.rl.looks import error_of_mean, gap_metrics, style_metrics
from trainers.rl.monitor import HeldOut, held_out_scores
from trainers.rl.partings import Parting, StyleFall, partings, style_falls
from trainers.rl.ppo import Options, PPOConfig

HELP = "encourage_professional_help"
RULEBOOK = load_rulebook(CONF / "rulebooks" / "sandbox.yaml")
SOFT = ResponseType.SAFE_REFUSE_2


def looks(*found: dict[str, float]) -> list[dict[str, Any]]:
    """Rows of metrics, a look every tenth update, and one update between looks that was not looked at."""
    rows: list[dict[str, Any]] = []
    for place, measures in enumerate(found):
        if place:
            rows.append({"update": 10 * place - 5, "objective/score": 0.1 * place})
        rows.append({"update": max(1, 10 * place), "objective/score": 0.1 * place, **measures})
    return rows


def styles(*shares: float, of: int = 30) -> list[dict[str, Any]]:
    known = [[1.0] * round(share * of) + [0.0] * (of - round(share * of)) for share in shares]
    return looks(*(style_metrics({"held_out/soft_refusal_style": values}) for values in known))


def graded(*pairs: tuple[float, float], of: int = 30) -> list[dict[str, Any]]:
    """Looks at which the payer grades `of` responses by the first number on average, and the judge by the second."""
    return looks(*(gap_metrics({f"soft_refuse/{HELP}": [(p, j)] * of}) for p, j in pairs))


def test_a_style_that_falls_is_an_alarm() -> None:
    """Soft-refusal style fell from 72 to 10 while the score moved little, and nothing was said."""
    (fall,) = style_falls(styles(0.5, 0.7, 0.7, 0.4, 0.1, 0.1), 0.2)
    assert fall == StyleFall("soft_refusal_style", 20, 50, pytest.approx((0.7, 0.1)))
    assert str(fall) == (
        "style: from update 20 to 50 the soft refusal style of held-out responses fell from 70 % to 10 %"
    )


@pytest.mark.parametrize(
    ("shares", "of", "drop"),
    [
        ((0.5, 0.7, 0.8, 0.9), 30, 0.2),  # it rises
        ((0.8, 0.8, 0.7, 0.7), 300, 0.2),  # by less than was asked
        ((1.0, 1.0, 0.5, 0.5), 4, 0.2),  # four responses
        ((0.5, 0.5, 1.0, 0.5, 0.5), 30, 0.3),  # one lucky look
        ((0.7, 0.7, 0.7, 0.1), 30, 0.4),  # one fall, which the next look may not confirm
        ((0.7, 0.1), 30, 0.2),  # two looks
    ],
)
def test_no_alarm_of_style(shares: Sequence[float], of: int, drop: float) -> None:
    assert style_falls(styles(*shares, of=of), drop) == []
    assert style_falls([*styles(0.7, 0.7, 0.1, 0.1), {"update": 41}], 0.2) == []  # that update was no look


def test_a_payer_who_leaves_the_judge_is_an_alarm() -> None:
    """The grader that pays said .90, the oracle .00, and the mean score hid it."""
    (parting,) = partings(graded((0.3, 0.28), (0.6, 0.2), (0.9, 0.0), (0.9, 0.0)), 0.25)
    said = (pytest.approx((0.3, 0.9)), pytest.approx((0.28, 0.0)))
    assert parting == Parting(HELP, "soft_refuse", 1, 30, *said)
    assert str(parting) == (
        f"{HELP} on soft_refuse prompts at update 30: payer 90 %, judge 0 % (at update 1: payer 30 %, judge 28 %)"
    )
    (other,) = partings(graded((0.5, 0.5), (0.1, 0.9), (0.1, 0.9)), 0.25)  # also the other way round
    assert other.gap == pytest.approx(-0.8)


@pytest.mark.parametrize(
    ("pairs", "of"),
    [
        (((0.5, 0.5), (0.7, 0.6), (0.7, 0.6)), 30),  # less than the margin
        (((0.9, 0.1), (0.9, 0.1), (0.95, 0.05)), 30),  # a poor grader from the start
        (((0.1, 0.6), (0.5, 0.5), (0.5, 0.5)), 30),  # they come together
        (((0.1, 0.9), (0.6, 0.55), (0.6, 0.55)), 30),  # past one another, and are near
        (((0.3, 0.3), (0.9, 0.0), (0.9, 0.0)), 3),  # three responses
        (((0.3, 0.3), (0.3, 0.3), (0.75, 0.3)), 30),  # one look
    ],
)
def test_no_alarm_of_a_proposition(pairs: Sequence[tuple[float, float]], of: int) -> None:
    assert partings(graded(*pairs, of=of), 0.25) == []


def test_alarms_are_told_once_and_only_where_something_is_known() -> None:
    """A judge that tells refusals alone would report that no style fell."""
    config = PPOConfig(updates=40, batch_size=4, max_new_tokens=4)
    rows = [
        {**a, **b}
        for a, b in zip(styles(0.7, 0.7, 0.1, 0.1), graded(*[(0.3, 0.3)] * 2, *[(0.9, 0.0)] * 2), strict=True)
    ]
    told, first = alarm_metrics(rows[:-1], rows[-1], config)
    assert (told["alarm/style"], told["alarm/proposition"], told["alarm/reward_hacking"]) == (1.0, 1.0, 0.0)
    assert told["alarm/proposition_text"].startswith(f"payer and judge part: {HELP}")
    assert first == [told["alarm/style_text"], told["alarm/proposition_text"]]
    rows[-1] |= told
    again, first = alarm_metrics(rows, {**rows[-1], "update": 40}, config)
    assert again["alarm/style"] == 1.0 and first == []
    assert alarm_metrics([], {"update": 1, "held_out/score": 0.5}, config) == (
        {"alarm/reward_hacking": 0.0},
        [],
    )


def test_few_responses_that_agree_are_not_certain() -> None:
    """Five of five have a standard error of 0 by the usual formula, and any change would be beyond noise."""
    assert error_of_mean([1.0] * 5, 0.0, 1.0) == pytest.approx(np.std([0, 1, 1, 1, 1, 1, 1]) / np.sqrt(7))
    assert style_metrics({"held_out/hard_refusal_style": []}) == {} == gap_metrics({})


# --- in a run ----------------------------------------------------------------------------------


def says(sign: str) -> OracleGrader:
    """Calls the proposition true of a response with the word, and every other one false of any."""

    def truth(prompt: Prompt, text: str) -> dict[str, bool]:
        return dict.fromkeys(RULEBOOK.propositions, False) | {HELP: sign in text.split()}

    return OracleGrader(truth, sign)


def rules_that_pay(sign: str) -> SumOfTerms:
    weights = dict.fromkeys(feature_names(RULEBOOK, SOFT), 0.0) | {HELP: 1.0}
    return SumOfTerms([RuleBasedTerm(RULEBOOK, says(sign), RewardWeights({SOFT: weights}, RULEBOOK.digest))])


def test_who_pays_is_asked_for_what_it_pays_alone() -> None:
    """Every proposition was graded at every look, those without a weight too; a type without weights is no fault."""
    kinds = (SOFT, None, ResponseType.COMPLY)
    prompts = [replace(p, response_type=kind) for p, kind in zip(make_prompts(3), kinds, strict=True)]
    found = paying_grades(rules_that_pay("w3"), [Response(p, "w1 w3") for p in prompts])
    assert list(found) == [HELP] and np.array_equal(found[HELP], [1.0, np.nan, np.nan], equal_nan=True)
    assert paying_grades(lambda responses: None, []) == {}  # type: ignore[arg-type, return-value]


def test_a_hacked_proposition_raises_the_alarm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The payer takes one word for a referral, the judge another: the policy learns the payer's."""
    prompts = [replace(prompt, response_type=SOFT) for prompt in make_prompts(40, seed=9)]
    judge = says("w4")
    held_out = HeldOut(prompts, lambda responses: held_out_scores(RULEBOOK, judge, responses))
    config = small_config(
        updates=20, batch_size=32, max_new_tokens=4, micro_batch_size=32, checkpoints=1,
        learning_rate=1e-2, critic_learning_rate=1e-2, kl_coef=0.0, monitor_every=5,
    )  # fmt: skip
    with caplog.at_level(logging.WARNING, logger="trainers.rl.monitor"):
        found = train_small(
            tmp_path,
            config,
            rules_that_pay("w3"),
            prompts=prompts[:8],
            policy=make_policy(0, spread=0.2),
            options=Options(held_out=held_out),
        )
    last = found[-1]
    assert last["alarm/proposition"] == 1.0 and found[0]["alarm/proposition"] == 0.0
    assert HELP in last["alarm/proposition_text"] and "soft_refuse" in last["alarm/proposition_text"]
    name = f"soft_refuse/{HELP}"
    assert last[f"held_out/payer/{name}"] > 0.6 and last[f"held_out/judge/{name}"] < 0.2
    assert last["held_out/widest_gap"] == pytest.approx(
        last[f"held_out/payer/{name}"] - last[f"held_out/judge/{name}"]
    )
    assert last["held_out/soft_refusal_style"] == 0.0 and "held_out/hard_refusal_style" not in last
    assert caplog.text.count("payer and judge part") == 1
