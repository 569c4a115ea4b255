"""Graders renewed on labelled responses of the policy, within a budget of labels."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ppo_world import TextReward, eager_to_end, make_critic, make_prompts, make_tokenizer, rows_of
from renewal_kills import run_with_kills

from evals.models.sampling import Decoding
from evals.rules.propositions import Proposition
from evals.values.conversation import LabelledResponse, Response
from evals.values.errors import InputError
from evals.values.grades import Grades
from evals.values.jsonl_rows import labelled_as_json, read_labelled, write_jsonl
from trainers.reward.reward import Reward
from trainers.rl.grader_renewal import GraderRenewals, LabelResponses, accuracies, graded_labels_from_files
from trainers.rl.ppo import Models, Options, PPOConfig, train_ppo
from trainers.rl.renewal import Renewals
from trainers.rl.renewal_config import GraderRenewalConfig

TOKENIZER, PROMPTS = make_tokenizer(), make_prompts(24, seed=4)
EVEN = Proposition("even", "is the last word even ?")


def is_even(text: str) -> bool:
    return int((text.split() or ["w1"])[-1].removeprefix("w")) % 2 == 0


class LastWords:
    """A grader that has seen for each last word how often the answer was yes; what it never saw is true for it."""

    name = "last words"

    def __init__(self, seen: dict[str, list[bool]]) -> None:
        self.seen = seen

    def grade(self, responses: Sequence[Response], propositions: Sequence[Proposition]) -> Grades:
        shares = [self.seen.get((r.text.split() or [""])[-1], [True]) for r in responses]
        return Grades.of(
            [p.name for p in propositions], [[sum(s) / len(s)] * len(propositions) for s in shares]
        )


def train(old: Sequence[LabelledResponse], new: Sequence[LabelledResponse], out: Path) -> None:
    seen: dict[str, list[bool]] = {}
    for row in [*old, *new]:
        seen.setdefault((row.response.text.split() or [""])[-1], []).append(row.propositions["even"])
    (out / "seen.json").write_text(json.dumps(seen))


def load(folder: Path) -> LastWords:
    return LastWords(json.loads((folder / "seen.json").read_text()))


def by_truth(update: int, responses: Sequence[Response]) -> list[LabelledResponse]:
    return [LabelledResponse(r, {"even": is_even(r.text)}) for r in responses]


OLD = by_truth(0, [Response(prompt, f"w{i % 4}") for i, prompt in enumerate(PROMPTS)])


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Knows four words alone."""
    folder = tmp_path_factory.mktemp("first")
    train(OLD, [], folder)
    return folder


def renewals(out: Path, first: Path, label: LabelResponses = by_truth, **settings: Any) -> GraderRenewals:
    return GraderRenewals(
        GraderRenewalConfig(**({"every": 2, "responses": 16, "budget": 30} | settings)),
        PROMPTS,
        OLD,
        [EVEN],
        TOKENIZER,
        Decoding(6, 1.0, batch_size=24),
        out,
        label,
        train,
        load,
        first,
    )


def paid(folder: Path) -> Reward:
    """A response earns what the grader says of it."""
    return TextReward(lambda r: float(load(folder).grade([r], [EVEN]).probability[0, 0]))


def run(out: Path, first: Path, label: LabelResponses = by_truth, reward: Any = None) -> list[dict[str, Any]]:
    policy = eager_to_end()
    settings = PPOConfig(
        updates=7, batch_size=8, max_new_tokens=6, learning_rate=1e-3, critic_learning_rate=1e-3,
        checkpoints=1, save_every=1, micro_batch_size=8,
    )  # fmt: skip
    train_ppo(
        Models(policy, make_critic(), copy.deepcopy(policy), TOKENIZER),
        PROMPTS,
        reward or paid(first),
        settings,
        out,
        Options(renewal=Renewals([renewals(out, first, label)], lambda folders: paid(folders[0] or first))),
    )
    return rows_of(out)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, first: Path) -> Path:
    out = tmp_path_factory.mktemp("unbroken")
    run(out, first)
    return out


def test_renewed_graders_know_the_policys_responses(unbroken: Path, first: Path) -> None:
    """The first grader went on paying, or its accuracy was that on what it was trained on."""
    due = [row for row in rows_of(unbroken) if "renewal/grader_labels" in row]
    assert [row["update"] for row in due] == [2, 4, 6]
    told = due[0]
    assert told["renewal/grader_accuracy_new"] > told["renewal/grader_accuracy_new_before"]
    assert told["renewal/grader_accuracy_old"] == told["renewal/grader_accuracy_old_before"] == 1.0
    folder = unbroken / "graders" / "2"
    record = json.loads((folder / "renewal.json").read_text())
    assert (record["update"], record["why"], record["labels"]) == (2, "every", 16)
    before, now = record["accuracy"]["new"]["even"]
    assert (before, now) == (told["renewal/grader_least_new_before"], told["renewal/grader_least_new"])
    # Every fourth label is kept back: what it says is in no training.
    labelled = read_labelled(folder / "labels.jsonl")
    seen = sum(map(len, json.loads((folder / "seen.json").read_text()).values()))
    assert seen == len(OLD) - len(OLD) // 10 + len(labelled) - len(labelled) // 4
    assert accuracies(load(first), labelled[3::4], [EVEN])["even"] == before


