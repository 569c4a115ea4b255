"""A server that gives no log-probabilities, or reasons before it answers, as grader: last lines and their shares."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

import pytest
from tiny_servers import Handler, JsonServer, completion, in_a_thread

from evals.graders.server import NO_LAST_LINE, ServerGrader, form_of_answer, verdict
from evals.models.chat_server import ChatServer
from evals.models.server import BudgetedServer, GraderServerSettings
from evals.rules.propositions import Proposition
from evals.values.conversation import Response, user_prompt
from evals.values.errors import InputError
from evals.values.grades import Grades, Unscored
from harness.gold.notes import sample_note

RULE = Proposition("apology", "Is there an apology?")


class Reasoner(JsonServer):
    """Answers with the response that it is asked of; of one with "torn" by the seed of the sample."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[dict[str, Any]] = []

    def answer(self, handler: Handler, body: dict[str, Any]) -> None:
        with self.lock:
            self.bodies.append(body)
        text, seed = body["messages"][-2]["content"], body.get("seed")
        if "torn" in text:
            text = "Answer: yes" if seed in (0, 1, 3) else "Hm.\nAnswer: no" if seed == 2 else "Perhaps."
        if "mostly" in text:
            text = "Answer: yes" if seed == 0 else "Perhaps."
        handler.send(200, completion({"message": {"role": "assistant", "content": text}}))


def grades(server: JsonServer, *texts: str, **settings: Any) -> tuple[list[float], dict[Any, str]]:
    grader = ServerGrader(GraderServerSettings(server.url, "m", reads="text", attempts=1, **settings))
    found = grader.grade([Response(user_prompt(text, "?"), text) for text in texts], [RULE])
    return found.probability[:, 0].tolist(), dict(found.reasons)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("It says sorry.\n\n**Answer: yes**\n", 1.0),
        ("answer: No.", 0.0),
        ("Yes", 1.0),
        ('Therefore:\n"Answer: yes"', 1.0),  # as the form is quoted in the question
        ("Answer: \u201cYes.\u201d", 1.0),
        ("> [No]!", 0.0),
        ("< think>It may be no.</ think>Answer: yes", NO_LAST_LINE),
        ("Answer: yes\nI am not sure, though.", NO_LAST_LINE),
        ("The answer is yes.", NO_LAST_LINE),
        ("", NO_LAST_LINE),
    ],
)
def test_the_last_line_decides(text: str, said: float | str) -> None:
    """A word within the reasons was read as the verdict."""
    with in_a_thread(Reasoner()) as server:
        (value,), reasons = grades(server, text)
    assert list(reasons.values()) == ([said] if isinstance(said, str) else [])
    assert isinstance(said, str) or value == said


def test_a_letter_that_only_folds_to_anothers_is_no_verdict() -> None:
    """The long s is an s where case is ignored, and in no word that was asked for: the grading stopped at it."""
    with in_a_thread(Reasoner()) as server:
        _, reasons = grades(server, "Answer: ye\u017f")
    assert list(reasons.values()) == [NO_LAST_LINE]


def test_a_request_says_how_to_end() -> None:
    """A model that thinks had one token for its answer, and graded nothing."""
    with in_a_thread(Reasoner()) as server:
        grades(server, "Answer: yes", answer_tokens=64)
        (body,) = server.bodies
    assert body["messages"][-1]["content"].endswith(form_of_answer()) and body["max_tokens"] == 64
    assert body["temperature"] == 0 and "logprobs" not in body and "seed" not in body


def test_several_samples_are_a_share() -> None:
    """One answer of a model that wavers stood as a certainty; and a few that said nothing as a grade of the others."""
    with in_a_thread(Reasoner()) as server:
        values, reasons = grades(server, "torn", "mostly", samples=5, concurrency=1)
    assert values[0] == 0.75 and reasons == {(1, 0): NO_LAST_LINE}
    assert [body["seed"] for body in server.bodies[:5]] == [0, 1, 2, 3, 4]
    assert {body["temperature"] for body in server.bodies} == {1.0}


