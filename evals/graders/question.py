"""Turn (response, proposition) into the tokens that a language model reads before it says yes or no.

Every question is a prefix, which many questions share, and a suffix of its own:

- response_first (default): the prefix is the conversation in the model's chat template, the suffix
  the question; a response is encoded once for all its propositions.
- question_first (the order of the paper's template): the question stands before the response, so
  the prefix belongs to one (response, proposition) and the suffix is the template's common end.

Template and content are tokenized apart: the template's tokens are the same whatever a response holds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from evals.models.thoughts import of_tokenizer
from evals.models.untrusted import ContentEncoder, neutralise
from evals.rules.propositions import Proposition
from evals.values.conversation import Message, Response
from evals.values.errors import InputError
from evals.values.levels import words_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

INSTRUCTION = """Look at your last message in this conversation and answer the following question about it:
{question}

Please answer the question with "yes" or "no". Do not include any other text in your response."""

TEXT_MARKERS = ("```", "USER:", "ASSISTANT:", "SYSTEM:")  # how a conversation is written inside one message
_SLOT = "@@slot-{}@@"
_FIELD = re.compile(r"\{(question|conversation|response)\}")
_YES_OR_NO = re.compile(r"""(["'`]?)yes\1 ?(?:or|/) ?(["'`]?)no\2""", re.IGNORECASE)


class Layout(str, Enum):
    RESPONSE_FIRST = "response_first"
    QUESTION_FIRST = "question_first"


@dataclass
class GraderPrompt:
    """How a proposition is put to the model.

    In question_first without {conversation}, the conversation is written as chat turns before the template.
    """

    layout: Layout = Layout.RESPONSE_FIRST  # response_first shares what was read; or question_first
    template: str = INSTRUCTION  # has {question}; of question_first {response}, and {conversation} if wished
    as_turn: bool = True  # as a user's turn of the chat template; false: right after the response
    few_shot: bool = True  # with the proposition's examples
    answer: str = ""  # the beginning of the answer, written for the model: yes or no is what follows it

    def __post_init__(self) -> None:
        self.layout = Layout(self.layout)
        fields = _FIELD.findall(self.template)
        question_first = self.layout is Layout.QUESTION_FIRST
        if fields.count("question") != 1:
            raise _template_error("has no {question} (or more than one)", "write {question} once")
        if question_first and (not self.as_turn or fields.count("response") != 1):
            raise _template_error(
                "does not fit question_first", "write {response} once, after {question}, with as_turn true"
            )
        if not question_first and fields != ["question"]:
            raise _template_error("has fields other than {question}", "remove them, or use question_first")

    def settings(self) -> dict[str, Any]:
        """Its content, for digests and files: those of prompts that begin no answer are as before there were any."""
        found = asdict(self)
        return found if self.answer else {name: value for name, value in found.items() if name != "answer"}


# For a small model trained to answer: the bare question after the response, then the answer.
PLAIN = GraderPrompt(template="{question}", as_turn=False, few_shot=False)


def remember_prompt(model: PreTrainedModel, prompt: GraderPrompt) -> None:
    """Save the prompt with the model's own configuration, so that a grader is asked as it was trained."""
    model.config.grader_prompt = prompt.settings() | {"layout": prompt.layout.value}


def remembered_prompt(model: PreTrainedModel) -> GraderPrompt:
    """The prompt that the model was trained with; the default for a model that was not trained here."""
    saved = getattr(model.config, "grader_prompt", None)
    return GraderPrompt(**saved) if saved else GraderPrompt()


def question_text(prompt: GraderPrompt, proposition: Proposition) -> str:
    """The question, with its examples where the prompt wants them."""
    if not (prompt.few_shot and proposition.examples):
        return proposition.question
    examples = "\n\n".join(f"{text}\nAnswer: {answer}" for text, answer in proposition.examples)
    return f"{proposition.question}\n\nExamples:\n{examples}"


def template_for(prompt: GraderPrompt, proposition: Proposition) -> str:
    """The prompt's template. Where it asks for yes or no, a proposition with levels has their words there.

    Where it does not, they are named after the question, but for a model that was trained to answer the bare question.
    """
    if not proposition.levels:
        return prompt.template
    words = words_of(proposition.levels, '"')
    found, times = _YES_OR_NO.subn(words, prompt.template)
    if times or not prompt.as_turn:
        return found
    return prompt.template.replace("{question}", f"{{question}}\n\nPlease answer with {words} alone.")


def ask(prompt: GraderPrompt, proposition: Proposition) -> str:
    """response_first: the text that follows the conversation."""
    return template_for(prompt, proposition).replace("{question}", question_text(prompt, proposition))


class QuestionEncoder:
    """Tokenizes prefixes and suffixes. Raises InputError for a chat template that drops a turn."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: GraderPrompt) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt
        in_text = prompt.layout is Layout.QUESTION_FIRST
        plain = () if tokenizer.chat_template else ("User:", "Assistant:", "System:")
        self._content = ContentEncoder(tokenizer, TEXT_MARKERS if in_text else plain)
        self._pieces = lru_cache(maxsize=256)(self._encode_pieces)

    def prefixes(self, responses: Sequence[Response]) -> list[list[int]]:
        """response_first: one shared prefix a response."""
        prompt = self._prompt
        texts = [[m.content for m in r.prompt.messages] + [r.text] for r in responses]
        roles = [(*(m.role for m in r.prompt.messages), "assistant") for r in responses]
        pieces = [self._pieces((*role, "user") if prompt.as_turn else role, prompt.as_turn) for role in roles]
        contents = iter(self._encode([text for row in texts for text in row]))
        rows = []
        for row, piece in zip(texts, pieces, strict=True):
            ids = list(piece[0])
            for number in range(len(row)):
                ids += next(contents) + piece[number + 1]
            rows.append(ids)
        return rows

    def suffixes(self, propositions: Sequence[Proposition]) -> list[list[int]]:
        """response_first: one suffix a proposition; the answer is the token after its last one."""
        questions = [ask(self._prompt, p) for p in propositions]
        end = self._pieces(("user", "assistant", "user"), True)[-1] if self._prompt.as_turn else []
        return [[*ids, *end] for ids in self._encode(questions)]

    def paired(self, response: Response, proposition: Proposition) -> list[int]:
        """question_first: the whole prefix of one (response, proposition), without the common end."""
        template = template_for(self._prompt, proposition)
        fields = _FIELD.split(template)  # text, field, text, field, ..., text
        values = {
            "question": question_text(self._prompt, proposition),
            "response": neutralise(response.text, self._content.markers),
            "conversation": self.conversation(response.prompt.messages),
        }
        alone = "conversation" in fields
        turns = () if alone else (*response.prompt.messages, Message("assistant", response.text))
        pieces = self._pieces((*(m.role for m in turns), "user"), True)
        ids = list(pieces[0])
        for turn, piece in zip(self._encode([m.content for m in turns]), pieces[1:], strict=False):
            ids += turn + piece
        texts = [values[part] if number % 2 else part for number, part in enumerate(fields)]
        for part in self._content.tokenize(texts):
            ids += part
        return ids

    def common_end(self) -> list[int]:
        """question_first: the suffix that every prefix shares."""
        return list(self._pieces(("user",), True)[-1])

    def conversation(self, messages: Sequence[Message]) -> str:
        """The conversation as text, its markers neutralised inside each message."""
        return "\n".join(
            f"{m.role.upper()}: {neutralise(m.content, self._content.markers)}" for m in messages
        )

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        # The plain `User: ...` lines put a space before their content; chat templates write their own.
        return self._content(texts if self._tokenizer.chat_template else [f" {text}" for text in texts])

    def _encode_pieces(self, roles: tuple[str, ...], generation: bool) -> list[list[int]]:
        """The template's own text around each turn, as tokens: one more piece than there are turns."""
        text = self._render(roles, generation)
        parts = re.split("|".join(re.escape(_SLOT.format(i)) for i in range(len(roles))), text)
        if len(parts) != len(roles) + 1:
            raise InputError(
                "the chat template drops, repeats or rewrites a turn",
                field="chat_template",
                fix="give the grader a tokenizer whose template writes each message once",
            )
        return [
            self._tokenizer(part, add_special_tokens=False)["input_ids"] if part else [] for part in parts
        ]

    def _render(self, roles: tuple[str, ...], generation: bool) -> str:
        from jinja2 import TemplateError  # not for keys and help, which name no tokenizer

        slots = [{"role": role, "content": _SLOT.format(i)} for i, role in enumerate(roles)]
        if not self._tokenizer.chat_template:
            lines = "\n".join(f"{s['role'].capitalize()}:{s['content']}" for s in slots)
            begun = f"\nAssistant:{f' {self._prompt.answer}' if self._prompt.answer else ''}"
            return f"{self._bos()}{lines}" + (begun if generation else "\n")
        try:
            text: Any = self._tokenizer.apply_chat_template(
                slots, tokenize=False, add_generation_prompt=generation
            )
        except TemplateError as error:
            raise InputError(
                f"the chat template refuses turns of {', '.join(roles)} ({error})",
                field="chat_template",
                fix="use prompts whose roles the grader's template knows",
            ) from None
        return str(text) + (self._end_of_thought + self._prompt.answer if generation else "")

    @property
    def _end_of_thought(self) -> str:
        """Where the template opens a thought for the model, its end: the answer is asked for, not the thought."""
        opened = of_tokenizer(self._tokenizer).opened
        return f"\n{opened[1]}\n\n" if opened else ""

    def _bos(self) -> str:
        first = self._tokenizer("")["input_ids"][:1]
        return str(self._tokenizer.bos_token) if first == [self._tokenizer.bos_token_id] else ""


def _template_error(problem: str, fix: str) -> InputError:
    return InputError(f"the grader's template {problem}", field="grader.template", fix=fix)
