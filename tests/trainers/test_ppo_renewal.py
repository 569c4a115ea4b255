"""Iterated reward-model training: real reward models, trained anew on what the policy says."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ppo_world import eager_to_end, make_critic, make_policy, make_prompts, make_tokenizer, rows_of
from renewal_kills import run_with_kills

from evals.models.load import load_reward_model, save_model
from evals.models.sampling import Decoding
from evals.values.conversation import Comparison
from evals.values.errors import InputError
from evals.values.jsonl_rows import comparison_as_json, write_jsonl
from trainers.models.model_config import Precision
from trainers.models.sizes import new_reward_model
from trainers.reward.reward_model_term import RewardModelTerm
from trainers.rl.ppo import Models, Options, PPOConfig, train_ppo
from trainers.rl.renewal import Renewals, split
from trainers.rl.renewal_config import RenewalConfig
from trainers.rl.reward_model_renewal import (
    LabelPairs,
    Pair,
    RewardModelRenewals,
    accuracy,
    comparisons_from_files,
)
from trainers.supervised.reward_model import train_reward_model
from trainers.supervised.reward_model_config import RewardModelConfig

TOKENIZER, PROMPTS = make_tokenizer(), make_prompts(24, seed=4)


def last_word(text: str) -> int:
    return int((text.split() or ["w0"])[-1].removeprefix("w"))


def by_last_word(update: int, pairs: Sequence[Pair]) -> list[Comparison]:
    """People who prefer the response whose last word has the higher number."""
    ordered = [sorted((one.text, other.text), key=last_word) for one, other in pairs]
    return [Comparison(pair[0].prompt, b, a) for pair, (a, b) in zip(pairs, ordered, strict=True)]


def first_comparisons() -> list[Comparison]:
    """The first people looked at the word w3 alone."""
    return [Comparison(prompt, "w3 w1", "w2 w1") for prompt in PROMPTS * 2]


def train(comparisons: Sequence[Comparison], out: Path) -> None:
    base = out.parent / "base"
    if not base.is_dir():
        save_model(make_policy(2, spread=0.2), TOKENIZER, base)
    config = RewardModelConfig(batch_size=16, epochs=6, learning_rate=5e-3, max_length=40)
    model = new_reward_model(base, TOKENIZER, Precision.FLOAT32, 0)
    train_reward_model(model, TOKENIZER, comparisons, config, 0, out)


def load(folder: Path) -> RewardModelTerm:
    return RewardModelTerm(load_reward_model(folder), TOKENIZER)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reward model that training begins with."""
    folder = tmp_path_factory.mktemp("first") / "model"
    train(first_comparisons(), folder)
    return folder


def renewals(out: Path, first: Path, label: LabelPairs = by_last_word) -> Renewals:
    part = RewardModelRenewals(
        RenewalConfig(every=2, pairs=24),
        PROMPTS,
        first_comparisons(),
        TOKENIZER,
        Decoding(6, 1.0, batch_size=24),
        out,
        label,
        train,
        load,
        first,
    )
    return Renewals([part], lambda folders: load(folders[0] or first))


def run(out: Path, first: Path, label: LabelPairs = by_last_word, reward: Any = None) -> list[dict[str, Any]]:
    policy = eager_to_end()
    settings = PPOConfig(
        updates=5, batch_size=16, max_new_tokens=6, learning_rate=1e-3, critic_learning_rate=1e-3,
        checkpoints=1, save_every=1, micro_batch_size=16,
    )  # fmt: skip
    train_ppo(
        Models(policy, make_critic(), copy.deepcopy(policy), TOKENIZER),
        PROMPTS,
        reward or load(first),
        settings,
        out,
        Options(renewal=renewals(out, first, label)),
    )
    return rows_of(out)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, first: Path) -> Path:
    out = tmp_path_factory.mktemp("unbroken")
    run(out, first)
    return out


