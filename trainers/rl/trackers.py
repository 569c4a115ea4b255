"""Experiment trackers, through Accelerate's: TensorBoard, Weights & Biases, MLflow, Trackio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.values.errors import InputError

NAMES = ("tensorboard", "wandb", "mlflow", "trackio")
FOLDER = "trackers"


class Trackers:
    """Every number of an update's metrics, once, to each tracker; nothing at all where none is named.

    Raises InputError for an unknown tracker, or one whose package is not installed.
    """

    def __init__(
        self, names: Sequence[str], run: str, folder: Path, config: Mapping[str, Any] | None = None
    ) -> None:
        check_trackers(names)
        self._trackers = [_tracker(name, run, folder / FOLDER) for name in names]
        for tracker in self._trackers:
            tracker.start()
            tracker.store_init_configuration(_plain(config or {}))

    def log(self, update: int, metrics: Mapping[str, Any]) -> None:
        numbers = {k: float(v) for k, v in metrics.items() if k != "update" and _is_number(v)}
        for tracker in self._trackers:
            tracker.log(numbers, step=update)

    def finish(self) -> None:
        for tracker in self._trackers:
            tracker.finish()


def check_trackers(names: Sequence[str]) -> None:
    """Raises InputError for an unknown tracker, or one whose package is not installed."""
    from importlib.util import find_spec

    for name in names:
        if name not in NAMES:
            raise InputError(
                f"{name!r} is no tracker", field="trackers", fix=f"use some of {', '.join(NAMES)}"
            )
        if find_spec(name) is None:
            raise InputError(
                f"{name} is not installed",
                field="trackers",
                fix="pip install -e '.[trackers]' in the checkout",
            )


def _tracker(name: str, run: str, folder: Path) -> Any:
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # Accelerate's trackers ask it which process they are in.
    kind = LOGGER_TYPE_TO_CLASS[name]
    if not kind.requires_logging_directory:
        return kind(run)
    folder.mkdir(parents=True, exist_ok=True)
    return kind(run, logging_dir=str(folder))


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Values that every tracker takes for a setting."""
    return {
        key: value if isinstance(value, (bool, int, float, str)) else str(value)
        for key, value in config.items()
    }


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
