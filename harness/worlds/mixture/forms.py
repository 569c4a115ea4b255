"""Rows as prompts, demonstrations, comparisons and labelled responses, by TRL's names or a source's columns.

The forms are those of TRL's dataset formats (huggingface.co/docs/trl/dataset_formats): prompt-only, prompt-completion,
preference with an explicit or implicit prompt, conversational or plain, and language-modelling conversations. Beside
them: transcripts of Human and Assistant, two responses with votes of annotators, and labels of propositions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from evals.values.conversation import (
    Comparison,
    Demonstration,
    LabelledResponse,
    Message,
    Prompt,
    Response,
    ResponseType,
    prompt_id,
)
from evals.values.errors import InputError
from evals.values.jsonl_rows import Row
from evals.values.levels import Levels
from harness.worlds.mixture.columns import check_columns, names_in, passes, present, with_nested
from harness.worlds.mixture.labels import labels_in
from harness.worlds.mixture.source import LEFT_OUT, OTHERS, Source, type_called, types_by_name
from harness.worlds.mixture.turns import asked, context_of, is_empty, looks, messages_in

Item = TypeVar("Item", Prompt, Demonstration, Comparison, LabelledResponse)
FIRST, SECOND, VOTES = "first", "second", "votes"  # of a pair that annotators voted on: 1, 2, or 0 for a tie
FEW_VOTES = 10  # rows in which the second may never have been preferred


class NotTaken(Exception):
    """A row that is well formed and is not to be taken; its text is the reason."""


@dataclass(frozen=True)
class RowReader:
    """Reads rows of one source; `known` are the rulebook's propositions and their levels, for labels, and `types` its
    response types.

    `typed`: every prompt needs a response type.
    """

    source: Source
    known: Mapping[str, Levels] = field(default_factory=dict)
    types: Mapping[str, ResponseType] = field(default_factory=types_by_name)
    typed: bool = False

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
        context, text = self._reply(row, "completion", self._asked(row))
        return self._prompt(row, context), text

    def comparison(self, row: Row) -> Comparison:
        if self.is_voted(row):
            prompt, chosen, rejected = self._voted(row)
        else:
            prompt, chosen, rejected = self._pair(row)
        chosen = self._filled(row, self._column("chosen"), chosen)
        rejected = self._filled(row, self._column("rejected"), rejected)
        if looks(chosen) == looks(rejected):
            raise row.error("rejected", "is the chosen text too", "remove the row, or say skip_bad: true")
        return Comparison(self._prompt(row, prompt), chosen, rejected)

    def labelled(self, row: Row) -> LabelledResponse:
        """Labels of some propositions suffice; of one that the rulebook does not have are refused.

        A response that is empty may be labelled, as those of models are.
        """
        completion_class = self._said(row, "completion_class")
        columns = self.source.columns.get("propositions", "propositions")
        labels = labels_in(row, columns, completion_class, self.known)
        for name in labels:
            if name not in self.known:
                fix = "add it to the rulebook, name another (rulebook=FILE), or remove the label"
                raise row.error(f"propositions.{name}", "unknown proposition", fix)
        return LabelledResponse(Response(*self._answered(row)), labels, completion_class)

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
        return messages_in(row, given)

    def _need(self, row: Row, name: str) -> tuple[Message, ...]:
        messages = self._messages(row, name)
        if messages is None:
            raise self._lacks(row, name)
        return messages

    def _asked(self, row: Row) -> tuple[Message, ...]:
        return asked(self._need(row, "prompt"))

    def _reply(self, row: Row, name: str, prompt: tuple[Message, ...]) -> tuple[tuple[Message, ...], str]:
        """(what it follows, the reply): a text, or the last of messages, which must be the assistant's."""
        messages, column = self._need(row, name), self._column(name)
        is_text = (
            len(messages) == 1 and isinstance(row.values.get(column), str) and messages[0].role == "user"
        )
        if not is_text and messages[-1].role != "assistant":
            raise row.error(column, "does not end with the assistant", "end it with its turn")
        return context_of(row, column, prompt, messages), messages[-1].content

    def _lacks(self, row: Row, name: str) -> InputError:
        found = names_in(row)
        return row.error(
            self._column(name),
            f"is missing; the row has {found}"
            if found
            else "is missing, and the columns bear texts as names",
            f"name its column: columns: {{{name}: COLUMN}}, or say skip_bad: true where single rows have none",
        )

    def _filled(self, row: Row, column: str, text: str) -> str:
        if is_empty(text):
            raise row.error(column, "is empty", "write it, remove the row, or say skip_bad: true")
        return text

    def _prompt(self, row: Row, messages: Sequence[Message]) -> Prompt:
        """With the source's system turn and types. Raises NotTaken for a category that is left out."""
        column = self._column("prompt")
        if not messages or messages[-1].role != "user":
            raise row.error(column, "does not end with the user's turn", "end it with the user's turn")
        for message in messages:
            if len(messages) > 1 and is_empty(message.content):
                said = f"has an empty turn of the {message.role}"
                raise row.error(column, said, "write it, remove the row, or say skip_bad: true")
            self._filled(row, column, message.content)
        if next(message.role for message in messages if message.role != "system") != "user":
            fix = "begin it with the user's turn, or say skip_bad: true"
            raise row.error(column, "begins with the assistant's turn", fix)
        system = self._system(row)
        if system and messages[0].role != "system":
            messages = (Message("system", system), *messages)
        category = self.category(row)
        kind = self._kind(row, category)
        given = None if self.source.columns.get("id", "id") is None else self._said(row, "id")
        given = given if given and given.strip() else None
        id = given if given is not None else prompt_id(messages)
        questions = row.questions(self._column("questions"))
        return Prompt(id, tuple(messages), kind, category, self._said(row, "topic") or "", questions)

    def category(self, row: Row) -> str:
        return self.source.category or (self._said(row, "category") or "").strip() or "none"

    def _system(self, row: Row) -> str:
        """Of the column that the source names, else the source's own; "" where there is none."""
        own = self._said(row, "system") if "system" in self.source.columns else None
        return own if own and not is_empty(own) else self.source.system or ""

    def _kind(self, row: Row, category: str) -> ResponseType | None:
        """Raises NotTaken for a category that is left out, and InputError for none where one is needed."""
        kind = self.source.type_of(category, self._type(row), self.types)
        if kind == LEFT_OUT:
            raise NotTaken(f"category {category}")
        assert kind is None or isinstance(kind, ResponseType)
        if kind is None and self.typed:
            of = f", and `types` has none for its category {category[:60]!r}" if self.source.types else ""
            fix = "say response_type: TYPE for the source, a column for it, or types: {CATEGORY: TYPE}"
            raise row.error(self._column("response_type"), f"the prompt has no response type{of}", fix)
        return kind

    def _type(self, row: Row) -> ResponseType | None:
        column = self._column("response_type")
        if (name := row.name(column)) is None:
            return None
        try:
            return type_called(name, self.types)
        except ValueError:
            fix = f"use one of {', '.join(self.types)}; types of your own stand in the rulebook"
            raise row.error(column, f"unknown response type {name[:60]!r}", fix) from None

    def _said(self, row: Row, name: str) -> str | None:
        return row.name(self._column(name))

    # --- pairs --------------------------------------------------------------------------------

    def _pair(self, row: Row) -> tuple[tuple[Message, ...], str, str]:
        if self._messages(row, "prompt") is not None:
            return self._replies(row, ("chosen", "rejected"))
        chosen, rejected = self._need(row, "chosen"), self._need(row, "rejected")
        if len(chosen) < 2 or chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
            fix = "give a column prompt, or both conversations whole: columns: {prompt: COLUMN}"
            raise row.error(self._column("prompt"), "is missing, and chosen holds no conversation", fix)
        if chosen[:-1] != rejected[:-1]:
            fix = "pair replies to one prompt"
            raise row.error(self._column("rejected"), "its conversation differs from that of chosen", fix)
        return chosen[:-1], chosen[-1].content, rejected[-1].content

    def _replies(self, row: Row, names: tuple[str, str]) -> tuple[tuple[Message, ...], str, str]:
        """(what both follow, each). Raises InputError where they follow different conversations."""
        (context, one), (of_other, other) = (self._reply(row, name, self._asked(row)) for name in names)
        if context != of_other:
            said = f"its conversation differs from that of {names[0]}"
            raise row.error(self._column(names[1]), said, "pair replies to one prompt")
        return context, one, other

    def is_voted(self, row: Row) -> bool:
        return self._column(FIRST) in row.values

    def votes(self, row: Row) -> dict[str, str]:
        """{annotator's column: vote} of those who voted."""
        columns = self.source.columns.get(VOTES, VOTES)
        names = [columns] if isinstance(columns, str) else list(columns)
        return {name: str(row.values[name]).removesuffix(".0") for name in names if name in row.values}

    def _voted(self, row: Row) -> tuple[tuple[Message, ...], str, str]:
        """The response that most of those prefer who voted is chosen; a tie is not taken."""
        given = self.votes(row)
        if not given:
            raise self._lacks(row, VOTES)
        unknown = next((name for name, vote in given.items() if vote not in ("0", "1", "2")), None)
        if unknown is not None:
            raise row.error(unknown, f"is {given[unknown][:40]!r}", "write 1, 2, or 0 for a tie")
        votes = Counter(given.values())
        prompt, one, other = self._replies(row, (FIRST, SECOND))
        if votes["1"] == votes["2"]:
            raise NotTaken("annotators do not agree on one")
        return prompt, *((one, other) if votes["1"] > votes["2"] else (other, one))


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
    known: Mapping[str, Levels],
    left_out: Counter[str],
    types: Mapping[str, ResponseType] | None = None,
    typed: bool = False,
) -> list[tuple[Row, Item]]:
    """The rows that are taken, each with its value of `kind`; `left_out` counts the others, by reason.

    Raises InputError, naming file, row, field and fix, for the first that is none, unless the source says skip_bad,
    and for settings that fit no row.
    """
    form = RowReader(source, known, types_by_name() if types is None else types, typed)
    read: Callable[[Row], Any] = getattr(form, READ[kind])
    items: list[tuple[Row, Item]] = []
    rows = with_nested(rows, source)
    check_columns(rows, source)
    rows = [present(row) for row in rows]
    _check_categories(rows, form)
    if kind is Comparison:
        _check_votes(rows, form)
    for row in rows:
        if not passes(row, source):
            left_out["does not pass the filter"] += 1
            continue
        try:
            items.append((row, read(row)))
        except NotTaken as reason:
            left_out[str(reason)] += 1
        except InputError as error:
            if not source.skip_bad:
                raise
            left_out[f"{error.field or 'row'} {error.problem}".partition(";")[0]] += 1
    return items


