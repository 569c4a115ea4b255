"""Responses first: ask a model for a suite's, keep each as it comes, ask a second time for the missing only."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evals.suites import Suite
from harness.evaluate.spending_line import SpendingLine
from harness.runtime.console import Console
from harness.storage.digest import digest
from harness.subjects.model import Model
from harness.subjects.outcome import AppendLog, Outcome


def responses_of(model: Model, suite: Suite, store: Path, console: Console) -> list[Outcome]:
    """An outcome for each response that the suite asks for, in the suite's order.

    `store` is the folder of logs, one a (model, suite, decoding). What it has is not asked again; an outcome
    without a response is.
    """
    expected = model.expected(suite)
    path, header = _log_of(model, suite, store)
    with AppendLog(path, header) as log:
        rows = (outcome for outcome in map(Outcome.of_row, log.rows) if outcome is not None)
        found = {outcome.key: _parted(outcome, model) for outcome in rows}
        missing = [(p, s) for p, s in expected if _is_missing(found.get((p.id, s)))]
        if missing:
            label = f"responses: {model.name} {suite.name}"
            lock, line = threading.Lock(), SpendingLine(console, model)
            with console.stage(label, total=len(missing), unit="responses") as advance:

                def keep(outcomes: Sequence[Outcome]) -> None:
                    with lock:
                        log.append(outcome.as_json() for outcome in outcomes)
                        found.update({outcome.key: outcome for outcome in outcomes})
                        advance(len(outcomes))
                        line.tell()

                model.respond(suite, missing, keep)
    return [found.get((p.id, s)) or Outcome(p.id, s, None, False, "was not asked") for p, s in expected]


def _is_missing(outcome: Outcome | None) -> bool:
    """A thought that never ended would not end another time."""
    return outcome is None or (outcome.text is None and not outcome.thought)


def _parted(outcome: Outcome, model: Model) -> Outcome:
    """A server's answers of before thoughts were parted have both in one text, and are not paid for again."""
    marks = getattr(model, "marks", None)
    if marks is None or outcome.text is None or outcome.thought:
        return outcome
    read = marks.part(outcome.text)
    if not read.thought and not read.unanswered:
        return outcome
    told = None if read.unanswered else read.answer
    return replace(outcome, text=told, reason=read.unanswered, thought=read.thought)


def is_begun(model: Model, suite: Suite, store: Path) -> bool:
    """Whether the model was asked for this suite before."""
    return _log_of(model, suite, store)[0].is_file()


def _log_of(model: Model, suite: Suite, store: Path) -> tuple[Path, dict[str, Any]]:
    """Where a model's responses to a suite stand, and what the file's first line says."""
    header = {
        "model": dict(model.identity),
        "suite": suite.name,
        "version": suite.version,
        "decoding": dict(model.decoding),
    }
    return store / digest(header) / "outcomes.jsonl", header
