"""A grader gives P(proposition is true | prompt, response), or the expected score of its levels, or no number and the
reason why: one file a grader.

`build_grader` is the one factory: from settings, for every command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from evals.models.server import GraderServerSettings
from evals.rules.propositions import Proposition
from evals.rules.rulebook import Rulebook
from evals.values.conversation import Response
from evals.values.errors import InputError
from evals.values.kinds import FromOutside, find_builder, found_in, is_outside

if TYPE_CHECKING:  # the first loads transformers, the last numpy
    from evals.graders.question import GraderPrompt
    from evals.models.spending import Meter
    from evals.values.grades import Grades

Progress = Callable[[int], None]

# Adding a grader is one file with a `build(spec, rulebook)`, which `build_grader` calls: it is found here, and loads no
# torch.
GRADERS: Mapping[str, str] = found_in(__name__, __path__, "build")


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
    from evals.values.grades import Grades

    parts = []
    for start in range(0, max(len(responses), 1), batch_size):
        batch = responses[start : start + batch_size]
        parts.append(grader.grade(batch, propositions))
        if progress is not None and batch:
            progress(len(batch))
    return Grades.concatenate(parts)


@dataclass(frozen=True)
class GraderSpec:
    """A grader that is not loaded yet: its kind, where it lies, or the server that is it.

    `name` is for tables and files; empty: the kind, of recorded grades the name in the file. `prompt` is how a
    language model is asked; None: as it was trained, else after the response. `meter` counts what a server is asked.
    `chat_template`: keys of a language model's template.
    """

    kind: str
    path: str = ""
    server: GraderServerSettings | None = None
    name: str = ""
    prompt: GraderPrompt | None = None
    meter: Meter | None = None
    chat_template: Mapping[str, Any] = field(default_factory=dict)


def build_grader(
    spec: GraderSpec, rulebook: Rulebook | None = None, kinds: Mapping[str, str] = GRADERS
) -> Grader:
    """The grader of a kind in `kinds`, or of MODULE:ATTRIBUTE: a function of the specification and the rulebook.

    The `identity` of one from outside also names its code. Raises InputError for an unknown kind, for what it
    names not being a grader's builder, and for what does not load.
    """
    build = find_builder("grader", spec.kind, kinds, "grader", "the specification and the rulebook")
    grader: Grader = build(spec, rulebook)
    if not isinstance(grader, Grader):
        problem = f"{spec.kind!r} gave a {type(grader).__name__}, which is no grader"
        raise InputError(
            problem, field="grader", fix="return what has `name` and `grade(responses, propositions)`"
        )
    if is_outside(spec.kind):
        return FromOutside(grader, spec.kind, spec.path)  # type: ignore[return-value]
    return grader
