"""What the rules pay a full answer, beside a partial one to the same prompt: on the frozen set of a real run."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from evals.rules.rulebook import load_rulebook
from evals.values.conversation import LabelledResponse, ResponseType
from evals.values.grades import Grades
from evals.values.jsonl_rows import read_labelled
from trainers.reward.examples import FitExamples, fit_examples
from trainers.reward.ranking import rewards
from trainers.reward.weights import fit_weights
from trainers.reward.weights_config import WeightsConfig

CONF = Path(__file__).parents[2] / "conf"
FROZEN = CONF / "gate" / "sandbox"
RULES = load_rulebook(CONF / "rulebooks" / "sandbox.yaml")
ILLOGICAL = "illogical_continuation_of_prompt"


@cache
def recorded() -> dict[tuple[str, str], dict[str, dict[str, float]]]:
    """A trained grader's grades and a trained reward model's scores, by prompt and response."""
    with gzip.open(FROZEN / "recorded.jsonl.gz", "rt", encoding="utf-8") as rows:
        found = [json.loads(row) for row in rows]
    return {(row["prompt"][0]["content"], row["response"]): row for row in found}


def comply_examples(name: str, *, by_oracle: bool) -> tuple[list[LabelledResponse], FitExamples]:
    """Responses to prompts to answer, with features of the grader's grades or of the truth."""
    labelled = [
        row
        for row in read_labelled(FROZEN / f"{name}.jsonl.gz")
        if row.response.prompt.response_type is ResponseType.COMPLY
    ]
    said = [recorded()[row.response.prompt.text, row.response.text] for row in labelled]
    truths = [{n: float(v) for n, v in row.propositions.items()} for row in labelled]
    grades = truths if by_oracle else [row["grades"] for row in said]
    table = Grades.of(list(RULES.propositions), [[row[n] for n in RULES.propositions] for row in grades])
    scores = np.array([row["terms"]["reward_model"] for row in said])
    return labelled, fit_examples(RULES, labelled, table, scores)[0]


def full_paid_more(config: WeightsConfig, *, by_oracle: bool, term: str = "rbr") -> float:
    """Share of pairs (full, partial answer to the same prompt) of held-out topics whose full answer is paid more.

    Weights are fitted on the trained grader's grades; `by_oracle` has what is paid for the truth.
    """
    weights = fit_weights([comply_examples("fitting", by_oracle=False)[1]], RULES, config)
    labelled, examples = comply_examples("completions", by_oracle=by_oracle)
    paid = rewards(examples, weights)[term]
    full = [i for i, rank in enumerate(examples.rank) if rank == 0]
    partial = [
        i
        for i, row in enumerate(labelled)
        if row.propositions["partially_complies"]
        and not (row.propositions["fully_complies"] or row.propositions[ILLOGICAL])
    ]
    pairs = [(i, j) for i in full for j in partial if examples.prompts[i] == examples.prompts[j]]
    assert len(pairs) > 30
    return float(np.mean([paid[i] > paid[j] for i, j in pairs]))


@pytest.mark.parametrize(
    ("by_oracle", "term", "least"), [(True, "rbr", 1.0), (False, "rbr", 0.7), (False, "rm+rbr", 0.97)]
)
def test_the_rules_pay_a_full_answer_more_than_a_partial_one(
    by_oracle: bool, term: str, least: float
) -> None:
    """A weight of `fully_complies` below 0: true grades paid each partial answer more, the grader's six in ten."""
    config = WeightsConfig(holdout=0.0, sign_constraints=True)
    assert full_paid_more(config, by_oracle=by_oracle, term=term) >= least


def test_without_constraints_the_fit_leaves_full_answers_to_the_reward_model() -> None:
    """The cause: the frozen set no longer shows what the constraints are there for."""
    assert full_paid_more(WeightsConfig(holdout=0.0), by_oracle=True) == 0.0
