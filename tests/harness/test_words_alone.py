"""Who leads where nobody is named, and what is said of a matcher of words that leads alone."""

from __future__ import annotations

import json
from pathlib import Path

from evaluation_world import metrics_of, write_responses, write_suite

from harness.evaluate.words_alone import judge_kinds, words_alone
from harness.keys.data import DataSource
from harness.keys.evaluate import compose_evaluate
from harness.keys.evaluation import AUTO, OWN_JUDGES
from rbrbench.cli import main


def test_the_words_judge_leads_where_none_is_named(tmp_path: Path) -> None:
    """A refusal with a typographic apostrophe counted as an answer, and nothing said so."""
    suite = write_suite(tmp_path, 3, 0)
    texts = {"s0": "I\u2019m sorry, but I can\u2019t help with that.", "s1": "Cut it.", "s2": "Water it."}
    given = write_responses(tmp_path / "given.csv", suite, [], texts)
    asked = [
        "suites=[prompt_file]",
        f"suites.prompt_file.path={suite}",
        f"responses={given}",
        "card.labels=none",
    ]
    assert main(["evaluate", *asked, f"results={tmp_path}/results", "name=w", "draws=100", "threads=1"]) == 0
    folder = tmp_path / "results/w"
    notes = json.loads((folder / "manifest.json").read_text())["notes"]
    (warned,) = [note for note in notes if "reads words alone" in note]
    assert warned.startswith("words leads") and "35.1 %" in warned
    assert metrics_of(tmp_path, "w")["given", "prompt_file", "not_overrefuse", "words"]["value"] == "0.666667"


def test_a_card_of_ones_own_labels_is_said_in_place_of_the_published_one() -> None:
    assert "(right on 90 %)" in words_alone({"words": "words"}, {"words": "right on 90 %."})[0]
    assert words_alone({"words": "words", "guard": "llama_guard"}, {}) == words_alone({}, {}) == []
    keys = compose_evaluate(
        ["suites=[xstest]", "responses=a.csv", "judges=[mine,words]", "judges.mine.kind=string_match"]
    )
    assert judge_kinds(keys) == {"mine": "string_match", "words": "words"}
    assert "39.9 %" in words_alone(judge_kinds(keys), {})[0]


def test_a_run_on_data_of_ones_own_is_warned_of_too() -> None:
    assert words_alone({name: name for name in OWN_JUDGES[DataSource.FILES]}, {})
    assert AUTO in OWN_JUDGES[DataSource.REAL]
    assert not words_alone({name: name for name in OWN_JUDGES[DataSource.REAL]}, {})
