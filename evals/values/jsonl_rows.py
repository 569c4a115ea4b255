"""Rows of JSONL files: prompts, demonstrations, comparisons and labelled responses, in and out.

File schemas (one JSON object a line, packed by gzip or not; `prompt` and the completions are lists of
`{"role", "content"}` messages, as in TRL's conversational formats):

- prompts:        `id, prompt, response_type?, category?, topic?`
- demonstrations: `prompt, completion`, and `finished: false` of a completion that was cut
- comparisons:    `prompt, chosen, rejected`
- labelled:       `prompt, completion, response_type, category?, propositions` as in the released
                  RBR gold files, plus `completion_class?` for synthetic comparisons, and `finished: false`
                  of a completion that was cut.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from evals.values.conversation import (
    QUESTIONS_FIX,
    Comparison,
    Demonstration,
    LabelledResponse,
    Message,
    Prompt,
    Question,
    Response,
    ResponseType,
    messages_as_json,
    prompt_id,
    question_as_json,
    questions_of,
)
from evals.values.data_file import as_no_jsonl, lines_of, not_utf8, open_data
from evals.values.errors import InputError
from evals.values.json_text import once, parse_json, said
from evals.values.levels import Label, Levels, LevelsError, labelled_level, written

Item = TypeVar("Item")


def read_jsonl(path: Path | str, parse: Callable[[Row], Item]) -> list[Item]:
    """Parse every line of a JSONL file, packed by gzip or not.

    Raises InputError, naming file, line and field, for a missing or empty file, another format, malformed JSON,
    a row that is not an object, and whatever `parse` finds.
    """
    path = Path(path)
    items = [parse(row) for row in _rows(path)]
    if not items:
        raise InputError("the file has no rows", path=path, fix="give a file with one JSON object a line")
    return items


def read_prompts(path: Path | str) -> list[Prompt]:
    """Read a prompts file; duplicate ids are refused."""
    seen: dict[str, int] = {}

    def parse(row: Row) -> Prompt:
        prompt = row.prompt()
        if prompt.id in seen:
            raise row.error(
                "id",
                f"duplicate id {prompt.id!r}, first on line {seen[prompt.id]}",
                "give each prompt its own id",
            )
        seen[prompt.id] = row.line
        return prompt

    return read_jsonl(path, parse)


def read_demonstrations(path: Path | str) -> list[Demonstration]:
    return read_jsonl(
        path, lambda row: Demonstration(row.prompt(), row.completion("completion"), row.finished())
    )


def read_comparisons(path: Path | str) -> list[Comparison]:
    return read_jsonl(
        path, lambda row: Comparison(row.prompt(), row.completion("chosen"), row.completion("rejected"))
    )


def read_labelled(
    path: Path | str,
    propositions: Sequence[str] | None = None,
    levels: Mapping[str, Levels] | None = None,
) -> list[LabelledResponse]:
    """Read labelled responses; with `propositions`, a row that lacks one or has another is refused.

    `levels` are those of the rulebook: only a proposition that has some there is labelled by a word.
    """
    return read_jsonl(path, lambda row: row.labelled(propositions, levels))


@dataclass(frozen=True)
class Row:
    """One JSON object with its place, so that an error can name it."""

    path: Path
    line: int
    values: Mapping[str, Any]

    def error(self, field: str | None, problem: str, fix: str) -> InputError:
        return InputError(problem, path=self.path, line=self.line, field=field, fix=fix)

    def get(self, field: str, kind: type[Item]) -> Item:
        if field not in self.values:
            raise self.error(field, "is missing", f"add '{field}' to the row")
        value = self.values[field]
        if not isinstance(value, kind):
            raise self.error(
                field, f"is {type(value).__name__}, not {kind.__name__}", f"write it as a {kind.__name__}"
            )
        return value

    def messages(self, field: str) -> tuple[Message, ...]:
        """A list of messages, or a plain string taken as one user message."""
        value = self.values.get(field)
        if isinstance(value, str):
            return (Message("user", value),)
        rows = self.get(field, list)
        faults = [f"entry {number} {fault}" for number, row in enumerate(rows, 1) if (fault := _fault(row))]
        if faults or not rows:
            problem = f"is not a list of messages: {faults[0] if faults else 'it is empty'}"
            raise self.error(field, problem, 'write [{"role": "user", "content": "..."}, ...]')
        return tuple(Message(m["role"], m["content"]) for m in rows)

    def prompt(self) -> Prompt:
        messages = self.messages("prompt")
        given = self.name("id")
        return Prompt(
            id=given if given is not None else prompt_id(messages),
            messages=messages,
            response_type=self.response_type(),
            category=self.name("category") or "none",
            topic=self.name("topic") or "",
            questions=self.questions(),
        )

    def questions(self, field: str = "questions") -> tuple[Question, ...]:
        """The prompt's own: as `questions_of` reads them; () where there are none."""
        try:
            return questions_of(self.values.get(field) or [])
        except ValueError as error:
            fix = error.fix if isinstance(error, LevelsError) else QUESTIONS_FIX
            raise self.error(field, str(error), fix) from None

    def label(self, name: str, value: object, levels: Levels = ()) -> Label:
        """What `propositions` says of one: a level's word, or true or false where it has no levels."""
        try:
            return labelled_level(value, levels)
        except LevelsError as error:
            raise self.error(f"propositions.{name}", str(error), error.fix) from None

    def name(self, field: str) -> str | None:
        """A text, or a number as text; None where there is none, or NaN. Raises InputError for a list or an object."""
        value = self.values.get(field)
        if isinstance(value, list | dict):
            raise self.error(field, f"is {type(value).__name__}, not a text", "write one name")
        return None if value is None or value != value else str(value)

    def response_type(self) -> ResponseType | None:
        name = self.values.get("response_type")
        if name is None:
            return None
        try:
            return ResponseType.parse(str(name))
        except ValueError:
            known = ", ".join(t.value for t in ResponseType)
            raise self.error(
                "response_type", f"unknown response type {name!r}", f"use one of {known}"
            ) from None

    def completion(self, field: str) -> str:
        """The assistant's text, given as a string or as a list that ends with its message."""
        value = self.values.get(field)
        if isinstance(value, str):
            return value
        return self.messages(field)[-1].content

    def labelled(
        self, known: Sequence[str] | None, levels: Mapping[str, Levels] | None = None
    ) -> LabelledResponse:
        """`levels` by proposition, of those that have any; the prompt's own questions bring theirs."""
        prompt = self.prompt()
        of = {**(levels or {}), **{one.text: one.levels for one in prompt.questions}}
        labels: dict[str, Label] = {}
        for name, value in self.get("propositions", dict).items():
            labels[name] = self.label(name, value, of.get(name, ()))
            if known is not None and name not in known:
                raise self.error(
                    f"propositions.{name}",
                    "unknown proposition",
                    "add it to the rulebook or remove the label",
                )
        missing = [name for name in known or () if name not in labels]
        if missing:
            raise self.error(
                f"propositions.{missing[0]}", "is missing", "label every proposition of the rulebook"
            )
        response = Response(prompt, self.completion("completion"), finished=self.finished())
        return LabelledResponse(response, labels, self.name("completion_class"))

    def finished(self) -> bool:
        """False of a completion that was cut; true where nothing is said. Raises InputError for another value."""
        found = self.values.get("finished", True)
        if not isinstance(found, bool):
            raise self.error("finished", "is not true or false", "write false of a response that was cut")
        return found


