"""What a teacher says of completions without labels: what an encoder is fitted to in distillation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evals.rules.propositions import Proposition
from evals.rules.rulebook import Rulebook
from evals.values.conversation import LabelledResponse, Response, Row, read_jsonl
from evals.values.errors import InputError
from evals.values.grades import Grades
from harness.gold.grading import grade_or_stop, grader_spec
from harness.gold.labels import GoldSplits
from harness.keys.gold import GoldConfig
from harness.subjects.graders import GRADES, load_grader

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Lesson:
    """A teacher's grades [responses, propositions]. `left_out` counts responses whose prompt has labels."""

    teacher: str
    propositions: tuple[Proposition, ...]
    responses: list[Response]
    grades: Grades
    left_out: int

    @property
    def verdicts(self) -> list[LabelledResponse]:
        """The teacher's grades as labels: true from 0.5 on, none where it gave no grade."""
        names, known = self.grades.propositions, np.isfinite(self.grades.probability)
        return [
            LabelledResponse(
                response,
                {name: bool(row[j] >= 0.5) for j, name in enumerate(names) if seen[j]},
            )
            for response, row, seen in zip(self.responses, self.grades.probability, known, strict=True)
        ]


def read_completions(path: Path, splits: GoldSplits) -> tuple[list[Response], int]:
    """Completions to prompts that no label is given for, and the number of the others.

    Raises InputError, naming file, line and field, for a malformed row, and where nothing is left.
    """

    def parse(row: Row) -> Response:
        return Response(row.prompt(), row.completion("completion"))

    rows = read_jsonl(path, parse)
    prompts = [item.response.prompt for item in (*splits.train, *splits.judged)]
    ids, asked = {prompt.id for prompt in prompts}, {prompt.messages for prompt in prompts}
    kept = [row for row in rows if row.prompt.id not in ids and row.prompt.messages not in asked]
    if not kept:
        raise InputError(
            f"the prompts of all {len(rows)} completions are in gold.train or gold.test",
            path=path,
            field="teacher.on",
            fix="give completions to other prompts: the student is judged on those",
        )
    return kept, len(rows) - len(kept)


def teach(
    config: GoldConfig,
    rulebook: Rulebook,
    splits: GoldSplits,
    responses: list[Response],
    left_out: int,
    advance: Advance,
) -> Lesson:
    """Ask the teacher; its grades are cached. Raises InputError, and UndecidableError as a judged grader does."""
    choice = config.teacher.choice
    spec, cache = grader_spec(choice, config, rulebook), Path(config.results) / GRADES
    grader = load_grader(spec, cache, rulebook, config.batch_size)
    used = {name for t in rulebook.response_types for name in rulebook.propositions_for(t)}
    used |= {p.name for p in splits.propositions}
    propositions = tuple(p for name, p in rulebook.propositions.items() if name in used)
    grades = grade_or_stop(grader, choice.name, responses, propositions, config, advance)
    return Lesson(choice.name, propositions, responses, grades, left_out)
