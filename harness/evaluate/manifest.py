"""What the manifest.json of an evaluation says: what was asked, by which command, and what the gate decided."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evals.judges import Judge
from evals.suites import Suite, suite_source
from evals.values.errors import UndecidableError
from harness.evaluate.capability import capability_record, tasks_of
from harness.evaluate.measuring import counted_as_one
from harness.keys.evaluate import EvaluateConfig
from harness.keys.gate import GateVerdict
from harness.record.evaluation import GATE, KIND, Evaluation
from harness.record.manifest import Kind
from harness.record.run import SPENDING
from harness.storage.digest import digest, figures
from harness.storage.disk import write_json, writing
from harness.storage.provenance import git_commit
from harness.storage.store import MANIFEST
from harness.subjects.model import Model


def evaluation_record(
    config: EvaluateConfig, models: Sequence[Model], suites: Sequence[Suite], judges: Mapping[str, Judge]
) -> dict[str, Any]:
    """What a later comparison must know, as JSON values: see `comparable.obstacles`."""
    record = {
        "suites": {
            suite.name: {
                "version": suite.version,
                "prompts": len(suite.prompts),
                "source": suite_source(suite.name).source,
                "licence": suite_source(suite.name).licence,
                **counted_as_one(suite, config.cluster),
            }
            for suite in suites
        },
        "judges": {name: {"identity": judge.identity} for name, judge in judges.items()},
        "models": {
            model.name: {
                "source": dict(model.identity),
                "template": model.template,
                "decoding": dict(model.decoding),
            }
            for model in models
        },
    }
    if config.capability.wanted:
        tasks = tasks_of(config.capability)
        record["capability"] = capability_record(tasks, config.capability.limit, config.seed)
    return json.loads(json.dumps(figures(record)))


def write_manifest(
    folder: Path,
    config: EvaluateConfig,
    record: Mapping[str, Any],
    notes: Sequence[str],
    command: Sequence[str],
    spent: Mapping[str, Any],
    gate: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Write manifest.json with what claimed the folder; the evaluation as it reads back."""
    path = folder / MANIFEST
    manifest = {
        "config_digest": digest({"evaluate": config.identity()}),
        "kind": Kind.EVALUATION.value,
        "name": config.name,
        "command": shlex.join(["rbrbench", "evaluate", *command]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "notes": list(notes),
        "tolerance": config.margin,  # as older records call it
        "margin": config.capability.margin,
        KIND: dict(record),
    }
    if spent:
        manifest[SPENDING] = dict(spent)
    if gate is not None:
        manifest[GATE] = dict(gate)
    with writing(folder):
        write_json(path, manifest)
    return Evaluation(folder)


def gate_record(code: int, said: Sequence[str], unscored: UndecidableError | None) -> dict[str, Any]:
    """What the manifest keeps of the gate: the command's exit code, and why."""
    if unscored is None:
        return {"exit_code": code, "reasons": list(said)}
    return {"exit_code": GateVerdict.CANNOT_TELL.exit_code, "reasons": [*said, str(unscored)]}
