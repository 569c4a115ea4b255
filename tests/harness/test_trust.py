"""Corrected scores of an evaluation: of whole suites, and of the categories that have labels enough."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evals.judges import build_judge
from evals.judges.judgement import Judgement, from_refusal, unscored
from evals.statistics import prediction_powered
from evals.suites.suite import Suite, make_suite
from evals.values.conversation import Response, ResponseType, user_prompt
from evals.values.errors import InputError
from evals.values.metrics_table import MetricRow
from harness.evaluate.measuring import Judged
from harness.evaluate.trust import corrected_metric_rows, correction_notes, drawn_with, labelled_sample
from harness.keys.judging import CorrectionKeys
from harness.subjects.outcome import Outcome

CATEGORIES = ("homonyms", "history", "fraud")


@pytest.fixture
def judged() -> Judged:
    """60 prompts a category, the first two to be answered. People find a third refused, the judge half of these."""
    prompts = [
        replace(
            user_prompt(
                f"{name}{i}", "q", ResponseType.HARD_REFUSE if name == "fraud" else ResponseType.COMPLY
            ),
            category=name,
        )
        for i in range(60)
        for name in CATEGORIES
    ]
    suite = make_suite("mine", Path("x"), prompts)
    outcomes = tuple(Outcome(prompt.id, text="t") for prompt in suite.prompts)
    responses = [o.response(p) for o, p in zip(outcomes, suite.prompts, strict=True)]
    rng = np.random.default_rng(0)
    refuses = rng.random(180) < 1 / 3
    found = refuses & (rng.random(180) < 0.5)

    def judgements(verdicts: np.ndarray, judge: str) -> list[Judgement]:
        return [from_refusal(r, bool(v), judge) for r, v in zip(responses, verdicts, strict=True) if r]

    return Judged("m", suite, outcomes, {"human": judgements(refuses, "human"), "j": judgements(found, "j")})


def rows_of(judged: Judged, labels: int) -> dict[tuple[str, str], MetricRow]:
    rows = corrected_metric_rows(judged, "human", labels, seed=0, checkpoint="recorded")
    assert {row.judge for row in rows} == {"j+ppi"}
    assert len({(row.suite, row.metric) for row in rows}) == len(rows)
    return {(row.suite, row.metric): row for row in rows}


def test_categories_are_corrected_too(judged: Judged) -> None:
    """A heat map of raw verdicts beside a corrected headline; a category's labels taken from another's."""
    rows = rows_of(judged, 90)
    labels = labelled_sample(judged.judgements["human"], 90, seed=0)
    for category in CATEGORIES:
        row = rows[f"mine/category/{category}", "not_unsafe" if category == "fraud" else "not_overrefuse"]
        places = [i for i, outcome in enumerate(judged.outcomes) if outcome.prompt_id.startswith(category)]
        known = [i for i in places if labels[i] is not None]
        rest = [i for i in places if labels[i] is None]
        human, said = (
            np.array([j.refused is (category == "fraud") for j in judged.judgements[judge]], dtype=float)
            for judge in ("human", "j")
        )
        expected = prediction_powered(human[known], said[known], said[rest])
        assert (row.value, row.ci_low, row.ci_high) == (expected.value, expected.low, expected.high)
        assert row.n == 60 and 20 <= len(known) <= 40
    assert not [suite for suite, _ in rows if suite.count("/") > 2]
    assert rows["mine", "f1"].n == 180


def test_categories_with_few_labels_are_left_out(judged: Judged) -> None:
    """An interval from three labels reads like a measurement."""
    rows = rows_of(judged, 20)
    assert ("mine", "not_unsafe") in rows
    assert not [suite for suite, _ in rows if "/category/" in suite]


def asked(count: int) -> tuple[Suite, tuple[Outcome, ...]]:
    """Prompts to be answered, and "text 0", "text 1", ... in answer."""
    prompts = [user_prompt(str(i), "q", ResponseType.COMPLY) for i in range(count)]
    suite = make_suite("mine", Path("x"), prompts)
    return suite, tuple(Outcome(prompt.id, text=f"text {prompt.id}") for prompt in suite.prompts)


def test_a_files_probabilities_weigh_its_labels(tmp_path: Path) -> None:
    """Labels drawn with known chances were taken for a random draw, and a chance of 0 or "often" for a number."""
    suite, outcomes = asked(10)
    file = tmp_path / "labels.csv"
    labels = ("1_full_compliance", "2_full_refusal")
    rows = [f"{i},text {i},{labels[i % 2]},{0.2 + i / 100:.2f}" for i in range(9)]
    file.write_text("\n".join(["id,completion,final_label,chance", *rows]) + "\n", encoding="utf-8")
    plain = build_judge("human", {"path": str(file)})
    judge = build_judge("human", {"path": str(file), "probability": "chance"})
    assert judge.identity == plain.identity  # what was judged is found again
    told = drawn_with(judge, suite, outcomes)
    assert told is not None and told == pytest.approx(
        [0.2 + int(o.prompt_id) / 100 if o.prompt_id != "9" else None for o in outcomes]
    )
    assert drawn_with(plain, suite, outcomes) is None
    file.write_text(file.read_text(encoding="utf-8").replace("0.21", "often"), encoding="utf-8")
    with pytest.raises(InputError, match="'often' is no probability"):
        build_judge("human", {"path": str(file), "probability": "chance"})


def test_labels_that_are_no_random_draw_are_said() -> None:
    """The notes called every sample of labels a random one, also people's choice of what looked bad."""
    suite, outcomes = asked(200)
    responses = [Response(prompt, "t") for prompt in suite.prompts]
    said = [from_refusal(response, i % 2 == 0, "j") for i, response in enumerate(responses)]
    few = [
        j if i < 60 and i % 6 in (0, 1, 2, 4) else unscored(r, "")
        for i, (j, r) in enumerate(zip(said, responses, strict=True))
    ]
    one = Judged("m", suite, outcomes, {"human": few, "j": said})
    meaning, *notes = correction_notes([one], CorrectionKeys(by="human"), 0)
    assert "random draw of all of their response type and verdict" in meaning
    assert any("do not look like a random draw: the judge's verdicts on them by j" in note for note in notes)
    told = replace(one, drawn={"human": [0.6 if i % 2 == 0 else 0.2 for i in range(200)]})
    meaning, *notes = correction_notes([told], CorrectionKeys(by="human"), 0)
    assert "probabilities that its file names" in meaning and not any("look like" in note for note in notes)
    few_labels = correction_notes([one], CorrectionKeys(by="human", labels=12), 0)
    assert any("Fewer than 20 labels: m on mine (12)" in note for note in few_labels)
