"""How a transformers Trainer is set up here: its steps, its settings, and how far it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainerCallback

Progress = Callable[[int], None]


class Passes(Protocol):
    """`epochs` passes over the rows, `batch_size` rows an optimiser step."""

    batch_size: int
    epochs: float


def steps_of(config: Passes, rows: int) -> int:
    """Optimiser steps over `rows`, of which a pass's last may have fewer; at least 1."""
    return max(1, round(-(-rows // config.batch_size) * config.epochs))


class Schedule(Protocol):
    """A cosine schedule up to `learning_rate`, whose first `warmup_share` of steps rises."""

    batch_size: int
    learning_rate: float
    warmup_share: float


def trainer_settings(
    config: Schedule, steps: int, seed: int, model: PreTrainedModel, out: Path
) -> dict[str, Any]:
    """What every Trainer here is given, by transformers' names: schedule, seed, device, and no word of its own."""
    return {
        "output_dir": str(out / "trainer"),
        "per_device_train_batch_size": config.batch_size,
        "max_steps": steps,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": round(config.warmup_share * steps),
        "seed": seed,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": model.dtype == torch.bfloat16,
    }


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
