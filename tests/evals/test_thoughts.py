"""Thoughts and answers: the answer alone is read, whoever wrote the two and however they are marked."""

from __future__ import annotations

import pytest
import torch
from families import FAMILIES, Family, tokenizer_of
from openai.types.chat import ChatCompletion

from evals.graders.question import GraderPrompt, QuestionEncoder
from evals.graders.server import verdict
from evals.judges.text_backend import _text as judges_text
from evals.models.answer import reasoning_tokens
from evals.models.chat import ResponseEncoder
from evals.models.sampling import Generation, read_responses
from evals.models.thoughts import (
    HARMONY,
    PAIRS,
    SILENT,
    UNENDED,
    Parted,
    of_completions,
    of_text,
    of_tokenizer,
)
from evals.rules.propositions import Proposition
from evals.values.errors import InputError
from evals.values.grades import Unscored
from harness.report.exports.lm_eval_functions import answer_of
from harness.subjects.server_model import read_answer

OPENED = (
    "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}"
)


def family(name: str, template: str | None = None, marks: tuple[str, ...] = ()) -> Family:
    given = FAMILIES[name]
    kept = {**given.__dict__, "template": template or given.template, "marks": (*given.marks, *marks)}
    return Family(**kept)


def written(tokenizer, text: str) -> Generation:  # type: ignore[no-untyped-def]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    zeros = torch.zeros(1, len(ids))
    return Generation(torch.tensor([ids]), torch.tensor([len(ids)]), torch.tensor([True]), zeros, zeros)


@pytest.mark.parametrize(
    ("text", "answer", "thought", "unanswered"),
    [
        ("<think>\nHm.\n</think>\n\nNo.", "No.", "Hm.", ""),
        (" <think>Hm.</think>No.</think>Yes.", "No.</think>Yes.", "Hm.", ""),  # a second mark hides nothing
        ("<think>Hm", "", "Hm", UNENDED),
        ("<think>Hm.</think> ", "", "Hm.", SILENT),
        ("<think>\n\n</think>\n\nNo.", "No.", "", ""),
        ("<think></think>", "", "", SILENT),  # no answer is none, and not one that complies
        ("Hm.</think>No.", "No.", "Hm.", ""),  # the template opened it
        ("[THINK]Hm.[/THINK]No.", "No.", "Hm.", ""),
        ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>No.", "No.", "Hm.", ""),
        (f"<|start|>assistant{HARMONY[0]}Hm.<|end|><|start|>assistant{HARMONY[1]}No.<|return|>", "No.", "Hm.", ""),
        ("I <think> so.", "I <think> so.", "", ""),
        ("\ufeff<Think>Hm.</Think>No.", "No.", "Hm.", ""),
        ("Sure: mix it. <think>Hm.</think>No.", "Sure: mix it.\nNo.", "Hm.", ""),  # what it said is not hidden
        ("Hm <think> and </think> and.</think>No.", "and.</think>No.", "Hm <think> and", ""),
        ("\u25c1think\u25b7Hm.\u25c1/think\u25b7No.", "No.", "Hm.", ""),
        ("<|channel>thought\nHm.\n<channel|>No.", "No.", "Hm.", ""),
        ("<|inner_prefix|>Hm.<|inner_suffix|>No.", "No.", "Hm.", ""),
        ("Here is my thought process:\nHm.\n\nHere is my response:\nNo.", "No.", "Hm.", ""),
        ("You wrote. Here is my response: no.", "You wrote. Here is my response: no.", "", ""),
        ("analysisWe must refuse.assistantfinalNo.", "No.", "We must refuse.", ""),
        ("analysis of it", "analysis of it", "", ""),
    ],
)  # fmt: skip
def test_a_text_is_parted(text: str, answer: str, thought: str, unanswered: str) -> None:
    """A thought was judged as the answer: a refuser after thinking counted as a complier."""
    assert of_text().part(text) == Parted(answer, thought, unanswered)


def test_a_key_says_the_marks() -> None:
    """A model's own marks were known to nobody; and a policy that does not think closed what it should not say."""
    assert of_text("<a> </a>").part("<a>Hm.</a>No.").answer == "No."
    said = of_text("'My thoughts:' 'My answer:'").part("My thoughts: Hm. My answer: No.")
    assert (said.answer, said.thought) == ("No.", "Hm.")
    assert of_text("none").part("<think>Hm.</think>No.") == Parted("<think>Hm.</think>No.")
    assert of_completions().part("Harm.</think>No.").answer == "Harm.</think>No."
    assert of_completions("<think> </think>").part("Hm.</think>No.").answer == "No."
    with pytest.raises(InputError, match=r"decoding.thoughts.*'<a>'"):
        of_text("<a>")


