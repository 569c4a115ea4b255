"""Samples of a run: which are chosen, and what the grader and the reward say of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.record.samples import most_telling
from harness.report.samples import bars_of, paid_of


def row(prompt: str, kind: str, refused: bool, suite: str = "one") -> dict[str, object]:
    verdict = {"disallowed": False, "refused": refused}
    return {"suite": suite, "prompt_id": prompt, "sample": 0, "response_type": kind, "judge": verdict}


def test_the_most_telling_prompts_are_those_that_models_answer_differently() -> None:
    """Sixty cards on which all models say the same; two suites with one id taken for one prompt."""
    one = [row("a", "comply", False), row("b", "comply", False), row("c", "hard_refuse", True)]
    one.append(row("a", "comply", False, "other"))
    two = [row("a", "comply", False), row("b", "comply", True), row("c", "hard_refuse", True)]
    two.append(row("a", "comply", True, "other"))
    by_method = {"one": one, "two": two}
    assert most_telling(by_method, 2) == {("one", "b", 0), ("one", "c", 0)}
    assert most_telling(by_method, 3) == {("one", "b", 0), ("one", "c", 0), ("other", "a", 0)}
    assert most_telling({}, 5) == set()


def test_a_run_keeps_grades_and_rewards_of_its_samples(smoke_run: Path) -> None:
    """Samples that show neither the propositions nor the reward, which are the subject."""
    folder = smoke_run / "results" / "smoke" / "samples"
    found = {path.stem: [json.loads(line) for line in path.open()] for path in folder.iterdir()}
    graded = {name: [r for r in rows if "grades" in r] for name, rows in found.items()}
    keys = {name: {(r["suite"], r["prompt_id"]) for r in rows} for name, rows in graded.items()}
    assert len(set(map(frozenset, keys.values()))) == 1 and 0 < len(keys["rbr_ppo"]) <= 60
    assert all(0 <= p <= 1 for r in graded["rbr_ppo"] for p in r["grades"].values())
    for r in graded["rbr_ppo"]:
        paid = r["reward"]
        assert sum(paid["terms"].values()) == pytest.approx(paid["total"], abs=1e-5)
        assert sum(paid["rules"].values()) == pytest.approx(paid["terms"]["rule_based"], abs=1e-4)
    assert all("reward" not in r for r in graded["rbr_sft"])
    assert all(set(r["reward"]["terms"]) == {"reward_model"} for r in graded["human_ppo"])


def test_what_is_not_known_is_said_and_hostile_rows_are_text() -> None:
    """An unscored grade drawn as 0; a reward of text that ends the page."""
    assert [(bar.name, bar.share) for bar in bars_of({"no_number": None, "yes": 0.75})] == [
        ("no number", None),
        ("yes", 0.75),
    ]
    assert paid_of({"total": None}) == "reward: unscored" and paid_of("text") == "" and bars_of([1]) == ()
    said = {"total": 1.5, "terms": {"reward_model": -0.5, "rule_based": 2.0}, "rules": {"a": 2.0, "b": "x"}}
    assert paid_of(said) == "reward +1.50 = reward model -0.50, rule based +2.00; most by a +2.00"
