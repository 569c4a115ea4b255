"""Granite Guardian as a grader: its block, the beginning of its answer, and what other graders are filed under."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_models import make_tokenizer, random_model
from transformers import LlamaForCausalLM

from evals.graders import GraderSpec, build_grader
from evals.graders.granite_guardian import ANSWER, PROMPT
from evals.graders.question import GraderPrompt, QuestionEncoder, ask
from evals.graders.server import ServerGrader
from evals.models.load import save_model
from evals.models.server import GraderServerSettings
from evals.rules.propositions import Proposition
from evals.values.conversation import Response, user_prompt
from evals.values.errors import InputError

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
POLITE = Proposition("polite", "Is it polite?")
RESPONSES = [
    Response(user_prompt("a", "hello there"), "hello"),
    Response(user_prompt("b", "there"), "there there"),
]


def words() -> list[str]:
    text = f"{ask(PROMPT, POLITE)} {ANSWER} hello there"
    return list(dict.fromkeys(["yes", "no", *text.split()]))


def test_the_question_is_a_criterion_in_the_published_block() -> None:
    text = ask(PROMPT, POLITE)
    assert text.startswith("<guardian><no-think>As a judge agent")
    assert (
        "\n\n### Criteria: The answer to this question about the last assistant's text is yes: Is it polite?\n\n"
        in text
    )
    assert text.endswith("return 'yes'; otherwise, return 'no'.")


def test_the_answer_is_begun_for_the_model() -> None:
    """Yes and no were weighed where the model opens its thought."""
    tokenizer = make_tokenizer(words(), TEMPLATE, marks=["<user>", "<assistant>", "<end>"])
    (ids,) = QuestionEncoder(tokenizer, PROMPT).suffixes([POLITE])
    end = tokenizer(ANSWER, add_special_tokens=False)["input_ids"]
    assert ids[-len(end) :] == end and tokenizer.convert_ids_to_tokens(ids)[-len(end) - 1] == "<assistant>"


def test_it_grades_as_a_kind(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(words(), TEMPLATE, marks=["<user>", "<assistant>", "<end>"])
    save_model(random_model(LlamaForCausalLM, tokenizer), tokenizer, tmp_path / "guardian")
    grader = build_grader(GraderSpec("granite_guardian", str(tmp_path / "guardian"), name="guardian"))
    grader._min_mass = 0.0  # type: ignore[attr-defined]  # random weights say yes and no rarely
    grades = grader.grade(RESPONSES, [POLITE])
    assert grades.probability.shape == (2, 1) and np.isfinite(grades.probability).all()
    plain = build_grader(GraderSpec("language_model", str(tmp_path / "guardian")))
    assert grader.identity != plain.identity  # type: ignore[attr-defined]


def test_prompts_that_begin_no_answer_are_filed_as_before() -> None:
    """Every grade in a cache of before was asked for again."""
    assert list(GraderPrompt().settings()) == ["layout", "template", "as_turn", "few_shot"]
    assert PROMPT.settings()["answer"] == ANSWER and GraderPrompt(**PROMPT.settings()) == PROMPT


def test_a_chat_server_cannot_have_its_answer_begun() -> None:
    with pytest.raises(InputError, match="asked in a turn after the response"):
        ServerGrader(GraderServerSettings("http://x/v1", "m"), prompt=PROMPT)