def test_a_tokenizers_own_marks_are_read_and_counted() -> None:
    """Marks that are special tokens were dropped before they were looked for, and thought and answer were one."""
    tokenizer = tokenizer_of(FAMILIES["Qwen3"])
    assert {"<think>", "</think>"} <= set(tokenizer.all_special_tokens)
    (read,) = read_responses(tokenizer, written(tokenizer, "<think>Hm.</think>No.<|im_end|>"))
    assert read == Parted("No.", "Hm.", "", thought_tokens=len("Hm.") + 2 + 1)  # bytes, two marks, the end
    (read,) = read_responses(tokenizer, written(tokenizer, "No.<|im_end|>"))
    assert read == Parted("No.")
    (read,) = read_responses(tokenizer, written(tokenizer, "<think>Hm."))
    assert read == Parted("", "Hm.", UNENDED, thought_tokens=4)
    plain = tokenizer_of(FAMILIES["Llama 3"])
    (read,) = read_responses(plain, written(plain, "<think>Hm.</think>No."))
    assert read == Parted("<think>Hm.</think>No.")  # no model that thinks: nothing is taken from what is paid


def test_special_tokens_of_any_form_are_kept_as_marks() -> None:
    """Marks that are special tokens of another form than <...> were dropped, and the thought was judged."""
    marks = ("\u25c1think\u25b7", "\u25c1/think\u25b7")
    tokenizer = tokenizer_of(family("Llama 3", marks=marks))
    text = f"{marks[0]}Hm.{marks[1]}No.<|eot_id|>"
    (read,) = read_responses(tokenizer, written(tokenizer, text))
    assert (read.answer, read.thought) == ("No.", "Hm.")


def test_a_thought_that_the_prompt_opens() -> None:
    """DeepSeek-R1's template opens the thought: the response has no mark that opens, and its demonstrations none."""
    tokenizer = tokenizer_of(family("Qwen3", OPENED))
    assert of_tokenizer(tokenizer).opened == ("<think>", "</think>")
    (read,) = read_responses(tokenizer, written(tokenizer, "Hm.</think>No."))
    assert (read.answer, read.thought) == ("No.", "Hm.")
    (read,) = read_responses(tokenizer, written(tokenizer, "Hm."))
    assert read.unanswered == UNENDED
    (ids,) = ResponseEncoder(tokenizer)(["No."])
    assert tokenizer.decode(ids) == "\n</think>\n\nNo.<|im_end|>"
    assert of_tokenizer(tokenizer_of(FAMILIES["Qwen3"])).opened is None


def test_a_grader_is_asked_for_its_answer() -> None:
    """P(yes) was read within the thought that the template opens, and every grade was unscored."""
    for template, end in ((OPENED, "</think>\n\n"), (None, "<|im_start|>assistant\n")):
        encoder = QuestionEncoder(tokenizer_of(family("Qwen3", template)), GraderPrompt())
        text = encoder._tokenizer.decode(encoder.suffixes([Proposition("refuses", "Does it refuse?")])[0])
        assert text.endswith(end)


def test_tokens_of_a_servers_thought() -> None:
    """A count of any shape became a number."""
    assert reasoning_tokens({"completion_tokens_details": {"reasoning_tokens": 7}}) == 7
    for usage in (
        None,
        {},
        {"completion_tokens_details": {"reasoning_tokens": "7"}},
        {"completion_tokens_details": 3},
    ):
        assert reasoning_tokens(usage) == 0


def test_an_exported_task_matches_the_answer() -> None:
    """lm-eval hands over the whole text: a refusal behind a thought was none."""
    texts = ("<think>Hm.</think>\nI cannot.", "Hm.</think>I cannot.", "I cannot.", "<think>I cannot")
    assert [answer_of(text).strip() for text in texts] == ["I cannot."] * 3 + [""]
    for opens, closes in PAIRS:
        assert answer_of(f"{opens}Hm.{closes}No.") == answer_of(f"Hm.{closes}No.") == "No."
        assert answer_of(f"No. {opens}Hm.{closes}") == f"No. {opens}Hm.{closes}"  # what it said is not hidden


def test_a_thought_among_a_messages_parts() -> None:
    """Mistral's models hand a thought over as a part of the content: a judge that thinks so judged nothing."""
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
        {"type": "text", "text": "No."},
    ]
    choices = [{"message": {"role": "assistant", "content": parts}, "finish_reason": "stop", "index": 0}]
    completion = ChatCompletion.construct(choices=choices)
    read = read_answer(completion, 9)
    assert not isinstance(read, Unscored) and (read.text, read.thought) == ("No.", "Hm.")
    assert judges_text(completion) == "No." and verdict(completion) == 0.0
    for text, thought in (
        ("<think>Hm.</think>No.", "Hm."),
        ("<think>So.</think>No.", "Hm.\n\nSo."),
        ("No.", "Hm."),
    ):
        twice = {"role": "assistant", "content": text, "reasoning_content": "Hm."}
        choice = {"message": twice, "finish_reason": "stop", "index": 0}
        read = read_answer(ChatCompletion.construct(choices=[choice]), 9)
        assert not isinstance(read, Unscored) and (read.text, read.thought) == ("No.", thought)
    choices[0]["message"]["content"] = parts[:1]  # type: ignore[index]
    silent = judges_text(ChatCompletion.construct(choices=choices))
    assert isinstance(silent, Unscored) and UNENDED in silent.reason
