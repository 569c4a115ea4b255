"""What a run writes: metrics, policies for evaluation, and states to go on from after a kill.

Folders appear whole: each is written under a temporary name, flushed to disk and renamed. A state
(`trainers.rl.saved_state`) that is damaged is left aside, with a warning, for the state before it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.values.errors import InputError
from evals.values.json_text import parse_json, read_json_object
from trainers.devices.processes import Processes
from trainers.models.adapters import adapter_weights, plain_weights, save_plain
from trainers.rl.alarm import KL_FACTOR, MAX_ROLLBACKS
from trainers.rl.config import PPOConfig
from trainers.rl.learner import Learner
from trainers.rl.random_state import random_state
from trainers.rl.recipe import Recipe
from trainers.rl.saved_state import CorruptState, learner_tensors, load_state, save_state

STATES_KEPT = 2


class RunFolder:
    """The folder of one run. Only the main process writes; every process reads when it resumes."""

    def __init__(
        self,
        path: Path,
        config: PPOConfig,
        prompt_ids: Sequence[Sequence[int]],
        tokenizer: PreTrainedTokenizerBase,
        processes: Processes,
        recipe: Recipe | None = None,
    ) -> None:
        """Raises InputError when the folder holds a run with other settings or prompts."""
        self.path, self._config, self._tokenizer, self._processes = path, config, tokenizer, processes
        self._rows: list[str] = []
        prompts = hashlib.sha256(json.dumps([list(map(int, row)) for row in prompt_ids]).encode()).hexdigest()
        self._settings = {"config": dataclasses.asdict(config), "prompts": prompts}
        self._settings |= recipe.identity if recipe is not None else {}
        path.mkdir(parents=True, exist_ok=True)
        self.finished = self._open()
        if self.finished and processes.is_main:  # A kill may have come before the last of them was dropped.
            self._drop_states()
        processes.wait()

    def _open(self) -> bool:
        record = self.path / "run.json"
        if not record.is_file():
            if self._processes.is_main:
                _write_text(record, _json(self._settings | {"finished": False}))
            return False
        found = read_json_object(record, fix="give an empty folder")
        asked = {key: value for key, value in found.items() if key not in ("finished", "updates", "events")}
        if asked != json.loads(json.dumps(self._settings)):
            raise InputError(
                "the folder holds a run with other settings or prompts",
                path=self.path,
                fix="give an empty folder, or the settings of run.json",
            )
        return bool(found.get("finished"))

    def restore(self, learner: Learner) -> None:
        """Bring `learner` to the newest sound state, if there is one, and cut the logs back to it.

        A run that may be rolled back has a state of its start.
        """
        for state in sorted(self._states(), key=_update_of, reverse=True):
            try:
                self._rows = load_state(state, learner, self._processes.rank)
                break
            except CorruptState as error:
                warnings.warn(f"{state}: {error}; going on from the state before it", stacklevel=2)
        if self._processes.is_main:
            _write_text(self.path / "metrics.jsonl", "".join(self._rows))
            _cut_log(self.path / "timings.jsonl", learner.update)
        self._processes.wait()
        if self._config.rolls_back and not self._states():
            self._write_state(learner)
            self._processes.wait()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The metrics of every update so far."""
        return [parse_json(row) for row in self._rows]

    def record(self, learner: Learner, metrics: Mapping[str, Any]) -> None:
        """Append a row to metrics.jsonl."""
        self._rows.append(_json(metrics) + "\n")
        self._append("metrics.jsonl", self._rows[-1])

    def record_times(self, update: int, times: Mapping[str, float]) -> None:
        self._append("timings.jsonl", _json({"update": update} | dict(times)) + "\n")

    def save(self, learner: Learner, *, now: bool = False) -> None:
        """Write what is due after this update: a checkpoint, a state, or (`now`) a state in any case.

        The checkpoint comes first: a state promises that everything before it is on disk.
        """
        if learner.update in self._config.save_points:
            self._write_checkpoint(learner)
        due = learner.update % self._config.save_every == 0 and learner.update < self._config.updates
        if due or now:
            self._write_state(learner)

    def _write_checkpoint(self, learner: Learner) -> None:
        self._write_model(learner.policy, f"checkpoint-{learner.update}")

    def _write_model(self, model: PreTrainedModel, name: str) -> None:
        main = self._processes.is_main
        split = self._processes.shards
        weights = plain_weights(model, keep=main) if split else None
        lora = adapter_weights(model, keep=main) if split else None
        if main:
            write_folder(
                self.path / name, lambda folder: save_plain(model, self._tokenizer, folder, weights, lora)
            )

    def _write_state(self, learner: Learner) -> None:
        randomness = self._processes.gather(random_state())
        if not self._processes.is_main:
            for _ in learner_tensors(learner, keep=False):
                pass
            return
        write_folder(
            self.path / f"state-{learner.update}",
            lambda folder: save_state(folder, learner, self._rows, randomness),
        )
        for old in sorted(self._states(), key=_update_of)[:-STATES_KEPT]:
            shutil.rmtree(old)

    def roll_back(self, learner: Learner, limit: str) -> bool:
        """Take `learner` back to before the samples that crossed `limit`, with more kl_coef; whether it may go on.

        Update u's samples show the policy after update u - 1, so that only states before that one are
        known to be within the limits. The event is part of the state, which is written anew: a kill
        at any moment leaves the run either before or after the way back.
        """
        crossed_at, events = learner.update, list(learner.events)
        rollbacks = learner.rollbacks + 1
        self._processes.wait()
        if self._processes.is_main:
            for state in self._states():
                if _update_of(state) >= max(crossed_at - 1, 1):
                    shutil.rmtree(state)
            for checkpoint in self.path.glob("checkpoint-*"):
                if int(checkpoint.name.removeprefix("checkpoint-")) >= max(crossed_at - 1, 1):
                    shutil.rmtree(checkpoint)
        self._processes.wait()
        self.restore(learner)
        before, learner.kl_coef = learner.kl_coef, learner.kl_coef * KL_FACTOR
        learner.rollbacks = rollbacks
        learner.events = [
            *events,
            f"update {crossed_at}: {limit}; back to update {learner.update}, "
            f"kl_coef {before:.3g} to {learner.kl_coef:.3g}",
        ]
        self._write_state(learner)
        return rollbacks < MAX_ROLLBACKS

    def end_early(self, learner: Learner, why: str) -> None:
        """Let the policy as it is be the run's last."""
        learner.events.append(f"ended at update {learner.update}: {why}")
        self._write_checkpoint(learner)

    def finish(self, learner: Learner) -> None:
        """Write the critic, where there is one, mark the run as done and drop its states."""
        if learner.critic is not None:
            self._write_model(learner.critic, "critic")
        if self._processes.is_main:
            ended = {"finished": True, "updates": learner.update, "events": learner.events}
            _write_text(self.path / "run.json", _json(self._settings | ended))
            self._drop_states()
        self._processes.wait()

    def _append(self, name: str, text: str) -> None:
        if self._processes.is_main:
            with open(self.path / name, "a", encoding="utf-8") as file:
                file.write(text)

    def _drop_states(self) -> None:
        for state in self._states():
            shutil.rmtree(state)

    def _states(self) -> list[Path]:
        return [path for path in self.path.glob("state-*") if path.name.removeprefix("state-").isdigit()]


# --- files -----------------------------------------------------------------------------------


def write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Have `write` fill a folder that appears as `target` whole or not at all."""
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    write(temporary)
    for path in temporary.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
    if target.exists():
        shutil.rmtree(target)
    os.replace(temporary, target)


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _cut_log(path: Path, update: int) -> None:
    """Drop rows after `update`, and a last row that a kill cut short."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    _write_text(path, "".join(line for line in lines if _is_of(line, update)))


def _is_of(line: str, update: int) -> bool:
    """Whether it is a whole row of an update up to `update`."""
    try:
        row = parse_json(line) if line.endswith("}\n") else None
    except ValueError:
        return False
    return isinstance(row, dict) and row.get("update", update + 1) <= update


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _update_of(state: Path) -> int:
    return int(state.name.removeprefix("state-"))


@contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, so that the update in hand can end and be saved."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)
