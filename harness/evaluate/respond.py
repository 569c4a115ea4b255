"""Responses first: ask a model for a suite's, keep each as it comes, ask a second time for the missing only."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evals.suites import Suite
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
        found = {outcome.key: outcome for outcome in map(Outcome.of_row, log.rows) if outcome is not None}
        missing = [(p, s) for p, s in expected if (p.id, s) not in found or found[p.id, s].text is None]
        if missing:
            label = f"responses: {model.name} {suite.name}"
            lock = threading.Lock()
            with console.stage(label, total=len(missing), unit="responses") as advance:

                def keep(outcomes: Sequence[Outcome]) -> None:
                    with lock:
                        log.append(outcome.as_json() for outcome in outcomes)
                        found.update({outcome.key: outcome for outcome in outcomes})
                        advance(len(outcomes))

                model.respond(suite, missing, keep)
    return [found.get((p.id, s)) or Outcome(p.id, s, None, False, "was not asked") for p, s in expected]


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
