"""Messages, prompts, responses and labels: frozen values."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from typing import Any

from evals.values.levels import Label, Levels, levels_of


class ResponseType(str, Enum):
    """What a safety prompt asks of the model: the paper's four (section 3), and those of one's own.

    One of one's own is written `KIND:NAME`, the kind one of KINDS. A rulebook says the kind once, and data that are
    read with it name the type alone.
    """

    COMPLY = "comply"
    HARD_REFUSE = "hard_refuse"
    SAFE_REFUSE_1 = "safe_refuse_1"
    SAFE_REFUSE_2 = "safe_refuse_2"

    @classmethod
    def _missing_(cls, value: object) -> ResponseType | None:
        """Types of one's own are made when they are first named, one object each."""
        kind, _, name = str(value).partition(":")
        if kind not in KINDS or not OWN_NAME.fullmatch(name):
            return None
        made = str.__new__(cls, value)
        made._name_ = made._value_ = str(value)
        found = cls._value2member_map_.setdefault(made._value_, made)
        assert isinstance(found, ResponseType)
        return found

    @classmethod
    def own(cls, name: str, kind: str) -> ResponseType:
        """The type `name` of the kind; both as people write them. Raises ValueError for no kind, and for no name."""
        return cls(f"{_plain(kind)}:{_plain(name)}")

    @property
    def label(self) -> str:
        """The name without its kind."""
        return self.value.rpartition(":")[2]

    @property
    def like(self) -> ResponseType:
        """The paper's type of this kind: itself, for one of the paper's."""
        kind, is_own, _ = self.value.partition(":")
        return KINDS[kind] if is_own else self

    @property
    def is_refusal(self) -> bool:
        return self.like is not ResponseType.COMPLY

    @classmethod
    def parse(cls, name: str) -> ResponseType:
        """Accept `hard_refuse` and the released files' `Hard Refuse`. Raises ValueError."""
        return cls(_plain(name))


KINDS: Mapping[str, ResponseType] = {
    "refuse": ResponseType.HARD_REFUSE,
    "refuse_softly": ResponseType.SAFE_REFUSE_2,
    "answer": ResponseType.COMPLY,
}
OWN_NAME = re.compile(r"[^\W\d]\w*")


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def types_in_order(types: Iterable[ResponseType]) -> list[ResponseType]:
    """Each once: the paper's in their order, then one's own by kind and name."""
    paper, given = list(ResponseType), set(types)
    return [t for t in paper if t in given] + sorted(given - {*paper})


@dataclass(frozen=True)
class Message:
    """One turn: `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Question:
    """One that a prompt brings along about its response, of yes or no where it has no `levels`.

    `weight` is below 0 where yes, or the highest level, is good.
    """

    text: str
    weight: float = 1.0
    levels: Levels = ()


@dataclass(frozen=True)
class Prompt:
    """A conversation that ends with a user's message; `response_type` is None off the safety areas."""

    id: str
    messages: tuple[Message, ...]
    response_type: ResponseType | None = None
    category: str = "none"
    topic: str = ""  # what it asks about, where a file names it: prompts of one topic err together
    questions: tuple[Question, ...] = field(default=(), repr=False)  # its own rubric, where it has one

    @property
    def text(self) -> str:
        """The last user message."""
        return self.messages[-1].content


@dataclass(frozen=True)
class Response:
    """One model's answer to one prompt; `finished` is False when the length limit cut it.

    `thought` is what it wrote before the answer, of `thought_tokens` tokens where they are counted; `unanswered` why
    there is no answer, whose `text` is "" then.
    """

    prompt: Prompt
    text: str
    sample: int = 0
    finished: bool = True
    thought: str = ""
    unanswered: str = ""
    thought_tokens: int = 0


@dataclass(frozen=True)
class Demonstration:
    """A response to learn; one that the length limit cut (`finished` False) is learnt without its end."""

    prompt: Prompt
    text: str
    finished: bool = True


@dataclass(frozen=True)
class Comparison:
    prompt: Prompt
    chosen: str
    rejected: str


@dataclass(frozen=True)
class LabelledResponse:
    """A response with the truth, or the level, of its propositions (human, or the sandbox's oracle)."""

    response: Response
    propositions: Mapping[str, Label] = field(default_factory=dict)
    completion_class: str | None = None


def user_prompt(
    id: str, text: str, response_type: ResponseType | None = None, category: str = "none"
) -> Prompt:
    """A single-turn prompt."""
    return Prompt(id, (Message("user", text),), response_type, category)


QUESTIONS_FIX = 'write ["Does it ...?", {"text": "...", "weight": -1}], no weight being 0'


QUESTION_KEYS = ("text", "levels", "weight", "polarity")


def questions_of(found: object) -> tuple[Question, ...]:
    """Texts, or objects with `text` and perhaps `levels`, `weight`, or `polarity` (good, bad) in place of its sign.

    Further keys, such as an id, say nothing here, and null says as little; one that is nearly one of these is refused.
    Raises ValueError, which says what is wrong, for anything else; LevelsError, which also says what to do, for levels.
    """
    if not isinstance(found, list | tuple):
        raise ValueError("is no list")
    return tuple(_question(number, one) for number, one in enumerate(found, 1))


def _question(number: int, one: object) -> Question:
    told: Mapping[str, Any] = one if isinstance(one, Mapping) else {"text": one}
    for key in told:
        if key not in QUESTION_KEYS and (near := get_close_matches(str(key), QUESTION_KEYS, 1, 0.7)):
            raise ValueError(f"entry {number} has the key {key!r}, which is no {near[0]!r}")
    text, weight, polarity = told.get("text"), told.get("weight"), told.get("polarity")
    if weight is None:
        weight = 1.0
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        weight = 0.0
    if not isinstance(text, str) or not text.strip() or not math.isfinite(weight) or not weight:
        raise ValueError(f"entry {number} is no question")
    levels = levels_of(told["levels"]) if told.get("levels") is not None else ()
    if polarity is None:
        return Question(text.strip(), float(weight), levels)
    if polarity not in ("good", "bad") or weight < 0:
        raise ValueError(f"entry {number} has the polarity {polarity!r} and the weight {weight}")
    return Question(text.strip(), float(weight) if polarity == "bad" else -float(weight), levels)


def question_as_json(one: Question) -> dict[str, Any]:
    """As `questions_of` reads it."""
    levels = {level.word: level.score for level in one.levels}
    return {"text": one.text, "weight": one.weight, **({"levels": levels} if levels else {})}


def messages_as_json(messages: Iterable[Message]) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in messages]


def prompt_id(messages: Iterable[Message]) -> str:
    """An id by content, for files whose prompts carry none."""
    text = json.dumps(messages_as_json(messages), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
