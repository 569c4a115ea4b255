"""How `rbrbench gold` asks a grader: where it lies, how it is put, and when too much is unscored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from evals.graders import Grader, GraderSpec
from evals.rules.propositions import Proposition
from evals.rules.rulebook import Rulebook
from evals.values.conversation import Response
from evals.values.errors import InputError, UndecidableError
from evals.values.grades import Grades, commonest_reason, is_too_much
from harness.keys.gold import AskedBy, GoldConfig, GraderChoice

if TYPE_CHECKING:  # it loads transformers
    from evals.graders.question import GraderPrompt

Advance = Callable[[int], None]


def grader_spec(choice: GraderChoice, config: GoldConfig, rulebook: Rulebook) -> GraderSpec:
    """Where the grader lies and how it is asked. Raises InputError for a server that is not named."""
    if choice.kind == "server":
        server = replace(config.server, model=choice.path or config.server.model)
        server.require()
        return GraderSpec(choice.kind, server=server, name=choice.name)
    by_rulebook = choice.kind == "language_model" and config.asked_by is AskedBy.RULEBOOK
    prompt = _rulebooks_prompt(rulebook) if by_rulebook else None
    return GraderSpec(choice.kind, choice.path or "", name=choice.name, prompt=prompt)


def _rulebooks_prompt(rulebook: Rulebook) -> GraderPrompt:
    from evals.graders.question import GraderPrompt, Layout

    if rulebook.prompt_template is None:
        raise InputError(
            "the rulebook has no prompt_template", path=rulebook.path, fix="add one, or use asked_by=model"
        )
    return GraderPrompt(Layout.QUESTION_FIRST, rulebook.prompt_template)


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
