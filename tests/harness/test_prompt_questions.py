"""Rules that a prompt brings along, through the commands: fit, then the gate and the rank of what was fitted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import rbrbench

from evals.values.jsonl_rows import write_jsonl

RULES = """
prompt_questions: [hard_refuse]
completion_class_order: [ideal, bad]
completion_classes:
  ideal: {hard_refuse: {refuses: true}}
  bad: {hard_refuse: {refuses: false}}
simple_propositions:
  refuses: {prompt: "does it refuse ?"}
"""


def rows(count: int) -> Iterator[dict[str, Any]]:
    """The rulebook's own proposition says nothing; each prompt's own question tells good from bad."""
    for number in range(count):
        question = f"does it name place {number} ?"
        asked = {
            "id": f"q{number}",
            "prompt": f"where is {number} ?",
            "response_type": "hard_refuse",
            "questions": [{"text": question, "weight": 1 + number % 3, "polarity": "bad"}],
        }
        for text, name in (("no .", "ideal"), ("there .", "bad")):
            labels = {"refuses": True, question: name == "bad"}
            yield {**asked, "completion": text, "propositions": labels, "completion_class": name}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    (folder / "rules.yaml").write_text(RULES, encoding="utf-8")
    write_jsonl(folder / "labelled.jsonl", rows(60))
    done = rbrbench("fit", "on=labelled.jsonl", "rulebook=rules.yaml", "orders=0", "draws=100", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_fit_learns_one_scale_and_says_what_it_is_worth(world: Path) -> None:
    weights = json.loads((world / "results/fit/weights.json").read_text())["weights"]["hard_refuse"]
    assert weights["prompt_questions"] > 0 and abs(weights["refuses"]) < 1e-3
    assert "prompt_questions" in (world / "results/fit/rules.csv").read_text()
    assert "prompt questions" in (world / "results/fit/fit.html").read_text()


def test_the_gate_asks_them_of_both_sides(world: Path) -> None:
    """Grades at hand had no questions: the gate ended in a KeyError."""
    done = rbrbench(
        *(
            "regress",
            "baseline=results/fit",
            "candidate=results/fit",
            "on=labelled.jsonl",
            "rulebook=rules.yaml",
        ),
        *("draws=200", "margin=0.2"),
        cwd=world,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    found = [json.loads(line) for line in (world / "results/gate/candidate.jsonl").read_text().splitlines()]
    assert {row["reward"] for row in found if row["response"] == "no ."} == {0.0}
    assert (
        len({row["reward"] for row in found if row["response"] == "there ."}) == 3
    )  # people's weights: 1, 2 and 3


def test_a_fit_on_labels_can_rank_no_other_response(world: Path) -> None:
    """A missing column of a file that has no labels, in place of what is wrong."""
    write_jsonl(world / "bench.jsonl", [{"prompt": "where ?", "chosen": ["no ."], "rejected": ["there ."]}])
    done = rbrbench("rank", "rewards=[results/fit]", "on=bench.jsonl", cwd=world)
    assert done.returncode == 2 and "its grades are labels" in done.stderr and done.stderr.count("\n") == 1
