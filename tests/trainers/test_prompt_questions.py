"""Questions that a prompt brings along, in features, fit and reward: their own weights stay, one scale is learnt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evals.graders.oracle import OracleGrader
from evals.graders.own_questions import question_scores
from evals.rules.diff import text_changes
from evals.rules.features import feature_names
from evals.rules.questions import propositions_of
from evals.rules.rulebook import Rulebook, load_rulebook
from evals.rules.rulebook_file import QUESTIONS
from evals.values.conversation import (
    LabelledResponse,
    Prompt,
    Question,
    Response,
    ResponseType,
    questions_of,
    user_prompt,
)
from evals.values.errors import InputError
from trainers.reward.examples import graded_examples
from trainers.reward.function import RewardFunction
from trainers.reward.reward import SumOfTerms
from trainers.reward.reward_weights import RewardWeights
from trainers.reward.rule_based_term import RuleBasedTerm
from trainers.reward.weights import fit_weights
from trainers.reward.weights_config import FitMethod, WeightsConfig

RULES = """
{own}
completion_class_order: [ideal, bad]
completion_classes:
  ideal: {{hard_refuse: {{refuses: true}}, comply: {{refuses: false}}}}
  bad: {{hard_refuse: {{refuses: false}}, comply: {{refuses: true}}}}
simple_propositions:
  refuses: {{prompt: "does it refuse ?"}}
"""
HARD, COMPLY = ResponseType.HARD_REFUSE, ResponseType.COMPLY
ASKED = (Question("does it name a place ?", 2.0), Question("does it warn ?", -1.0))


@pytest.fixture
def rules(tmp_path: Path) -> Callable[[str], Rulebook]:
    def load(own: str = "prompt_questions: [hard_refuse]") -> Rulebook:
        path = tmp_path / "rules.yaml"
        path.write_text(RULES.format(own=own), encoding="utf-8")
        return load_rulebook(path)

    return load


def asking(id: str, questions: tuple[Question, ...] = ASKED, kind: ResponseType = HARD) -> Prompt:
    return replace(user_prompt(id, f"ask {id}", kind), questions=questions)


class Reader(OracleGrader):
    """Reads the words of a response: a question is true where its last but one word stands in it."""

    def __init__(self) -> None:
        self.asked = 0
        super().__init__(lambda prompt, text: {}, "reader")

    def grade(self, responses, propositions):  # type: ignore[no-untyped-def]
        self.asked += len(responses) * len(propositions)

        def truth(prompt: Prompt, text: str) -> Mapping[str, bool]:
            found = {p.name: p.question.split()[-2] in text for p in propositions}
            return {name: value for name, value in found.items() if "odd" not in text or name == "refuses"}

        return OracleGrader(truth).grade(responses, propositions)


def weights_of(rulebook: Rulebook, **by_name: float) -> RewardWeights:
    by_type = {
        kind: {name: by_name.get(name, 0.0) for name in feature_names(rulebook, kind)}
        for kind in rulebook.response_types
    }
    return RewardWeights(by_type, rulebook.digest)


def test_a_rulebook_without_them_keeps_its_digest(rules: Callable[[str], Rulebook]) -> None:
    """Every weights file of before was refused as another rulebook's."""
    plain, own = rules(""), rules("prompt_questions: [hard_refuse]")
    assert plain.digest == rules("prompt_questions: []").digest != own.digest
    assert feature_names(own, HARD) == (*feature_names(plain, HARD), QUESTIONS)
    assert feature_names(own, COMPLY) == feature_names(plain, COMPLY)
    assert [change.what for change in text_changes(plain, own)] == ["prompt questions"]


@pytest.mark.parametrize(
    "own", ["prompt_questions: hard_refuse", "prompt_questions: [safe_refuse_1]", "prompt_questions: [3]"]
)
def test_types_that_no_class_has_are_refused(rules: Callable[[str], Rulebook], own: str) -> None:
    with pytest.raises(InputError, match="prompt_questions"):
        rules(own)


def test_each_prompt_is_asked_its_own(rules: Callable[[str], Rulebook]) -> None:
    """One prompt's questions asked of another's response; what is unscored paid as 0."""
    other = (Question("does it shout ?", 5.0),)
    responses = [
        Response(asking("a"), "a place"),
        Response(asking("b"), "i warn of a place"),
        Response(asking("c", other), "a place, and i shout"),
        Response(asking("d", ()), "a place"),
        Response(asking("e"), "odd"),
    ]
    grader = Reader()
    scores = question_scores(grader, responses)
    assert scores.values[:4].tolist() == [-2.0, -1.0, -5.0, 0.0] and np.isnan(scores.values[4])
    assert list(scores.reasons) == [4] and scores.reasons[4].startswith("does it name a place ?: ")
    assert grader.asked == 3 * 2 + 1


