"""Capability of a local model through lm-eval, kept by what it depends on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from evals.capability import CapabilityScore, load_tasks, real_tasks, score_tasks
from evals.conversation import read_jsonl, write_jsonl
from harness.console import Console
from harness.digest import digest_files
from harness.evaluate.config import EvaluateConfig
from harness.evaluate.local_model import LocalModel
from harness.store import Store, module_versions


def capability_scores(
    config: EvaluateConfig, model: LocalModel, shelf: Path, console: Console
) -> list[CapabilityScore]:
    """Scores of the tasks in `capability.root`, with every item's outcome under its id."""
    keys = config.capability
    tasks = real_tasks(Path(keys.root or "."), keys.tasks or None)

    def build(out: Path) -> dict[str, Any]:
        loaded = load_tasks(tasks, limit=keys.limit, seed=config.seed)
        total = sum(task.items for task in loaded)
        with console.stage(f"capability: {model.name}", total=total, unit="items") as advance:
            scores = score_tasks(*model.loaded, loaded, batch_size=keys.batch_size, progress=advance)
        write_jsonl(out / "scores.jsonl", (asdict(score) for score in scores))
        return {f"{score.task} {score.metric}": score.value for score in scores}

    artifact = Store(shelf.parent).get(
        shelf.name,
        {
            "model": dict(model.identity),
            "tasks": [task.name for task in tasks],
            "files": digest_files([task.path for task in tasks if task.path is not None]),
            "limit": keys.limit,
            "seed": config.seed,
        },
        {},
        module_versions(["lm-eval"], ["evals.capability"]),
        build,
    )
    return read_jsonl(artifact.path / "scores.jsonl", lambda row: CapabilityScore(**dict(row.values)))