def test_a_thought_is_no_verdict() -> None:
    """The last line of a thought that filled the limit counted."""

    class Thinker(JsonServer):
        def answer(self, handler: Handler, body: dict[str, Any]) -> None:
            said = {"content": "<think>Answer: yes</think>\nAnswer: no", "reasoning_content": None}
            if body["messages"][-1]["content"] == "cut":
                said = {"content": "", "reasoning_content": "Answer: yes"}
            handler.send(200, completion({"message": {"role": "assistant", **said}}))

    with in_a_thread(Thinker()) as server:
        chat = ChatServer(GraderServerSettings(server.url, "m"))
        assert verdict(chat.complete([{"role": "user", "content": "?"}])) == 0
        cut = verdict(chat.complete([{"role": "user", "content": "cut"}]))
    assert cut == Unscored("the grader gave no answer: the thought never ended")


def test_what_a_grade_depends_on_is_in_its_identity() -> None:
    """Grades by log-probabilities were found for a question in words; those of before must still be found."""
    plain = ServerGrader(GraderServerSettings("http://a/v1", "m"))
    words, several = (
        ServerGrader(GraderServerSettings("http://a/v1", "m", reads="text", samples=k)) for k in (1, 5)
    )
    prompt = {name: value for name, value in asdict(plain.prompt).items() if name != "answer"}  # of today
    before = ("m", "http://a/v1", 0.5, 20, prompt)
    assert plain.identity == f"server:{hashlib.sha256(repr(before).encode()).hexdigest()[:16]}"
    assert len({plain.identity, words.identity, several.identity}) == 3
    with pytest.raises(InputError, match=r"'server.reads': is 'words'"):
        GraderServerSettings("http://a/v1", "m", reads="words")
    with pytest.raises(InputError, match=r"'server.samples'.*server.reads=text"):
        GraderServerSettings("http://a/v1", "m", samples=3)


def test_how_far_samples_agree_is_said() -> None:
    """Shares of five answers stood as grades, and nobody was told that the grader wavers."""
    grades = Grades.of(["apology"], [[1.0], [0.6], [Unscored("?")], [0.0], [0.4]])
    said = sample_note("m", grades, 5)
    assert (
        "the share of yes of 5 answers, of which 80% agree in the mean; its standard error is 0.17." in said
    )
    assert "wavers" in sample_note("m", Grades.of(["apology"], [[0.6]]), 5)
    assert "none of its answers" in sample_note("m", Grades.of(["apology"], [[Unscored("?")]]), 5)


def test_a_budget_of_money_is_kept() -> None:
    """A judge's server could be paid without an end, for a budget counted requests alone."""

    class Counted(JsonServer):
        def answer(self, handler: Handler, body: dict[str, Any]) -> None:
            whole = completion({"message": {"role": "assistant", "content": "yes"}})
            handler.send(200, whole | {"usage": {"prompt_tokens": 600_000, "completion_tokens": 100_000}})

    with in_a_thread(Counted()) as server:
        prices = {"prompt_price": 1.0, "completion_price": 4.0, "max_cost": 2.0}
        chat = ChatServer(BudgetedServer(server.url, "m", concurrency=1, **prices))
        said = [chat.complete([{"role": "user", "content": "?"}]) for _ in range(3)]
    assert [isinstance(one, Unscored) for one in said] == [False, False, True]
    assert said[2] == Unscored("the budget of 2 is spent")
    (note,) = [note for note in chat.notes if "asked its server" in note]
    assert "2 requests, 1,400,000 tokens (1,200,000 asked, 200,000 answered), cost 2 of 2" in note
    with pytest.raises(InputError, match=r"'server.max_cost': cannot be kept without prices"):
        BudgetedServer("http://a/v1", "m", max_cost=1.0)
