"""Training in several processes: `python -m rbrbench.worker FILE` is one of them, and calls `main` here."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from evals.rules.rulebook import load_rulebook
from evals.values.errors import InputError
from evals.values.json_text import read_json
from harness.keys.methods import chosen
from harness.keys.run import RunConfig
from harness.pipeline.context import Context
from harness.pipeline.training import Origins, Training, train_policy
from harness.runtime.console import Console
from harness.runtime.launch import end_with_parent, read_launch, run_in_processes, tell, telling_failures
from harness.runtime.libraries import quiet_libraries
from harness.runtime.machines import current_group
from harness.storage.disk import write_json
from harness.storage.store import Artifact, Store
from harness.storage.usage import Usage
from trainers.devices.announced import announced

log = logging.getLogger(__name__)

ENTRY = "rbrbench.worker"
PEAK = "process_peak_memory_mb"


def train_in_processes(training: Training) -> dict[str, float]:
    """What `training` does in one process, in as many as the run's configuration says; figures of its cost.

    Those that a launcher has started, of this machine and of others, or ones that are started here.
    """
    config = training.context.config
    peaks: list[float] = []

    def told(kind: str, value: Any) -> None:
        if kind == "advance":
            training.advance(value)
        elif kind == "say":
            training.say(value)
        elif kind == PEAK:
            peaks.append(value)
        else:
            log.warning("%s", value)

    if (group := current_group()) is not None:
        group.train(ENTRY, as_json(training), announced(read_launch(config.launch)), told)
        return {"processes": config.processes, PEAK: max(peaks)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "training.json"
        write_json(path, as_json(training))
        run_in_processes(ENTRY, [str(path)], config.processes, config.launch, told)
    return {"processes": config.processes, PEAK: max(peaks)}


def as_json(training: Training) -> dict[str, Any]:
    """All that another process needs to make the same training."""
    origins = {f.name: getattr(training.origins, f.name) for f in fields(Origins)}
    return {
        "config": written(training.context.config),
        "store": str(training.context.store.root.absolute()),
        "method": training.method.name,
        "origins": {name: [a.stage, a.key] for name, a in origins.items() if a is not None},
        "out": str(training.out.absolute()),
    }


def from_json(values: dict[str, Any], *, tells: bool) -> Training:
    """The training that `as_json` describes; its progress is told to the launching process, or to nobody.

    Raises InputError when an artifact is gone.
    """
    config = read_config(values["config"])
    store = Store(values["store"])
    context = Context(config, store, Console(live=False), load_rulebook(config.rulebook_path))
    origins: dict[str, Any] = {
        f.name: _artifact(store, values["origins"].get(f.name)) for f in fields(Origins)
    }
    methods = {method.name: method for method in chosen(config.methods)}
    method, out = methods[values["method"]], Path(values["out"])
    return Training(
        context, method, Origins(**origins), out, _telling("advance", tells), _telling("say", tells)
    )


def written(config: RunConfig) -> str:
    """As YAML, for another process of this program."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def read_config(text: str) -> RunConfig:
    """What `written` wrote."""
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RunConfig), OmegaConf.create(text)))
    assert isinstance(config, RunConfig)
    return config


def _telling(kind: str, tells: bool) -> Callable[[Any], None]:
    return lambda value: tell(kind, value) if tells else None


def _artifact(store: Store, place: list[str] | None) -> Artifact | None:
    if place is None:
        return None
    found = store.find(*place)
    if found is None:
        raise InputError("is gone", path=store.root.joinpath(*place), fix="run the same command again")
    return found


class _Told(logging.Handler):
    """The first process's warnings, told to the one that launched it."""

    def emit(self, record: logging.LogRecord) -> None:
        tell("warning", record.getMessage())


def main(path: str) -> None:
    """Train as the file at `path` says, in step with the other processes of the launch."""
    end_with_parent()
    with telling_failures():
        is_first = os.environ.get("RANK", "0") == "0"
        if is_first:
            logging.getLogger().addHandler(_Told(logging.WARNING))
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        training = from_json(read_json(path), tells=is_first)
        config = training.context.config
        here = int(os.environ.get("LOCAL_WORLD_SIZE", config.processes))  # processes of this machine
        quiet_libraries(max(1, config.threads // here))
        with Usage() as usage:
            train_policy(training)
        tell(PEAK, round(usage.peak_memory_mb, 1))
