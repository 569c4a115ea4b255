"""Rows as prompts, demonstrations, comparisons and labelled responses, by TRL's names or a source's columns.

The forms are those of TRL's dataset formats (huggingface.co/docs/trl/dataset_formats): prompt-only, prompt-completion,
preference with an explicit or implicit prompt, conversational or plain, and language-modelling conversations. Beside
them: transcripts of Human and Assistant, two responses with votes of annotators, and labels of propositions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeVar

from evals.values.conversation import (
    Comparison,
    Demonstration,
    LabelledResponse,
    Message,
    Prompt,
    Response,
    ResponseType,
    Row,
    prompt_id,
)
from evals.values.errors import InputError
from harness.worlds.mixture.source import LEFT_OUT, Source, type_called, types_by_name
from harness.worlds.sources.hh_rlhf import parse_transcript

Item = TypeVar("Item", Prompt, Demonstration, Comparison, LabelledResponse)
TRANSCRIPT = ("Human:", "\n\nHuman:")
ROLES = ("system", "user", "assistant")
FIRST, SECOND, VOTES = "first", "second", "votes"  # of a pair that annotators voted on: 1, 2, or 0 for a tie


class NotTaken(Exception):
    """A row that is well formed and is not to be taken; its text is the reason."""


@dataclass(frozen=True)
class RowReader:
    """Reads rows of one source; `known` are the rulebook's propositions, for labels, and `types` its response types."""

    source: Source
    known: frozenset[str] = frozenset()
    types: Mapping[str, ResponseType] = field(default_factory=types_by_name)

    def prompt(self, row: Row) -> Prompt:
        messages = self._messages(row, "prompt") or self._messages(row, "messages")
        if messages is None and any(name in row.values for name in (self._column("chosen"), "chosen")):
            messages = self.comparison(row).prompt.messages
        if messages is None:
            raise self._lacks(row, "prompt")
        if messages[-1].role == "assistant":
            if isinstance(row.values.get(self._column("prompt")), list):  # a transcript ends so
                fix = (
                    "end it with the user's turn, or name the column messages, whose last reply is not asked"
                )
                raise row.error(self._column("prompt"), "ends with the assistant's turn", fix)
            messages = messages[:-1]
        return self._prompt(row, messages)

    def demonstration(self, row: Row) -> Demonstration:
        prompt, text = self._answered(row)
        return Demonstration(prompt, self._filled(row, "completion", text))

    def _answered(self, row: Row) -> tuple[Prompt, str]:
        whole = self._messages(row, "messages")
        if whole is not None and not self._has(row, "completion"):
            if whole[-1].role != "assistant":
                raise row.error("messages", "does not end with the assistant", "end it with its turn")
            return self._prompt(row, whole[:-1]), whole[-1].content
        return self._prompt(row, self._need(row, "prompt")), self._text(row, "completion")

    def comparison(self, row: Row) -> Comparison:
        if self._column(FIRST) in row.values:
            prompt, chosen, rejected = self._voted(row)
        else:
            prompt, chosen, rejected = self._pair(row)
        chosen = self._filled(row, self._column("chosen"), chosen)
        rejected = self._filled(row, self._column("rejected"), rejected)
        if chosen.strip() == rejected.strip():
            raise row.error("rejected", "is the chosen text too", "remove the row, or say skip_bad: true")
        return Comparison(self._prompt(row, prompt), chosen, rejected)

    def labelled(self, row: Row) -> LabelledResponse:
        """Labels of some propositions suffice; of one that the rulebook does not have are refused.

        A response that is empty may be labelled, as those of models are.
        """
        given = row.get(self._column("propositions"), dict)
        labels = {str(name): value for name, value in given.items() if value is not None}
        for name, value in labels.items():
            if not isinstance(value, bool):
                raise row.error(f"propositions.{name}", "is not true or false", "write true or false")
            if name not in self.known:
                fix = "add it to the rulebook, or remove the label"
                raise row.error(f"propositions.{name}", "unknown proposition", fix)
        response = Response(*self._answered(row))
        return LabelledResponse(response, labels, row.name("completion_class"))

    # --- parts of a row -----------------------------------------------------------------------

    def _column(self, name: str) -> str:
        given = self.source.columns.get(name, name)
        return str(given if isinstance(given, str) else given[0])

    def _has(self, row: Row, name: str) -> bool:
        return self._column(name) in row.values

    def _messages(self, row: Row, name: str) -> tuple[Message, ...] | None:
        """None where the row has no such column; several columns are one message, a blank line between."""
        given = self.source.columns.get(name, name)
        if not isinstance(given, str):
            parts = [str(row.values[column]).strip() for column in given if column in row.values]
            return (Message("user", "\n\n".join(part for part in parts if part)),) if parts else None
        if given not in row.values:
            return None
        if isinstance(text := row.values[given], str) and text.startswith(TRANSCRIPT):
            return parse_transcript(row, given)
        if not isinstance(text, str | list):
            said = f"is {type(text).__name__}, neither a text nor a list of messages"
            raise row.error(given, said, "write it as a text")
        messages = row.messages(given)
        if unknown := next((m.role for m in messages if m.role not in ROLES), None):
            raise row.error(given, f"has a turn of {unknown[:40]!r}", f"use the roles {', '.join(ROLES)}")
        _check_order(row, given, messages)
        return messages

    def _need(self, row: Row, name: str) -> tuple[Message, ...]:
        messages = self._messages(row, name)
        if messages is None:
            raise self._lacks(row, name)
        return messages

    def _text(self, row: Row, name: str) -> str:
        """A reply: a text, or the last of messages, which must be the assistant's."""
        messages, column = self._need(row, name), self._column(name)
        if isinstance(row.values.get(column), list) and messages[-1].role != "assistant":
            raise row.error(column, "does not end with the assistant", "end it with its turn")
        return messages[-1].content

    def _lacks(self, row: Row, name: str) -> InputError:
        found = ", ".join(map(str, row.values))[:200] if all(len(str(k)) < 60 for k in row.values) else ""
        return row.error(
            self._column(name),
            f"is missing; the row has {found}" if found else "is missing",
            f"name its column: columns: {{{name}: COLUMN}}",
        )

    def _filled(self, row: Row, column: str, text: str) -> str:
        if not text.strip():
            raise row.error(column, "is empty", "write it, remove the row, or say skip_bad: true")
        return text

    def _prompt(self, row: Row, messages: Sequence[Message]) -> Prompt:
        """With the source's system turn and types. Raises NotTaken for a category that is left out."""
        column = self._column("prompt")
        if not messages or messages[-1].role != "user":
            raise row.error(column, "does not end with the user's turn", "end it with the user's turn")
        for message in messages:
            self._filled(row, column, message.content)
        if next(message.role for message in messages if message.role != "system") != "user":
            fix = "begin it with the user's turn, or say skip_bad: true"
            raise row.error(column, "begins with the assistant's turn", fix)
        system = self.source.system
        if system is not None and messages[0].role != "system":
            messages = (Message("system", system), *messages)
        category = self.source.category or self._said(row, "category") or "none"
        kind = self.source.type_of(category, self._type(row), self.types)
        if kind == LEFT_OUT:
            raise NotTaken(f"category {category}")
        assert kind is None or isinstance(kind, ResponseType)
        given = None if self.source.columns.get("id", "id") is None else self._said(row, "id")
        given = given if given and given.strip() else None
        id = given if given is not None else prompt_id(messages)
        questions = row.questions(self._column("questions"))
        return Prompt(id, tuple(messages), kind, category, self._said(row, "topic") or "", questions)

    def _type(self, row: Row) -> ResponseType | None:
        column = self._column("response_type")
        if column not in row.values or ("response_type" in self.source.columns and self.source.types):
            return None
        if (name := row.values[column]) is None:
            return None
        try:
            return type_called(str(name), self.types)
        except ValueError:
            fix = f"use one of {', '.join(self.types)}; types of your own stand in the rulebook"
            raise row.error(column, f"unknown response type {str(name)[:60]!r}", fix) from None

    def _said(self, row: Row, name: str) -> str | None:
        return row.name(self._column(name))

    # --- pairs --------------------------------------------------------------------------------

    def _pair(self, row: Row) -> tuple[tuple[Message, ...], str, str]:
        chosen, rejected = self._need(row, "chosen"), self._need(row, "rejected")
        prompt = self._messages(row, "prompt")
        if prompt is not None:
            return prompt, self._text(row, "chosen"), self._text(row, "rejected")
        if len(chosen) < 2 or chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
            fix = "give a column prompt, or both conversations whole: columns: {prompt: COLUMN}"
            raise row.error(self._column("prompt"), "is missing, and chosen holds no conversation", fix)
        if chosen[:-1] != rejected[:-1]:
            fix = "pair replies to one prompt"
            raise row.error(self._column("rejected"), "its conversation differs from that of chosen", fix)
        return chosen[:-1], chosen[-1].content, rejected[-1].content

    def _voted(self, row: Row) -> tuple[tuple[Message, ...], str, str]:
        """The response that most annotators prefer is chosen; a tie is not taken."""
        columns = self.source.columns.get(VOTES, VOTES)
        names = [columns] if isinstance(columns, str) else list(columns)
        if not any(name in row.values for name in names):
            raise self._lacks(row, VOTES)
        votes = Counter(str(row.values.get(name)) for name in names)
        unknown = next((vote for vote in votes if vote not in ("0", "1", "2")), None)
        if unknown is not None:
            raise row.error(names[0], f"is {unknown[:40]!r}", "write 1, 2, or 0 for a tie")
        pair = self._text(row, FIRST), self._text(row, SECOND)
        if votes["1"] == votes["2"]:
            raise NotTaken("annotators do not agree on one")
        return self._need(row, "prompt"), *(pair if votes["1"] > votes["2"] else pair[::-1])


