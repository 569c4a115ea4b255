"""A grader gives P(proposition is true | prompt, response), or no number and the reason why: one file a grader."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from evals.rules.propositions import Proposition
from evals.values.conversation import Response
from evals.values.grades import Grades

Progress = Callable[[int], None]

# Adding a grader is one file and one line here: its `build(spec, rulebook)`, called by `evals.graders.build`.
# Named as text, so that listing them loads no torch.
GRADERS: Mapping[str, str] = {
    "language_model": "evals.graders.language_model:build",
    "encoder": "evals.graders.encoder:build",
    "recorded": "evals.graders.recorded:build",
    "server": "evals.graders.server:build",
}


@runtime_checkable
class Grader(Protocol):
    """Anything that grades. A failure on one pair is an unscored grade; only bad set-up raises."""

    @property
    def name(self) -> str: ...

    def grade(self, responses: Sequence[Response], propositions: Sequence[Proposition]) -> Grades: ...


def grade_in_batches(
    grader: Grader,
    responses: Sequence[Response],
    propositions: Sequence[Proposition],
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Grades:
    """Grade many responses; `progress` is told the number of responses after each batch."""
    parts = []
    for start in range(0, max(len(responses), 1), batch_size):
        batch = responses[start : start + batch_size]
        parts.append(grader.grade(batch, propositions))
        if progress is not None and batch:
            progress(len(batch))
    return Grades.concatenate(parts)
