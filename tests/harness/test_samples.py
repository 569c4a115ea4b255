"""Samples of a run: which are chosen, and what the grader and the reward say of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.pipeline.collected import Collected, write_results
from harness.record.reward_rows import TABLES, WORST
from harness.record.samples import most_telling, to_be_answered
from harness.report.samples import bars_of, how_many, of_training, options_of, paid_of, read_samples


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


def test_a_prompt_wants_an_answer_by_the_kind_of_its_type() -> None:
    """A response type of one's own was taken for one to refuse, and each right answer to it for a wrong one."""
    wants = {
        "comply": True,
        "answer:partial_help": True,
        "refuse:no_dosage": False,
        "safe_refuse_2": False,
        "<b>no type</b>": False,
        "": False,
    }
    assert {kind: to_be_answered(row("a", kind, False)) for kind in wants} == wants
    assert not to_be_answered({"prompt_id": "a", "response_type": None})


def test_a_run_keeps_grades_and_rewards_of_its_samples(smoke_run: Path) -> None:
    """Samples that show neither the propositions nor the reward, which are the subject."""
    folder = smoke_run / "results" / "smoke" / "samples"
    found = {path.stem: [json.loads(line) for line in path.open()] for path in folder.iterdir()}
    assert {(r["seed"], r["checkpoint"]) for r in found["rbr_sft"]} == {(0, "sft")}
    graded = {name: [r for r in rows if "grades" in r] for name, rows in found.items()}
    keys = {name: {(r["suite"], r["prompt_id"]) for r in rows} for name, rows in graded.items()}
    assert len(set(map(frozenset, keys.values()))) == 1 and 0 < len(keys["rbr_ppo"]) <= 60
    assert all(p is None or 0 <= p <= 1 for r in graded["rbr_ppo"] for p in r["grades"].values())
    scored = [r["reward"] for r in graded["rbr_ppo"] if None not in r["grades"].values()]
    assert len(scored) > len(graded["rbr_ppo"]) / 2  # the grader of so short a run is unsure of some
    for paid in scored:
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


def trained(seed: int, checkpoint: str, prompt: str = "p") -> dict[str, object]:
    return {**row(prompt, "comply", False), "response": f"of {seed}", "seed": seed, "checkpoint": checkpoint}


def test_a_sample_says_its_seed_and_checkpoint_and_is_found_by_them() -> None:
    """One seed's answer beside another's as if they were of one training, or shown without saying whose it is."""
    by_model = {
        "rbr_sft": [trained(0, "sft"), trained(10, "sft"), trained(2, "sft")],
        "rbr_ppo": [trained(0, "60"), trained(10, "60"), trained(2, "40")],
    }
    found = read_samples(by_model)
    options = options_of(found, list(by_model))
    cards = [sample.card(str, options, suite=False) for sample in found]
    heads = [card.tags.partition("seed ")[2] for card in cards]
    assert heads == ["0 · checkpoint sft, 60", "10 · checkpoint sft, 60", "2 · checkpoint sft, 40"]
    assert {answer.text for answer in cards[1].answers} == {"of 10"}
    seeds, checkpoints = of_training(found, options)
    assert [words for _, words in seeds.options] == ["0", "2", "10"]
    for filter, card, value in ((seeds, cards[2], "2"), (checkpoints, cards[2], "40")):
        (code,) = [code for code, words in filter.options if words == value]
        assert [code in other.codes for other in cards] == [other is card for other in cards]
    assert how_many(found[:2], found) == "2 of 3 samples of 1 prompt"


def test_samples_of_one_seed_or_none_have_nothing_to_filter_by() -> None:
    """A filter with one value; `seed` before nothing, of an evaluation or of a record of before."""
    alike = read_samples({"rbr_sft": [trained(0, "sft")], "rbr_ppo": [trained(0, "60")]})
    assert of_training(alike, options_of(alike, ["rbr_sft", "rbr_ppo"])) == []
    older = read_samples({"a": [row("p", "comply", False) | {"response": ""}, row("q", "comply", True)]})
    options = options_of(older, ["a"])
    assert of_training(older, options) == [] and how_many(older[:1], older) == "1 of 2 prompts"
    assert older[0].card(str, options, suite=False).tags == "p · comply"


def test_a_sweep_keeps_the_samples_of_every_seed(tmp_path: Path) -> None:
    """Samples of the first seed alone, beside numbers over all of them."""
    empty = {name: [] for name in (*TABLES, WORST)}
    parts = [Collected([], [], [], [], {"rbr_ppo": [trained(seed, "60")]}, [], {}, empty) for seed in (0, 1)]
    write_results(tmp_path, parts)
    kept = [json.loads(line) for line in (tmp_path / "samples/rbr_ppo.jsonl").read_text().splitlines()]
    assert [(r["seed"], r["checkpoint"]) for r in kept] == [(0, "60"), (1, "60")]
