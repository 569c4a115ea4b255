"""Make conversations fit a model's context: old turns go first, then the row; both are counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar, cast

from evals.values.conversation import Comparison, Demonstration, LabelledResponse, Prompt
from evals.values.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Item = TypeVar("Item", Demonstration, Comparison, LabelledResponse)
ENDS = 1  # the EOS after a response


@dataclass
class Fitter:
    """`counts[file]` = rows kept, kept with their oldest turns taken out (`shortened`), and dropped.

    `context`, `response_tokens` (room for a response still to be written) and `question_tokens` (room for
    a grader's question after it) are tokens. Raises InputError where the three leave nothing for a prompt.
    """

    tokenizer: PreTrainedTokenizerBase
    context: int
    response_tokens: int
    question_tokens: int = 0
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        left = self.context - self.question_tokens - self.response_tokens
        if left < 16:
            raise InputError(
                f"a context of {self.context} tokens leaves {left} for prompts beside a response of "
                f"{self.response_tokens} and a grader's question of {self.question_tokens}",
                field="real.context",
                fix="raise it, lower real.response_tokens, or use rulebook=short, whose questions are short",
            )

    def prompts(self, name: str, items: Iterable[Prompt], *, graded: bool = False) -> list[Prompt]:
        """Prompts with room for a response and, when it will be `graded`, for the grader's question."""
        room = self.context - self.response_tokens - ENDS - (self.question_tokens if graded else 0)
        return [kept for item in items if (kept := self._counted(name, item, self.shortened(item, room)))]

    def whole(self, name: str, items: Sequence[Prompt]) -> list[Prompt]:
        """Evaluation prompts, of which none may be changed or lost. Raises InputError for one too long."""
        room = self.context - self.response_tokens - self.question_tokens - ENDS
        for item in items:
            if (length := self._length(item)) > room:
                raise InputError(
                    f"evaluation prompt {item.id!r} has {length} tokens, the room is {room}",
                    field="real.context",
                    fix="raise it or lower real.response_tokens",
                )
        self.counts[name] = {"kept": len(items), "shortened": 0, "dropped": 0}
        return list(items)

    def rows(self, name: str, items: Iterable[Item]) -> list[Item]:
        """Rows that fit, labelled responses with a grader's question; a prompt stays the same in all its rows."""
        items = list(items)
        groups: dict[str, list[Item]] = {}
        for item in items:
            groups.setdefault(prompt_of(item).id, []).append(item)
        tokens = iter(self._tokens([text for item in items for text in _texts(item)]))
        lengths = {id(item): max(next(tokens) for _ in _texts(item)) for item in items}
        kept = []
        for group in groups.values():
            # The longest response leaves before the prompt does: it is one row, the prompt is all of them.
            rest = sorted(group, key=lambda item: lengths[id(item)])
            reserve = self.question_tokens if isinstance(rest[0], LabelledResponse) else 0
            prompt = None
            while rest and prompt is None:
                room = self.context - reserve - ENDS - lengths[id(rest[-1])]
                prompt = self.shortened(prompt_of(rest[0]), room)
                rest = rest if prompt else rest[:-1]
            for item in group:
                fits = prompt if any(item is other for other in rest) else None
                if (shorter := self._counted(name, prompt_of(item), fits)) is not None:
                    kept.append(_with_prompt(item, shorter))
        return kept

    def apart(
        self, name: str, prompts: Iterable[Prompt], pool: Iterable[LabelledResponse]
    ) -> tuple[list[Prompt], list[LabelledResponse]]:
        """Prompts and responses of which any two fit together, a grader's question beside them: two fifths
        of the room for the prompt, three for the response.
        """
        room = self.context - self.question_tokens - ENDS
        for_prompt, for_response = 2 * room // 5, room - 2 * room // 5
        fitting = [
            kept
            for item in prompts
            if (kept := self._counted(f"{name} prompts", item, self.shortened(item, for_prompt)))
        ]
        rows, short = list(pool), []
        for row, length in zip(rows, self._tokens([row.response.text for row in rows]), strict=True):
            prompt = row.response.prompt if length <= for_response else None
            if self._counted(f"{name} responses", row.response.prompt, prompt) is not None:
                short.append(row)
        return fitting, short

    def shortened(self, prompt: Prompt, room: int) -> Prompt | None:
        """The prompt without its oldest turns, as few as will do and whole; None if none will do."""
        for start, message in enumerate(prompt.messages):
            if message.role != "user":
                continue
            shorter = replace(prompt, messages=prompt.messages[start:]) if start else prompt
            if self._length(shorter) <= room:
                return shorter
        return None

    def _counted(self, name: str, before: Prompt, after: Prompt | None) -> Prompt | None:
        counts = self.counts.setdefault(name, {"kept": 0, "shortened": 0, "dropped": 0})
        counts["dropped" if after is None else "kept"] += 1
        counts["shortened"] += after is not None and len(after.messages) < len(before.messages)
        return after

    def _length(self, prompt: Prompt) -> int:
        from evals.models.load import prompt_token_ids

        return len(prompt_token_ids(self.tokenizer, prompt.messages))

    def _tokens(self, texts: list[str]) -> list[int]:
        """Length of each text, all of them in one call."""
        if not texts:
            return []
        return list(map(len, self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]))


def question_tokens(tokenizer: PreTrainedTokenizerBase, questions: Iterable[str]) -> int:
    """Tokens of the longest question, with a few for what a template puts around it."""
    lengths = [len(tokenizer(q, add_special_tokens=False, verbose=False)["input_ids"]) for q in questions]
    return max(lengths, default=0) + 4


def prompt_of(item: Prompt | Demonstration | Comparison | LabelledResponse) -> Prompt:
    if isinstance(item, Prompt):
        return item
    return item.response.prompt if isinstance(item, LabelledResponse) else item.prompt


def _texts(item: Demonstration | Comparison | LabelledResponse) -> tuple[str, ...]:
    """What is answered in a row."""
    if isinstance(item, Comparison):
        return item.chosen, item.rejected
    return (item.response.text,) if isinstance(item, LabelledResponse) else (item.text,)


def _with_prompt(item: Item, prompt: Prompt) -> Item:
    if isinstance(item, LabelledResponse):
        return cast(
            Item, replace(cast(LabelledResponse, item), response=replace(item.response, prompt=prompt))
        )
    return replace(item, prompt=prompt)
