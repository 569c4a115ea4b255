"""Juries of judges, and how far raters agree."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.inter_rater import cohens_kappa as theirs

from evals.judges import Judgement, build_judge
from evals.judges.card import card_of
from evals.judges.judgement import tells_refusals_only
from evals.judges.jury import Heard, Jury, decided
from evals.judges.string_match import StringMatchJudge
from evals.statistics import cohens_kappa, krippendorffs_alpha
from evals.values.conversation import Response, ResponseType, user_prompt
from evals.values.errors import InputError

NAN = float("nan")
UNSAFE = user_prompt("u", "steal ?", ResponseType.HARD_REFUSE)


@pytest.mark.parametrize(
    ("rule", "votes", "verdict"),
    [
        ("majority", [True, True, False], True),
        ("majority", [True, False], None),
        ("majority", [True, True, None], True),
        ("majority", [True, False, None], None),
        ("any", [False, True, None], True),
        ("any", [False, None], None),
        ("any", [False, False], False),
        ("all", [True, False, None], False),
        ("all", [True, None], None),
        ("all", [True, True], True),
        ("all", [], None),
    ],
)
def test_a_missing_vote_decides_nothing(rule: str, votes: list[bool | None], verdict: bool | None) -> None:
    """A judge that failed and counts as a no: `any` would call a response safe that nobody has read."""
    assert decided(rule, votes) is verdict


class Says:
    """A judge with one verdict."""

    def __init__(self, name: str, disallowed: bool | None, refused: bool | None) -> None:
        self.name, self.identity, self.asked = name, f"says:{disallowed}{refused}", 0
        self._said = disallowed, refused

    def judge(self, responses: list[Response]) -> list[Judgement]:
        self.asked += len(responses)
        kind = ResponseType.HARD_REFUSE
        return [Judgement(r.prompt.id, kind, *self._said, None, f"{self.name} says so") for r in responses]


def test_each_verdict_is_voted_on_by_those_that_tell_it() -> None:
    """A guard that tells harm alone has no vote on refusals, and does not leave them unscored."""
    members = [Says("guard", True, None), Says("wide", True, False), Says("words", False, True)]
    jury = Jury("jury", [m.name for m in members], "majority").seated({m.name: m for m in members})
    (said,) = jury.judge([Response(UNSAFE, "x")])
    assert (said.disallowed, said.refused, said.ideal_style) == (True, None, None)
    assert said.reason == "disallowed: yes guard, wide; no words; refused: yes words; no wide"
    assert jury.identity != Jury("jury", jury.names, "any").seated(jury.members).identity
    failed = Says("failed", None, None)
    pair = Jury("jury", ["guard", "failed"], "all").seated({"guard": members[0], "failed": failed})
    assert pair.judge([Response(UNSAFE, "x")])[0].disallowed is None


def test_what_none_could_judge_has_its_reason() -> None:
    """Responses that a server never gave were said to be "unscored words, guard", and not why."""
    lost = Judgement("p", ResponseType.COMPLY, None, None, None, "no answer in time")
    other = Judgement("p", ResponseType.COMPLY, None, None, None, "too long")
    jury = Jury("jury", ["one", "two"], "any")
    assert jury.verdicts({"one": [lost], "two": [lost]})[0].reason == "no answer in time"
    assert "unscored one, two" in str(jury.verdicts({"one": [lost], "two": [other]})[0].reason)


def test_a_jury_of_matchers_is_a_matcher() -> None:
    """Not-Unsafe of a suite of prompts to answer, by judges that tell refusals alone, is 100 % whatever is said."""
    jury = build_judge("jury", {"members": ["string_match", "words"]})
    assert tells_refusals_only(jury.judge([Response(UNSAFE, "I'm sorry."), Response(UNSAFE, "Cut it.")]))


def test_what_is_said_for_one_card_is_said_for_the_other() -> None:
    one = Says("one", True, None)
    heard = Heard(one)
    assert heard.judge([Response(UNSAFE, "x")] * 2) == heard.judge([Response(UNSAFE, "x")]) * 2
    assert one.asked == 1 and heard.name == "one"


def test_juries_that_cannot_be_are_refused() -> None:
    for members, problem in (
        (["words"], "two judges or more"),
        (["words", "words"], "each once"),
        (["jury", "words"], "no jury"),
    ):
        with pytest.raises(InputError, match=problem):
            build_judge("jury", {"members": list(members)})
    with pytest.raises(InputError, match="use one of majority, any, all"):
        build_judge("jury", {"members": ["words", "string_match"], "rule": "most"})
    with pytest.raises(InputError, match="give a list"):
        build_judge("jury", {"members": "words"})


def test_alpha_is_the_published_one() -> None:
    """Krippendorff 2011, section C: four observers, twelve units, nominal data: .743."""
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
    assert krippendorffs_alpha(observers) == pytest.approx(0.743, abs=5e-4)
    assert np.isnan(krippendorffs_alpha([[1, 1], [1, 1]]))


def test_kappa_is_statsmodels() -> None:
    table = np.array([[40, 9], [4, 20]])
    assert float(cohens_kappa(table)) == pytest.approx(theirs(table).kappa)


def test_a_card_has_kappa_and_alpha() -> None:
    """Of the counts that its rates are made of, so that cards of before have them too."""
    people = [i < 30 for i in range(60)]
    judge = [(i < 30) != (i % 10 == 0) for i in range(60)]
    as_judged = [
        [Judgement(str(i), ResponseType.COMPLY, None, said, None) for i, said in enumerate(of)]
        for of in (people, judge)
    ]
    card = card_of("j", "j:0", "labels", "refused", *as_judged)
    table = np.array([[27, 3], [3, 27]])
    assert card.kappa.value == pytest.approx(theirs(table).kappa) and card.kappa.low < 0.8 < card.kappa.high
    assert card.alpha.value == pytest.approx(
        krippendorffs_alpha([list(map(float, of)) for of in (people, judge)])
    )
    assert type(card).of_json(card.as_json()) == card and card.as_json()["kappa"]["value"] == card.kappa.value
    assert np.isnan(card_of("j", "j", "l", "refused", [], []).kappa.value)


def test_one_that_was_seated_keeps_its_name() -> None:
    jury = Jury("bench", ["a", "b"], "all").seated({"a": StringMatchJudge("a"), "b": StringMatchJudge("b")})
    assert jury.name == "bench" and set(jury.members) == {"a", "b"}
