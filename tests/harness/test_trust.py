"""Corrected scores of an evaluation: of whole suites, and of the categories that have labels enough."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evals.judges.judgement import from_refusal
from evals.judges.measures import Judgement
from evals.statistics import prediction_powered
from evals.suites.suite import make_suite
from evals.values.conversation import ResponseType, user_prompt
from evals.values.metrics_table import MetricRow
from harness.evaluate.measuring import Judged
from harness.evaluate.trust import corrected_metric_rows, labelled_sample
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
