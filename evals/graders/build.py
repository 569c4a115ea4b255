"""The one factory of graders: from settings, for every command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evals.graders import GRADERS, Grader
from evals.models.server import GraderServerSettings
from evals.rules.rulebook import Rulebook
from evals.values.errors import InputError
from evals.values.kinds import FromOutside, find_builder, is_outside

if TYPE_CHECKING:  # it loads transformers
    from evals.graders.question import GraderPrompt


@dataclass(frozen=True)
class GraderSpec:
    """A grader that is not loaded yet: its kind, where it lies, or the server that is it.

    `name` is for tables and files; empty: the kind, of recorded grades the name in the file. `prompt` is how a
    language model is asked; None: as it was trained, else after the response.
    """

    kind: str
    path: str = ""
    server: GraderServerSettings | None = None
    name: str = ""
    prompt: GraderPrompt | None = None


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