def test_labels_are_counted_and_end_with_the_budget(unbroken: Path) -> None:
    """People were asked again each time, whatever had been agreed with them."""
    due = [row for row in rows_of(unbroken) if "renewal/grader_labels" in row]
    assert [row["renewal/grader_labels"] for row in due] == [16, 14, 0]
    assert [row["renewal/grader_labels_total"] for row in due] == [16, 30, 30]
    assert sorted(folder.name for folder in (unbroken / "graders").iterdir()) == ["2", "4"]


def test_a_kill_around_a_renewal_changes_nothing(tmp_path: Path, unbroken: Path, first: Path) -> None:
    """The resumed run was paid by the grader of the start, by one of a later update, or labelled other responses."""
    run_with_kills(partial(run, tmp_path, first), paid(first), by_truth, tmp_path / "graders")
    for file in (
        "metrics.jsonl",
        "checkpoint-7/model.safetensors",
        "graders/4/seen.json",
        "graders/4/renewal.json",
    ):
        assert (tmp_path / file).read_bytes() == (unbroken / file).read_bytes(), file


def test_an_alarm_has_the_grader_renewed_once(tmp_path: Path, first: Path) -> None:
    """An alarm that stayed up had it renewed at each look, or one that was silent at once."""
    part, policy = renewals(tmp_path, first, every=0, on_alarm=True, budget=100), eager_to_end()
    assert part.after(10, policy, False) is None and part.in_force(10) is None
    found = part.after(20, policy, True)
    assert found is not None and found[1]["renewal/grader_by_alarm"] == 1.0
    assert part.after(30, policy, True) is None and part.in_force(30) == tmp_path / "graders" / "20"
    # A run that goes back to before it takes that way again.
    assert part.in_force(15) is None and part.after(20, policy, True) is not None


def test_people_label_between_two_starts(tmp_path: Path, first: Path) -> None:
    """The run could not wait for people, took its responses back, or learned labels of other responses."""
    labels, out = tmp_path / "labels", tmp_path / "run"
    labels.mkdir()
    out.mkdir()
    part = renewals(out, first, graded_labels_from_files(labels, out, ["even"]))
    with pytest.raises(InputError, match=r"labels-2\.jsonl.*responses wait.*start the run again"):
        part.after(2, eager_to_end())
    asked = read_labelled(out / "responses-2.jsonl")
    strange = [LabelledResponse(Response(PROMPTS[0], "w0 w0 w0 w0 w0"), {"even": True})]
    write_jsonl(labels / "labels-2.jsonl", map(labelled_as_json, strange))
    with pytest.raises(InputError, match="none of those that were asked for"):
        part.after(2, eager_to_end())
    rows = by_truth(2, [row.response for row in asked])
    write_jsonl(labels / "labels-2.jsonl", map(labelled_as_json, [*rows, rows[0]]))
    found = part.after(2, eager_to_end())
    assert found is not None and found[1]["renewal/grader_labels"] == len(
        {row.response.text + row.response.prompt.id for row in rows}
    )


def test_the_reward_has_each_part_that_holds(tmp_path: Path, first: Path) -> None:
    """Where reward model and grader are renewed, each took the other back to the start."""
    parts = [
        renewals(tmp_path / "a", first, every=2, budget=200),
        renewals(tmp_path / "b", first, every=3, budget=200),
    ]
    held: list[list[str]] = []

    def reward(folders: Sequence[Path | None]) -> Reward:
        held.append(["-" if folder is None else folder.name for folder in folders])
        return paid(first)

    both, policy = Renewals(parts, reward), eager_to_end()
    assert both.in_force(1) is None
    for update in range(1, 7):
        both.after(update, policy)
    assert held == [["2", "-"], ["2", "3"], ["4", "3"], ["6", "6"]]
    both.in_force(5)
    assert held[-1] == ["4", "3"]


@pytest.mark.parametrize("changes", [{"every": -1}, {"responses": 2}, {"budget": 0}])
def test_settings_out_of_range_are_refused(changes: dict[str, int]) -> None:
    """Two labels trained a grader."""
    with pytest.raises(InputError, match=r"renewal\.grader"):
        GraderRenewalConfig(**changes)