@pytest.mark.slow
def test_renewed_models_know_the_new_responses(unbroken: Path) -> None:
    """The new model was not used, or its accuracy was that on what it was trained on."""
    rows = rows_of(unbroken)
    due = [row for row in rows if "renewal/comparisons" in row]
    assert [row["update"] for row in due] == [2, 4]
    assert sorted(f.name for f in (unbroken / "reward_models").iterdir() if f.name.isdigit()) == ["2", "4"]
    assert due[0]["renewal/accuracy_new"] > due[0]["renewal/accuracy_new_before"]
    assert due[0]["renewal/accuracy_new"] > 0.7 and due[0]["renewal/accuracy_old"] > 0.7
    assert rows[2]["objective/score"] != pytest.approx(rows[1]["objective/score"], abs=0.05)


@pytest.mark.slow
def test_a_kill_around_a_renewal_changes_nothing(tmp_path: Path, unbroken: Path, first: Path) -> None:
    """The resumed run was graded by the reward model of the start, or by one of a later update."""
    run_with_kills(partial(run, tmp_path, first), load(first), by_last_word, tmp_path / "reward_models")
    for file in ("metrics.jsonl", "checkpoint-5/model.safetensors", "reward_models/4/model.safetensors"):
        assert (tmp_path / file).read_bytes() == (unbroken / file).read_bytes(), file


@pytest.mark.slow
def test_people_label_between_two_starts(tmp_path: Path, unbroken: Path, first: Path) -> None:
    """The run could not wait for people, or took its pairs back."""
    labels, out = tmp_path / "labels", tmp_path / "run"
    labels.mkdir()
    asked: list[int] = []
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"comparisons-\d\.jsonl.*pairs of responses wait.*start the run again"
        ):
            run(out, first, comparisons_from_files(labels, out))
        (waiting,) = [f for f in out.glob("pairs-*.jsonl") if int(f.stem[6:]) not in asked]
        asked.append(int(waiting.stem[6:]))
        rows = [json.loads(line) for line in waiting.read_text().splitlines()]
        by_text = {tuple(m.content for m in p.messages): p for p in PROMPTS}
        prompts = [by_text[tuple(m["content"] for m in row["prompt"])] for row in rows]
        comparisons = [
            Comparison(prompt, *sorted(row["responses"], key=last_word, reverse=True))
            for prompt, row in zip(prompts, rows, strict=True)
        ]
        write_jsonl(labels / f"comparisons-{asked[-1]}.jsonl", map(comparison_as_json, comparisons))
    run(out, first, comparisons_from_files(labels, out))
    assert asked == [2, 4] and [row["update"] for row in rows_of(out)] == [1, 2, 3, 4, 5]
    assert rows_of(out)[1]["renewal/comparisons"] == rows_of(unbroken)[1]["renewal/comparisons"]


def test_a_policy_that_says_one_thing_renews_nothing(tmp_path: Path, first: Path) -> None:
    """A reward model was trained on nothing, or the run failed."""
    parts = renewals(tmp_path, first, lambda update, pairs: [])
    found = parts.after(2, eager_to_end())
    assert found is not None and found[1] == {"renewal/comparisons": 0}
    assert parts.after(3, eager_to_end()) is None and parts.in_force(9) is None


def test_held_back_comparisons_are_apart() -> None:
    """Accuracy was measured on what the model had been trained on."""
    rows = [Comparison(PROMPTS[0], str(i), "") for i in range(40)]
    train_rows, test_rows = split(rows, 0.25)
    assert len(test_rows) == 10 and not {c.chosen for c in train_rows} & {c.chosen for c in test_rows}
    assert len(train_rows) + len(test_rows) == 40


def test_accuracy_counts_ties_as_half(first: Path) -> None:
    """A model that scores everything alike had an accuracy of 0, and no comparisons gave NaN."""
    term = load(first)
    prompt = PROMPTS[0]
    assert accuracy(term, [Comparison(prompt, "w1", "w1")]) == 0.5
    assert accuracy(term, []) is None
    turned = [Comparison(c.prompt, c.rejected, c.chosen) for c in first_comparisons()]
    right, wrong = accuracy(term, first_comparisons()), accuracy(term, turned)
    assert right is not None and wrong is not None and right > 0.6 and right + wrong == pytest.approx(1.0)


@pytest.mark.parametrize("changes", [{"every": -1}, {"pairs": 2}])
def test_settings_out_of_range_are_refused(changes: dict[str, int]) -> None:
    """Two comparisons trained a reward model."""
    with pytest.raises(InputError, match="renewal"):
        RenewalConfig(**changes)
