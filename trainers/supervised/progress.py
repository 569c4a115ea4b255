"""How many steps a transformers Trainer takes, and how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from transformers import PrinterCallback, Trainer, TrainerCallback

Progress = Callable[[int], None]


class Passes(Protocol):
    """`epochs` passes over the rows, `batch_size` rows an optimiser step."""

    batch_size: int
    epochs: float


def steps_of(config: Passes, rows: int) -> int:
    """Optimiser steps over `rows`, of which a pass's last may have fewer; at least 1."""
    return max(1, round(-(-rows // config.batch_size) * config.epochs))


class StepProgress(TrainerCallback):
    """Calls `progress(1)` after each optimiser step."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if self.progress is not None:
            self.progress(1)


def quieten(trainer: Trainer) -> None:
    """Take away the callback that prints a dictionary at the end: the console has its own line."""
    trainer.remove_callback(PrinterCallback)