def _fault(value: Any) -> str:
    """Why a value is no message; "" of one that is."""
    if not isinstance(value, dict):
        return "is no object"
    lacking = next((key for key in ("role", "content") if not isinstance(value.get(key), str)), "")
    return f"has no text as {lacking}" if lacking else ""


def _rows(path: Path) -> Iterator[Row]:
    found = False
    with open_data(path) as file:
        for number, line in enumerate(lines_of(path, file), start=1):
            if line.strip():
                text = _decoded(path, number, line)
                yield Row(path, number, _object(path, number, text, is_first=not found))
                found = True


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(path, number, line[error.start]) from None


def _object(path: Path, number: int, text: str, is_first: bool) -> dict[str, Any]:
    """A row's object. The first row tells a file that is none of JSONL."""
    problem, fix = "the row is not a JSON object", "write one {...} a line"
    try:
        value = parse_json(text, once)
        if isinstance(value, dict):
            return value
    except ValueError as error:
        problem, fix = f"malformed JSON ({said(error)})", "mend or remove the line"
    other = as_no_jsonl(text) if is_first else None
    if other is not None:
        problem, fix = f"the file is {other[0]}, not JSONL", other[1]
    raise InputError(problem, path=path, line=number, fix=fix)


# --- rows out --------------------------------------------------------------------------------


def write_jsonl(path: Path | str, rows: Iterable[Mapping[str, Any]]) -> None:
    """One row a line; a name that ends in .gz is packed, without a time in it: the same rows are the same bytes."""
    with open(path, "wb") as file, ExitStack() as stack:
        packed = str(path).endswith(".gz")
        out = stack.enter_context(gzip.GzipFile("", "wb", 9, file, mtime=0)) if packed else file
        for row in rows:
            out.write((json.dumps(row, ensure_ascii=False) + "\n").encode())


def prompt_as_json(prompt: Prompt) -> dict[str, Any]:
    row: dict[str, Any] = {"id": prompt.id, "prompt": messages_as_json(prompt.messages)}
    if prompt.response_type is not None:
        row["response_type"] = prompt.response_type.value
    row["category"] = prompt.category
    if prompt.questions:
        row["questions"] = [question_as_json(one) for one in prompt.questions]
    return row | {"topic": prompt.topic} if prompt.topic else row


def demonstration_as_json(item: Demonstration) -> dict[str, Any]:
    row = prompt_as_json(item.prompt) | {"completion": _assistant(item.text)}
    return row | ({} if item.finished else {"finished": False})


def comparison_as_json(item: Comparison) -> dict[str, Any]:
    return prompt_as_json(item.prompt) | {
        "chosen": _assistant(item.chosen),
        "rejected": _assistant(item.rejected),
    }


def labelled_as_json(item: LabelledResponse) -> dict[str, Any]:
    row = prompt_as_json(item.response.prompt) | {
        "completion": _assistant(item.response.text),
        "propositions": labels_as_json(item.propositions),
    }
    row |= {} if item.response.finished else {"finished": False}
    return row if item.completion_class is None else row | {"completion_class": item.completion_class}


def labels_as_json(labels: Mapping[str, Label]) -> dict[str, bool | str]:
    """True, false, or a level's word, by proposition."""
    return {name: written(label) for name, label in labels.items()}


def _assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
