"""A recorded run of a reward: what it gave each completion, one JSON object a line.

`{"prompt": [messages], "response": text, "reward": number or null, "reason": why null, "terms": {name:
number}, "completion_class": by grades, "grader": name, "grades": {proposition: P}, "reasons": {...},
"questions": {...}, "template": ...}`. Only prompt, response and reward must be there. With `grades` it is also a file
of grades (see `evals.graders.recorded`), and with `terms.reward_model` one of reward-model scores. Rows
are found by content, so it may hold more completions than are asked for, in any order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evals.graders.recorded import grade_rows
from evals.values.conversation import Message, Response, messages_as_json
from evals.values.errors import InputError
from evals.values.grades import Grades
from evals.values.jsonl_rows import Row, read_jsonl
from harness.storage.whole_folder import check_file
from trainers.reward.kinds import REWARD_MODEL
from trainers.reward.reward import Breakdown

Key = tuple[tuple[Message, ...], str]
NOT_RECORDED = "not in the file of rewards"


class RecordedRewards:
    """Rewards from a file. Raises InputError, naming file, line and field, for a malformed row."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        check_file(self.path)
        self._rows: dict[Key, Mapping[str, Any]] = {}
        for row in read_jsonl(self.path, _checked):
            key = row.messages("prompt"), row.get("response", str)
            if self._rows.setdefault(key, row.values).get("reward") != row.values.get("reward"):
                raise row.error("reward", "a second, different reward of the same response", "keep one")

    @property
    def has_grades(self) -> bool:
        return all("grades" in row for row in self._rows.values())

    def __call__(self, responses: Sequence[Response]) -> Breakdown:
        """Rewards as recorded; what the file lacks is unscored, with its reason."""
        rows = [self.row(response) for response in responses]
        total = _numbers(rows, lambda row: row.get("reward"))
        named = dict.fromkeys(name for row in rows for name in (row or {}).get("terms", {}))
        terms = {
            name: _numbers(rows, lambda row, name=name: row.get("terms", {}).get(name)) for name in named
        }
        reasons = {i: _reason(rows[i]) for i in np.flatnonzero(np.isnan(total)).tolist()}
        return Breakdown(total, terms or {"recorded": total}, {}, reasons)

    def classes(self, responses: Sequence[Response]) -> tuple[str | None, ...]:
        """The recorded class by grades; None where there is none."""
        return tuple((self.row(response) or {}).get("completion_class") for response in responses)

    def row(self, response: Response) -> Mapping[str, Any] | None:
        return self._rows.get((response.prompt.messages, response.text))

    def found(self, responses: Sequence[Response]) -> int:
        """How many of the responses the file has."""
        return sum(self.row(response) is not None for response in responses)


class RecordedScores:
    """The reward model's term from a file: `terms.reward_model` where a row has it, else `reward`."""

    def __init__(self, path: Path | str) -> None:
        self._recorded = RecordedRewards(path)

    def __call__(self, responses: Sequence[Response]) -> Breakdown:
        breakdown = self._recorded(responses)
        total = breakdown.terms.get(REWARD_MODEL, breakdown.total)
        reasons = {
            i: breakdown.reasons.get(i, "the file has no score")
            for i in np.flatnonzero(np.isnan(total)).tolist()
        }
        return Breakdown(total, {REWARD_MODEL: total}, {}, reasons)


def reward_rows(
    responses: Sequence[Response],
    breakdown: Breakdown,
    classes: Sequence[str | None] | None = None,
    graded: tuple[str, Grades, Mapping[str, str], str] | None = None,
) -> Iterator[dict[str, Any]]:
    """The rows of a recorded run; `graded` is (grader, grades of these responses, question digests, template)."""
    bare = ({"prompt": messages_as_json(r.prompt.messages), "response": r.text} for r in responses)
    rows = bare if graded is None else grade_rows(graded[0], responses, *graded[1:])
    for i, row in enumerate(rows):
        row |= {"reward": _or_none(breakdown.total[i])}
        if i in breakdown.reasons:
            row["reason"] = breakdown.reasons[i]
        row["terms"] = {name: _or_none(values[i]) for name, values in breakdown.terms.items()}
        if classes is not None and classes[i] is not None:
            row["completion_class"] = classes[i]
        yield row


def _checked(row: Row) -> Row:
    row.messages("prompt")
    row.get("response", str)
    if "reward" not in row.values:
        raise row.error("reward", "is missing", "write the reward, or null and its reason")
    terms = row.get("terms", dict) if "terms" in row.values else {}
    for name, value in [("reward", row.values["reward"]), *((f"terms.{n}", v) for n, v in terms.items())]:
        if value is not None and not _is_number(value):
            raise row.error(
                name, f"{value!r} is not a finite number", "write a number, or null and its reason"
            )
    return row


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(rows: Sequence[Mapping[str, Any] | None], pick: Any) -> np.ndarray:
    values = [None if row is None else pick(row) for row in rows]
    return np.array([np.nan if value is None else float(value) for value in values])


def _reason(row: Mapping[str, Any] | None) -> str:
    return NOT_RECORDED if row is None else str(row.get("reason") or "recorded without a reward")


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def check_found(recorded: RecordedRewards, responses: Sequence[Response]) -> None:
    """Raises InputError where a file has none of the completions: it is of another set."""
    if recorded.found(responses) == 0:
        raise InputError(
            f"has a reward for none of the {len(responses)} completions",
            path=recorded.path,
            fix="record the reward on these completions, or name the set that it was recorded on with on=",
        )
