"""A file of recorded responses as a model under test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from evals.models.thoughts import AUTO, Thoughts, of_text
from evals.suites import Suite
from evals.suites.recorded_responses import ResponseColumns, read_responses
from evals.values.conversation import Prompt
from evals.values.csv_rows import is_absent
from harness.storage.digest import digest_files
from harness.storage.whole_folder import check_file
from harness.subjects.model import Keep, clean
from harness.subjects.outcome import Outcome


@dataclass(frozen=True)
class RecordedModel:
    """`outcomes` by suite; an empty response is none, nor is a cell of CSV that reads `nan`, `null` or `None` alone.

    `reworded`: prompts whose recorded wording differs."""

    name: str
    identity: Mapping[str, Any]
    outcomes: Mapping[str, Sequence[Outcome]]
    reworded: Mapping[str, Sequence[str]] = field(default_factory=dict)
    template: str = "recorded"
    decoding: Mapping[str, Any] = field(default_factory=lambda: {"recorded": True})

    @classmethod
    def read(
        cls,
        name: str,
        path: Path,
        columns: ResponseColumns,
        suites: Sequence[Suite],
        thoughts: str = AUTO,
    ) -> RecordedModel:
        """Raises InputError, naming file, line and field, for a file that does not fit the suites."""
        check_file(path)
        found = read_responses(path, suites, columns)
        is_csv, marks = path.name.endswith((".csv", ".csv.gz")), of_text(thoughts)
        of = partial(_outcome_of_cell if is_csv else _outcome, marks)
        return cls(
            name,
            {"recorded": digest_files([path])},
            {
                suite: [of(r.prompt.id, r.sample, r.text) for r in recorded.responses]
                for suite, recorded in found.items()
            },
            {suite: recorded.reworded for suite, recorded in found.items() if recorded.reworded},
        )

    def expected(self, suite: Suite) -> list[tuple[Prompt, int]]:
        prompts = {prompt.id: prompt for prompt in suite.prompts}
        return [(prompts[o.prompt_id], o.sample) for o in self.outcomes[suite.name]]

    def respond(self, suite: Suite, missing: Sequence[tuple[Prompt, int]], keep: Keep) -> None:
        wanted = {(prompt.id, sample) for prompt, sample in missing}
        keep([outcome for outcome in self.outcomes[suite.name] if outcome.key in wanted])


def _outcome_of_cell(thoughts: Thoughts, prompt_id: str, sample: int, text: str) -> Outcome:
    if text.strip() and is_absent(text):
        return Outcome(prompt_id, sample, None, reason=f"the recorded cell reads {text.strip()!r} alone")
    return _outcome(thoughts, prompt_id, sample, text)


def _outcome(thoughts: Thoughts, prompt_id: str, sample: int, text: str) -> Outcome:
    if not text.strip():
        return Outcome(prompt_id, sample, None, reason="the recorded response is empty")
    read = thoughts.part(clean(text))
    told = None if read.unanswered else read.answer
    return Outcome(prompt_id, sample, told, reason=read.unanswered, thought=read.thought)
