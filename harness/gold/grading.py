"""How `rbrbench gold` asks a grader, and stops when too much is unscored; what a teacher says.

A teacher is asked of completions without labels: that is what an encoder is fitted to in distillation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evals.graders import Grader, GraderSpec
from evals.graders.calibration import cuts_of
from evals.rules.propositions import Proposition
from evals.rules.rulebook import Rulebook
from evals.values.conversation import LabelledResponse, Response
from evals.values.errors import InputError, UndecidableError
from evals.values.grades import Grades, commonest_reason, is_too_much
from evals.values.jsonl_rows import Row, read_jsonl
from harness.gold.labels import GoldSplits
from harness.keys.gold import GoldConfig, GoldServer, GraderChoice
from harness.runtime.console import Advance
from harness.subjects.graders import GRADES, load_grader, spec_of


def grader_spec(choice: GraderChoice, config: GoldConfig, rulebook: Rulebook) -> GraderSpec:
    """Where the grader lies and how it is asked. Raises InputError for a server that is not named."""
    keys, server = choice.chat_template, priced(choice, config)
    return spec_of(choice.kind, choice.path, server, config.asked_by, rulebook, choice.name, keys)


def priced(choice: GraderChoice, config: GoldConfig) -> GoldServer:
    """The server, at the prices of this grader."""
    asked, answered = choice.prompt_price, choice.completion_price
    if not asked and not answered:
        return config.server
    return replace(config.server, prompt_price=asked, completion_price=answered)


def grade_or_stop(
    grader: Grader,
    name: str,
    responses: Sequence[Response],
    propositions: Sequence[Proposition],
    config: GoldConfig,
    advance: Advance,
) -> Grades:
    """Grades in batches; stops, with what was graded kept, once the limit of unscored grades must be passed."""
    parts, unscored, total = [], 0, len(responses) * len(propositions)
    for start in range(0, max(len(responses), 1), config.batch_size):
        batch = responses[start : start + config.batch_size]
        parts.append(grader.grade(batch, propositions))
        advance(len(batch))
        unscored += parts[-1].n_unscored
        if is_too_much(unscored, total, config.max_unscored):
            seen = Grades.concatenate(parts)
            raise UndecidableError(
                f"grader {name}: {unscored} of the first {seen.probability.size} grades are unscored, "
                f"more than max_unscored ({config.max_unscored:g}) of all {total} allows; the commonest reason "
                f"is: {commonest_reason(seen.reasons.values())}; grades are kept, the same command goes on from there"
            )
    return Grades.concatenate(parts)


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
        """The teacher's grades as labels: true from 0.5 on, of levels from their cut, none where it gave no grade."""
        cuts = cuts_of(self.propositions)
        names, known = self.grades.propositions, np.isfinite(self.grades.probability)
        return [
            LabelledResponse(
                response,
                {name: bool(row[j] >= cuts[name]) for j, name in enumerate(names) if seen[j]},
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
