"""Conversations made to fit a context: what is taken out, what is dropped, and that both are counted."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerBase

from evals.models.load import prompt_token_ids
from evals.values.conversation import Comparison, LabelledResponse, Message, Prompt, Response
from evals.values.errors import InputError
from harness.worlds.sources.fit import Fitter
from trainers.models.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    """Every byte a token: lengths can be counted by hand."""
    return train_tokenizer(["x"], 262, 64)


def talk(*texts: str) -> Prompt:
    return Prompt("p", tuple(Message("user" if i % 2 == 0 else "assistant", t) for i, t in enumerate(texts)))


def test_oldest_turns_go_first(tokenizer: PreTrainedTokenizerBase) -> None:
    """Cut in the middle of a turn, or at the end, a prompt asks something else."""
    fitter = Fitter(tokenizer, context=64, response_tokens=20)
    prompt = talk("a" * 10, "b" * 10, "c" * 10)  # BOS, 3 role marks, EOS, the answer's mark, 30 bytes
    assert len(prompt_token_ids(tokenizer, prompt.messages)) == 36
    assert fitter.shortened(prompt, 36) is prompt
    assert fitter.shortened(prompt, 35) == talk("c" * 10)
    assert fitter.shortened(prompt, 12) is None


def test_what_does_not_fit_is_counted(tokenizer: PreTrainedTokenizerBase) -> None:
    """Rows dropped in silence: the report says 2,000 demonstrations and there were 900."""
    fitter = Fitter(tokenizer, context=64, response_tokens=20)
    kept = fitter.prompts("rl", [talk("a" * 40), talk("a" * 41), talk("a" * 9, "b" * 30, "c" * 9)])
    assert [len(prompt.messages) for prompt in kept] == [1, 1]
    assert fitter.counts == {"rl": {"kept": 2, "shortened": 1, "dropped": 1}}


def test_room_for_the_longer_reply_and_its_end(tokenizer: PreTrainedTokenizerBase) -> None:
    """A comparison whose EOS was cut off teaches the reward model nothing about endings."""
    fitter = Fitter(tokenizer, context=64, response_tokens=20)
    rows = [Comparison(talk("a" * 10), "c", "r" * length) for length in (50, 51)]
    kept = fitter.rows("rm", [rows[0]]) + fitter.rows("rm", [rows[1]])
    assert kept == [rows[0]]  # 3 marks + 10 + 50 + EOS = 64
    assert fitter.counts["rm"]["dropped"] == 1


def test_a_prompt_stays_the_same_in_all_its_rows(tokenizer: PreTrainedTokenizerBase) -> None:
    """Two completions of one prompt, shortened apart, are compared on different prompts."""
    fitter = Fitter(tokenizer, context=64, response_tokens=10, question_tokens=4)
    prompt = talk("a" * 10, "b" * 10, "c" * 10)
    rows = [LabelledResponse(Response(prompt, "r" * length)) for length in (5, 30, 60)]
    kept = fitter.rows("gold", rows)
    assert [row.response.text for row in kept] == ["r" * 5, "r" * 30]
    assert {row.response.prompt for row in kept} == {talk("c" * 10)}
    assert fitter.counts["gold"] == {"kept": 2, "shortened": 2, "dropped": 1}


def test_evaluation_prompts_are_never_dropped(tokenizer: PreTrainedTokenizerBase) -> None:
    """A benchmark of 449 of 450 prompts is another benchmark."""
    fitter = Fitter(tokenizer, context=64, response_tokens=20)
    with pytest.raises(InputError, match="evaluation prompt 'p' has 44 tokens, the room is 43"):
        fitter.whole("eval", [talk("a" * 41)])


def test_long_questions_leave_no_room(tokenizer: PreTrainedTokenizerBase) -> None:
    """The released questions have 1,500 tokens: every gold label was dropped as too long."""
    with pytest.raises(InputError, match="rulebook=short"):
        Fitter(tokenizer, context=64, response_tokens=20, question_tokens=40)