def test_a_question_has_one_name_in_every_file() -> None:
    """Numbered questions of two prompts shared a name, and so a recorded grade."""
    first, second = propositions_of(ASKED), propositions_of(ASKED[::-1])
    assert [p.name for p in first] == [p.name for p in second][::-1] and len({p.name for p in first}) == 2
    assert len({p.name for p in propositions_of(ASKED[:1] * 3)}) == 3


def test_the_reward_pays_them_by_their_own_weights(rules: Callable[[str], Rulebook]) -> None:
    rulebook = rules("prompt_questions: [hard_refuse]")
    term = RuleBasedTerm(rulebook, Reader(), weights_of(rulebook, **{QUESTIONS: 0.5, "refuses": 3.0}))
    responses = [
        Response(asking("a"), "i refuse, and name a place"),
        Response(asking("b"), "i warn"),
        Response(asking("c", kind=COMPLY), "a place"),
        Response(asking("d"), "odd"),
    ]
    paid = term(responses)
    assert paid.total[:3].tolist() == [3.0 + 0.5 * -2.0, 0.5 * 1.0, 0.0] and np.isnan(paid.total[3])
    assert paid.contributions[QUESTIONS][0] == -1.0 and np.isnan(paid.contributions[QUESTIONS][2])
    grader = Reader()
    RuleBasedTerm(rulebook, grader, weights_of(rulebook, refuses=3.0))(responses)
    assert grader.asked == len(responses)  # a scale of 0 asks none of them


@pytest.mark.parametrize("method", [FitMethod.HINGE, FitMethod.FIXED, FitMethod.BOOSTED])
def test_a_fit_learns_their_scale_alone(rules: Callable[[str], Rulebook], method: FitMethod) -> None:
    """Prompts whose rules tell good from bad, where the rulebook's own cannot."""
    rulebook = rules("prompt_questions: [hard_refuse]")
    labelled = []
    for number in range(12):
        prompt = asking(str(number))
        for text, name in (("i warn", "ideal"), ("a place", "bad")):
            labelled.append(LabelledResponse(Response(prompt, text), {}, name))
    examples = graded_examples(rulebook, labelled, Reader(), list(rulebook.propositions.values()), None)
    assert examples[0].features.names[-1] == QUESTIONS
    config = WeightsConfig(method=method, holdout=0.0, reward_model=False)
    weights = fit_weights(examples, rulebook, config)
    paid = RuleBasedTerm(rulebook, Reader(), weights)([item.response for item in labelled]).total
    assert (paid[::2] > paid[1::2]).all()
    if method is not FitMethod.BOOSTED:
        assert weights.for_type(HARD)[QUESTIONS] > 0.1
    if method is FitMethod.HINGE:  # completions that people call worse for what their own rules call good
        turned = [
            replace(item, completion_class={"ideal": "bad", "bad": "ideal"}[str(item.completion_class)])
            for item in labelled
        ]
        wrong = graded_examples(rulebook, turned, Reader(), list(rulebook.propositions.values()), None)
        assert fit_weights(wrong, rulebook, config).for_type(HARD)[QUESTIONS] == pytest.approx(0.0, abs=1e-6)


def test_a_trainer_gives_them_as_a_column(rules: Callable[[str], Rulebook]) -> None:
    rulebook = rules("prompt_questions: [hard_refuse]")
    function = RewardFunction(
        SumOfTerms([RuleBasedTerm(rulebook, Reader(), weights_of(rulebook, **{QUESTIONS: 1.0}))])
    )
    asked = [{"text": "does it shout ?", "weight": 3, "polarity": "good"}, "does it name a place ?"]
    paid = function(
        ["a", "b"],
        ["i shout of a place", "a place"],
        response_type=["hard_refuse"] * 2,
        questions=[asked, None],
    )
    assert paid == [2.0, 0.0]
    with pytest.raises(InputError, match="entry 1 is no question"):
        function(["a"], ["b"], response_type=["hard_refuse"], questions=[[{"text": ""}]])


@pytest.mark.parametrize(
    "bad",
    [
        "x",
        [3],
        [{"text": "a", "weight": 0}],
        [{"text": "a", "polarity": "odd"}],
        [{"text": "a", "wieght": 2}],
        [{"text": "a", "weight": -1, "polarity": "good"}],
    ],
)
def test_what_is_no_question_is_said(bad: object) -> None:
    with pytest.raises(ValueError, match="is no list|no question|polarity|is no 'weight'"):
        questions_of(bad)
    assert questions_of([{"text": "a", "weight": None, "id": 7}]) == questions_of(["a"])