def _check_order(row: Row, column: str, messages: Sequence[Message]) -> None:
    """Raises InputError for turns in an order that a model's template may refuse, or that say nothing of a reply."""
    for before, after in pairwise(messages):
        if after.role == "system":
            fix = "put it at the head of the conversation, or say skip_bad: true"
            raise row.error(column, "has a system turn that is not the first", fix)
        if before.role == after.role:
            fix = "join them, remove the row, or say skip_bad: true"
            raise row.error(column, f"has two turns of the {after.role} in a row", fix)


READ: Mapping[type, str] = {
    Prompt: "prompt",
    Demonstration: "demonstration",
    Comparison: "comparison",
    LabelledResponse: "labelled",
}


def read_rows(
    rows: Sequence[Row],
    source: Source,
    kind: type[Item],
    known: frozenset[str],
    left_out: Counter[str],
    types: Mapping[str, ResponseType] | None = None,
) -> list[Item]:
    """The rows as values of `kind`; `left_out` counts those that are not taken, by reason.

    Raises InputError, naming file, row, field and fix, for the first that is none, unless the source says skip_bad.
    """
    form = RowReader(source, known, types_by_name() if types is None else types)
    read: Callable[[Row], Any] = getattr(form, READ[kind])
    items: list[Item] = []
    rows = _with_nested(rows, source)
    _check_columns(rows, source)
    for row in rows:
        if not _passes(row, source):
            left_out["does not pass the filter"] += 1
            continue
        try:
            items.append(read(row))
        except NotTaken as reason:
            left_out[str(reason)] += 1
        except InputError as error:
            if not source.skip_bad:
                raise
            left_out[f"{error.field or 'row'} {error.problem}".partition(";")[0]] += 1
    return items


