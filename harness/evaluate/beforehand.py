"""What can be known before the first response is asked for: weights that are no model's, a judge without room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from evals.judges import Judge
from evals.suites import Suite
from evals.values.conversation import Response
from evals.values.errors import InputError
from harness.evaluate.judging import on_suite
from harness.evaluate.respond import is_begun
from harness.subjects.local_model import LocalModel
from harness.subjects.model import Model


@runtime_checkable
class HasRoom(Protocol):
    """A judge whose model's context is known here."""

    def without_room(self, responses: Sequence[Response]) -> list[str]:
        """Why, of each response that the context has no room for."""
        ...


def check_models(models: Sequence[Model], suites: Sequence[Suite], store: Path) -> None:
    """Raises InputError for a later model that cannot be loaded, before the first has answered.

    `store` is the folder of the responses' logs: what has answered is not looked at again.
    """
    for model in models[1:]:
        if isinstance(model, LocalModel) and not all(is_begun(model, suite, store) for suite in suites):
            model.check_weights()


def check_rooms(
    judges: Mapping[str, Judge], suites: Sequence[Suite], max_unscored: float, labels_by: str | None
) -> None:
    """Raises InputError for a judge that can read no prompt of a suite, not even with an empty response.

    The leading judge, by whom too much that is unscored ends the evaluation, may be without room for the share
    `max_unscored` alone. `labels_by` is one that labels a few only.
    """
    leading = next((name for name in judges if name != labels_by), None)
    for name, judge in judges.items():
        for suite in suites:
            allowed = max_unscored if name == leading else 0.999
            _check_room(name, on_suite(judge, suite), suite, min(allowed, 1.0) if max_unscored < 1 else 1.0)


def _check_room(name: str, judge: Judge, suite: Suite, allowed: float) -> None:
    if not isinstance(judge, HasRoom) or not suite.prompts:
        return
    reasons = judge.without_room([Response(prompt, "") for prompt in suite.prompts])
    if len(reasons) > allowed * len(suite.prompts):
        raise InputError(
            f"has no room for {len(reasons)} of {len(suite.prompts)} prompts of {suite.name}, not even with an "
            f"empty response ({reasons[0]})",
            field=f"judges.{name}",
            fix="take a judge with a longer context, or max_unscored=1 to leave them unscored",
        )
