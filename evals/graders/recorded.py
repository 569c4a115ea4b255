"""A file of grades as grader, and the file itself.

One JSON object a line: `{"prompt": [messages], "response": text, "grades": {proposition: P}, "reasons":
{proposition: why unscored}, "grader": name}`. Rows are found by content (prompt and response text), so
the file may hold more responses than are asked for, in any order. One row may also have, for the whole
file, `"questions": {proposition: digest}`, the questions that the grades answer, and `"template"`, how
they were put: `rulebook:DIGEST` in the rulebook's own prompt template, `grader:DIGEST` in the grader's. A
grade for another wording, or under another template of the rulebook, is then unscored, not taken for an
answer to the new question. A file without them says nothing of it, and is taken at its word.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from evals.graders import Grader, GraderSpec
from evals.rules.propositions import Proposition
from evals.rules.rulebook import Rulebook
from evals.values.conversation import Message, Response, messages_as_json
from evals.values.errors import InputError
from evals.values.grades import Grades, Unscored
from evals.values.jsonl_rows import Row, read_jsonl, write_jsonl

Key = tuple[tuple[Message, ...], str]
NOT_RECORDED = "not in the file of grades"
OTHER_QUESTION = "recorded for another wording of the question; grade again"
OTHER_TEMPLATE = "recorded under another prompt template; grade again"
_OF_RULEBOOK, _OF_GRADER = "rulebook:", "grader:"


class RecordedGrader:
    """Grades from a file; `prompt_template` is that of the rulebook that they are to serve.

    `questions` and `template` are what the file says of itself, empty where it does not. Raises
    InputError, naming file, line and field, for a malformed row.
    """

    def __init__(self, path: Path | str, name: str | None = None, prompt_template: str | None = None) -> None:
        self.path = Path(path)
        rows = read_jsonl(self.path, _parse)
        self._grades = _by_key(rows, self.path)
        self.questions = _questions([row for row, *_ in rows])
        self.template = _template([row for row, *_ in rows])
        self._put_otherwise = self.template.startswith(_OF_RULEBOOK) and self.template != _OF_RULEBOOK + (
            _digest(prompt_template) if prompt_template else ""
        )
        self.name = name or next(
            (str(r.values["grader"]) for r, *_ in rows if "grader" in r.values), "recorded"
        )

    @cached_property
    def made_of(self) -> str:
        """The name, and a digest of all that the file says: of a judge by these grades, what is kept of it."""
        grades = sorted((repr(key), sorted(map(repr, found.items()))) for key, found in self._grades.items())
        return f"{self.name} {_digest([grades, sorted(self.questions.items()), self.template])}"

    def grade(self, responses: Sequence[Response], propositions: Sequence[Proposition]) -> Grades:
        """Grades [responses, propositions]; what the file lacks is unscored."""
        grades = self.as_recorded(responses, tuple(p.name for p in propositions))
        stale = {j: why for j, p in enumerate(propositions) if (why := self._stale(p))}
        if not stale:
            return grades
        values = grades.probability.copy()
        values[:, list(stale)] = np.nan
        answers = {place: reason for place, reason in grades.reasons.items() if place[1] not in stale}
        reasons = {(row, column): why for row in range(len(responses)) for column, why in stale.items()}
        return Grades(grades.propositions, values, answers | reasons)

    def as_recorded(self, responses: Sequence[Response], propositions: Sequence[str]) -> Grades:
        """Grades [responses, propositions] by name, whatever the questions said then."""
        rows = [self._grades.get((r.prompt.messages, r.text), {}) for r in responses]
        return Grades.of(
            propositions, [[row.get(n, Unscored(NOT_RECORDED)) for n in propositions] for row in rows]
        )

    def _stale(self, proposition: Proposition) -> str:
        """Why a grade does not answer this question; "" where it does."""
        if self._put_otherwise:
            return OTHER_TEMPLATE
        recorded = self.questions.get(proposition.name)
        return OTHER_QUESTION if recorded not in (None, proposition.question_digest) else ""


def asked_in(grader: Grader, prompt_template: str | None) -> str:
    """What a file says of the template that put its questions; "" for a grader that is asked none.

    `prompt_template` is the rulebook's, which a grader uses only where it was told to.
    """
    if isinstance(grader, RecordedGrader):
        return grader.template
    prompt: Any = getattr(grader, "prompt", None)
    if prompt is None:
        return ""
    if prompt.template == prompt_template:
        return _OF_RULEBOOK + _digest(prompt_template)
    return _OF_GRADER + _digest(prompt.settings())


def write_grades(
    path: Path | str,
    grader: str,
    responses: Sequence[Response],
    grades: Grades,
    propositions: Sequence[Proposition] = (),
    template: str = "",
) -> None:
    """Write the file that RecordedGrader reads, probabilities in full precision.

    With `propositions`, the first row says which questions the grades answer; `template` is `asked_in`'s.
    """
    questions = {p.name: p.question_digest for p in propositions}
    write_jsonl(path, grade_rows(grader, responses, grades, questions, template))


def grade_rows(
    grader: str,
    responses: Sequence[Response],
    grades: Grades,
    questions: Mapping[str, str],
    template: str = "",
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
        yield row | (asked(questions, template) if number == 0 else {})


def asked(questions: Mapping[str, str], template: str) -> dict[str, Any]:
    """What one row says for the whole file."""
    said: dict[str, Any] = {"questions": dict(questions)} if questions else {}
    return said | ({"template": template} if template else {})


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
            if not isinstance(digest, str):
                raise row.error(f"questions.{name}", f"is {digest!r}", "write the question's digest")
            if found.setdefault(name, digest) != digest:
                raise row.error(
                    f"questions.{name}", "another question than a row before", "keep one file a wording"
                )
    return found


def _template(rows: Sequence[Row]) -> str:
    """How the questions were put; "" where the file does not say."""
    found = ""
    for row in (row for row in rows if "template" in row.values):
        template = row.get("template", str)
        if not template.startswith((_OF_RULEBOOK, _OF_GRADER)):
            raise row.error("template", f"is {template!r}", "write rulebook:DIGEST or grader:DIGEST")
        if found not in ("", template):
            raise row.error("template", "another template than a row before", "keep one file a template")
        found = template
    return found


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()[:12]


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


def build(spec: GraderSpec, rulebook: Rulebook | None) -> RecordedGrader:
    """The grades in the file `spec.path`, to serve the rulebook's questions. Raises InputError for bad rows."""
    return RecordedGrader(spec.path, spec.name or None, rulebook.prompt_template if rulebook else None)
