"""A file of grades as grader, and the file itself.

One JSON object a line: `{"prompt": [messages], "response": text, "grades": {proposition: P}, "reasons":
{proposition: why unscored}, "grader": name}`. Rows are found by content (prompt and response text), so
the file may hold more responses than are asked for, in any order. One row may also have `"questions":
{proposition: digest}` for the whole file: the questions that the grades answer. A grade for another
wording of a question is then unscored, not taken for an answer to the new one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evals.conversation import Message, Response, Row, messages_as_json, read_jsonl, write_jsonl
from evals.errors import InputError
from evals.graders import Grades, Unscored
from evals.propositions import Proposition

Key = tuple[tuple[Message, ...], str]
NOT_RECORDED = "not in the file of grades"
OTHER_QUESTION = "recorded for another wording of the question; grade again"


class RecordedGrader:
    """Grades from a file. Raises InputError, naming file, line and field, for a malformed row."""

    def __init__(self, path: Path | str, name: str | None = None) -> None:
        self.path = Path(path)
        rows = read_jsonl(self.path, _parse)
        self._grades = _by_key(rows, self.path)
        self.questions = _questions([row for row, *_ in rows])
        self.name = name or next(
            (str(r.values["grader"]) for r, *_ in rows if "grader" in r.values), "recorded"
        )

    def grade(self, responses: Sequence[Response], propositions: Sequence[Proposition]) -> Grades:
        """Grades [responses, propositions]; what the file lacks is unscored."""
        grades = self.as_recorded(responses, tuple(p.name for p in propositions))
        stale = [j for j, p in enumerate(propositions) if self._asked_otherwise(p)]
        if not stale:
            return grades
        values = grades.probability.copy()
        values[:, stale] = np.nan
        answers = {place: reason for place, reason in grades.reasons.items() if place[1] not in stale}
        reasons = {(row, column): OTHER_QUESTION for row in range(len(responses)) for column in stale}
        return Grades(grades.propositions, values, answers | reasons)

    def as_recorded(self, responses: Sequence[Response], propositions: Sequence[str]) -> Grades:
        """Grades [responses, propositions] by name, whatever the questions said then."""
        rows = [self._grades.get((r.prompt.messages, r.text), {}) for r in responses]
        return Grades.of(
            propositions, [[row.get(n, Unscored(NOT_RECORDED)) for n in propositions] for row in rows]
        )

    def _asked_otherwise(self, proposition: Proposition) -> bool:
        recorded = self.questions.get(proposition.name)
        return recorded is not None and recorded != proposition.question_digest


def write_grades(
    path: Path | str,
    grader: str,
    responses: Sequence[Response],
    grades: Grades,
    propositions: Sequence[Proposition] = (),
) -> None:
    """Write the file that RecordedGrader reads, probabilities in full precision.

    With `propositions`, the first row says which questions the grades answer.
    """
    questions = {p.name: p.question_digest for p in propositions}
    write_jsonl(path, grade_rows(grader, responses, grades, questions))


def grade_rows(
    grader: str, responses: Sequence[Response], grades: Grades, questions: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """The rows of a file of grades, in the order of the responses."""
    for number, response in enumerate(responses):
        values = {name: grades.grade(number, j) for j, name in enumerate(grades.propositions)}
        row = {
            "prompt": messages_as_json(response.prompt.messages),
            "response": response.text,
            "grader": grader,
            "grades": {n: v for n, v in values.items() if not isinstance(v, Unscored)},
        }
        reasons = {n: v.reason for n, v in values.items() if isinstance(v, Unscored)}
        row |= {"reasons": reasons} if reasons else {}
        yield row | {"questions": dict(questions)} if questions and number == 0 else row


def _parse(row: Row) -> tuple[Row, Key, dict[str, float | Unscored]]:
    grades: dict[str, float | Unscored] = {}
    for name, value in row.get("grades", dict).items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and 0 <= value <= 1):
            raise row.error(f"grades.{name}", f"{value!r} is no probability", "write a number from 0 to 1")
        grades[name] = float(value)
    reasons = row.get("reasons", dict) if "reasons" in row.values else {}
    for name, reason in reasons.items():
        if name in grades or not (isinstance(reason, str) and reason):
            raise row.error(
                f"reasons.{name}", "needs a text, and no grade beside it", "keep the grade or the reason"
            )
        grades[name] = Unscored(reason)
    return row, (row.messages("prompt"), row.get("response", str)), grades


def _questions(rows: Sequence[Row]) -> dict[str, str]:
    """Digests of the questions by proposition; empty where the file does not say."""
    found: dict[str, str] = {}
    for row in (row for row in rows if "questions" in row.values):
        for name, digest in row.get("questions", dict).items():
            if found.setdefault(name, digest) != digest:
                raise row.error(
                    f"questions.{name}", "another question than a row before", "keep one file a wording"
                )
    return found


def _by_key(
    rows: Sequence[tuple[Row, Key, dict[str, float | Unscored]]], path: Path
) -> Mapping[Key, dict[str, float | Unscored]]:
    """One entry per response; rows about one response may add propositions but not change a grade."""
    found: dict[Key, dict[str, float | Unscored]] = {}
    for row, key, grades in rows:
        known = found.setdefault(key, {})
        for name, value in grades.items():
            if known.get(name, value) != value:
                raise InputError(
                    "a second, different grade of the same response",
                    path=path,
                    line=row.line,
                    field=f"grades.{name}",
                    fix="keep one of the two rows",
                )
        known |= grades
    return found