def _check_votes(rows: Sequence[Row], form: RowReader) -> None:
    """Votes that count from 0 would choose the other text, or none. Raises InputError where they look so."""
    votes = [(name, vote) for row in rows if form.is_voted(row) for name, vote in form.votes(row).items()]
    if {vote for _, vote in votes} == {"0", "1"} and len(rows) >= FEW_VOTES:
        said = "no row votes 2, and 0 is a tie: these seem to count from 0"
        raise rows[0].error(
            votes[0][0], said, "write 1 where the first text is better, 2 where the second is"
        )


def _categories(rows: Sequence[Row], form: RowReader) -> Iterator[str]:
    """Of the rows that have one; the others are told when they are read."""
    for row in rows:
        with suppress(InputError):
            yield form.category(row)


def _check_categories(rows: Sequence[Row], form: RowReader) -> None:
    """A category that `types` misspells would be one of the others. Raises InputError for one that no row has."""
    named = [name for name in form.source.types if name != OTHERS]
    if len(named) == len(form.source.types):
        return  # without the others, a misspelt one leaves its rows without a type
    found = Counter(_categories(rows, form))
    known = {form.source.key_of(category) for category in found}
    if lacking := next((str(name) for name in named if name not in known), None):
        said = f"no row is of this category, and `{OTHERS}` takes what is not named; the most frequent are "
        said += ", ".join(name[:40] for name, _ in found.most_common(5))[:200]
        raise rows[0].error(f"types.{lacking[:60]}", said, "write it as the rows do, or remove it")
