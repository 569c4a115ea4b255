"""lm-eval's own task files with their data taken from local rows in the hub's schema, nothing else changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from evals.capability.lm_eval_tasks import FOLDER


def redirect(folder: Path, task: str, own: str, splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> Path:
    """`folder`/TASK.yaml, which includes lm-eval's own file `own` and reads `splits` in the place of the hub."""
    files = {split: str(write_rows(folder / f"{task}_{split}.jsonl", rows)) for split, rows in splits.items()}
    config = {
        "include": str(FOLDER / own),
        "task": task,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files},
    }
    path = folder / f"{task}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
