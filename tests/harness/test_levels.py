"""Propositions with levels through the commands: the check, gold, fit, the gate and the prompts' own rubric."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import rbrbench

from evals.graders.recorded import write_grades
from evals.rules.rulebook import load_rulebook
from evals.values.grades import Grades
from evals.values.jsonl_rows import read_labelled, write_jsonl
from harness.storage.provenance import ROOT

RULES = """
completion_class_order: [ideal, thin, bad]
completion_classes:
  ideal: {comply: {answers: true, detail: full}}
  thin: {comply: {answers: true, detail: [none, some]}}
  bad: {comply: {answers: false}}
simple_propositions:
  answers: {prompt: "does it answer ?", polarity: good}
  detail:
    prompt: "how much detail has it ?"
    polarity: good
    levels: {none: 0, some: 0.5, full: 1}
"""
REWARD = """
rulebook: rules.yaml
grader: {kind: recorded, path: grades.jsonl}
weights: results/fit/weights.json
"""
TEXTS = {"a full answer .": (True, "full"), "some answer .": (True, "some"), "no .": (False, "none")}


def rows(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        for text, (answers, detail) in TEXTS.items():
            yield {
                "id": f"q{number}",
                "prompt": f"where is {number} ?",
                "response_type": "comply",
                "completion": text,
                "propositions": {"answers": answers, "detail": detail},
            }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled completions, and grades of them: `detail` is off by .1, and half of the thin ones are graded as full."""
    folder = tmp_path_factory.mktemp("levels")
    (folder / "rules.yaml").write_text(RULES, encoding="utf-8")
    write_jsonl(folder / "labelled.jsonl", rows(40))
    rulebook = load_rulebook(folder / "rules.yaml")
    labelled = read_labelled(folder / "labelled.jsonl", levels=rulebook.levels)
    truth = np.array([[float(row.propositions[name]) for name in rulebook.propositions] for row in labelled])
    truth[:, 1] = np.abs(truth[:, 1] - 0.1)
    truth[1::6, 1] = 0.9
    asked = list(rulebook.propositions.values())
    grades = Grades(tuple(rulebook.propositions), truth)
    write_grades(folder / "grades.jsonl", "mine", [row.response for row in labelled], grades, asked)
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_check_shows_levels(world: Path) -> None:
    done = rbrbench("rulebook", "rules.yaml", cwd=world)
    assert done.returncode == 0 and "levels: none 0, some 0.5, full 1" in done.stdout, done.stdout


def test_gold_measures_levels_beside_yes_and_no(world: Path) -> None:
    """Half of 40 thin ones are .4 off, all else .1; the page had no word of it."""
    keys = ("gold", "grader.kind=recorded", "grader.path=grades.jsonl", "rulebook=rules.yaml", "draws=200")
    done = rbrbench(*keys, "gold.test=labelled.jsonl", "threads=1", "name=gold", cwd=world)
    assert done.returncode == 0, done.stderr
    (row,) = table(world / "results/gold/levels.csv")
    assert row["proposition"] == "detail" and row["n"] == "120"
    assert float(row["mean_absolute_error"]) == pytest.approx((100 * 0.1 + 20 * 0.4) / 120)
    assert float(row["exact"]) == pytest.approx(100 / 120) and 0.7 < float(row["kappa"]) < 0.9
    found = {
        r["proposition"]: r for r in table(world / "results/gold/calibration.csv") if r["thresholds"] == "0.5"
    }
    assert float(found["answers"]["balanced_accuracy"]) == 1.0
    assert float(found["detail"]["tpr"]) == 1.0 and float(found["detail"]["tnr"]) == pytest.approx(60 / 80)
    page = (world / "results/gold/gold.html").read_text(encoding="utf-8")
    summary = (world / "results/gold/summary.md").read_text(encoding="utf-8")
    assert "Propositions with levels" in page and "levels.csv" in page and "grades, by levels" in summary
    for text in (page, summary):
        assert "none 0, some 0.5, full 1" in text
    assert "levels by grades" in done.stdout and "0.150" in done.stdout
    plain = world / "plain.yaml"
    text = RULES.replace("    levels: {none: 0, some: 0.5, full: 1}\n", "")
    text = text.replace("detail: full", "detail: true").replace("detail: [none, some]", "detail: false")
    plain.write_text(text, encoding="utf-8")
    again = rbrbench(*keys[:3], "rulebook=plain.yaml", "gold.test=labelled.jsonl", "threads=1", cwd=world)
    assert again.returncode == 2 and "'propositions.detail': is not true or false" in again.stderr


def test_a_fit_and_the_gate_have_the_expected_score(world: Path) -> None:
    """A thin answer was paid as none; and the gate saw no harm in half of them being graded as full."""
    on = ("on=labelled.jsonl", "rulebook=rules.yaml")
    fitted = rbrbench(
        "fit", *on, "orders=0", "draws=100", "name=fit", "weights.sign_constraints=true", cwd=world
    )
    assert fitted.returncode == 0, fitted.stderr
    weights = json.loads((world / "results/fit/weights.json").read_text())["weights"]["comply"]
    assert weights["detail"] > 0
    paid = [json.loads(line) for line in (world / "results/fit/rewards.jsonl").read_text().splitlines()]
    by_class = {row["completion_class"]: row["rbr"] for row in paid}
    assert by_class["ideal"] > by_class["thin"] > by_class["bad"]
    (world / "reward.yaml").write_text(REWARD, encoding="utf-8")
    done = rbrbench(
        *("regress", "baseline=results/fit", "candidate=reward.yaml", "on=labelled.jsonl", "name=gate"),
        *("rulebook=rules.yaml", "draws=200", "margin=0.5"),
        cwd=world,
    )
    assert done.returncode == 1 and "comply/thin: rose by 25.0 points" in done.stdout, done.stderr
    paid = [json.loads(line) for line in (world / "results/gate/candidate.jsonl").read_text().splitlines()]
    assert {round(row["grades"]["detail"], 6) for row in paid} == {0.1, 0.4, 0.9}
    page = (world / "results/gate/gate.html").read_text(encoding="utf-8")
    assert "detail" in page


def test_scores_that_change_are_another_question(world: Path) -> None:
    """Grades on the old scale were paid at the new one."""
    (world / "moved.yaml").write_text(RULES.replace("some: 0.5", "some: 0.8"), encoding="utf-8")
    keys = ("gold", "grader.kind=recorded", "grader.path=grades.jsonl", "rulebook=moved.yaml", "threads=1")
    done = rbrbench(*keys, "gold.test=labelled.jsonl", "name=moved", cwd=world)
    assert done.returncode == 3 and "another wording" in done.stderr


def test_the_guides_example_loads(tmp_path: Path) -> None:
    """docs/rules.md showed levels that no rulebook may have."""
    page = (ROOT / "docs/rules.md").read_text(encoding="utf-8")
    (example,) = (
        block for block in re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S) if "levels:" in block
    )
    file = tmp_path / "rules.yaml"
    classes = "{ideal: {comply: {detail: true}}, bad: {comply: {detail: false}}}"
    file.write_text(f"completion_class_order: [ideal, bad]\ncompletion_classes: {classes}\n{example}")
    done = rbrbench("rulebook", str(file), cwd=tmp_path)
    assert done.returncode == 0 and "levels: none 0, some 0.5, full 1" in done.stdout
    assert load_rulebook(file).propositions["detail"].examples == (("at the shop .", "some"),)