def _with_nested(rows: Sequence[Row], source: Source) -> Sequence[Row]:
    """The rows with the columns that the source names by the way to them: `prompt.text` of {prompt: {text: ...}}."""
    named = _named(source)
    dotted = [name for name in dict.fromkeys([*named, *map(str, source.filter)]) if "." in name]
    if not dotted:
        return rows
    found = [{name: value for name in dotted if (value := _inside(row, name)) is not None} for row in rows]
    return [replace(row, values={**row.values, **more}) for row, more in zip(rows, found, strict=True)]


def _inside(row: Row, name: str) -> Any:
    """None where the way ends; a column that bears the whole name goes before."""
    if name in row.values:
        return row.values[name]
    value: Any = row.values
    for key in name.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _named(source: Source) -> list[str]:
    """The columns that the source names for something."""
    given = [c for c in source.columns.values() if c is not None]
    return [name for c in given for name in ([c] if isinstance(c, str) else c)]


def _check_columns(rows: Sequence[Row], source: Source) -> None:
    """A column that some row has is known: the others' cells are empty. Raises InputError for one that none has."""
    for name in dict.fromkeys([*_named(source), *map(str, source.filter)]):
        if rows and not any(name in row.values for row in rows):
            does = "filters by it" if name in source.filter else "names it in columns"
            has = ", ".join(str(key)[:40] for key in rows[0].values)[:200]
            said = f"no row has such a column, and the source {does}; the first has {has}"
            raise rows[0].error(name[:60], said, "name a column of the file")


def _passes(row: Row, source: Source) -> bool:
    for column, wanted in source.filter.items():
        values = wanted if isinstance(wanted, list) else [wanted]
        if column not in row.values or str(row.values[column]) not in map(_written, values):
            return False
    return True


def _written(value: object) -> str:
    return str(value)
