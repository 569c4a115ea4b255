"""What a run writes: metrics, policies for evaluation, and states to go on from after a kill.

Folders appear whole: each is written under a temporary name, flushed to disk and renamed. A state
holds a checksum of each of its files; one that does not match is left aside, with a warning, for
the state before it. Tensors are stored as safetensors, the rest as JSON; nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.values.errors import InputError
from evals.values.json_text import parse_json, read_json_object
from trainers.devices.optimizer import optimizer_tensors, set_optimizer_tensors
from trainers.devices.processes import Processes
from trainers.devices.sharding import part_of, whole_tensors
from trainers.models.adapters import adapter_weights, plain_weights, save_plain
from trainers.rl.alarm import KL_FACTOR, MAX_ROLLBACKS
from trainers.rl.config import PPOConfig
from trainers.rl.learner import Learner
from trainers.rl.recipe import Recipe

STATES_KEPT = 2


class CorruptState(Exception):
    """A saved state that can not be read back as it was written."""


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


# --- a state ---------------------------------------------------------------------------------


def learner_tensors(learner: Learner, keep: bool = True) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Models and optimisers by name, one after another, whole; every process has to go through all of them."""
    for name, model in learner.trained.items():
        yield name, whole_tensors(_trained(model), keep)
    for name, optimizer in learner.optimizers.items():
        yield name, optimizer_tensors(optimizer, keep)


def save_state(
    folder: Path, learner: Learner, rows: Sequence[str], randomness: Sequence[RandomState]
) -> None:
    """Write every value that the rest of the run depends on; state.json, with checksums, comes last.

    `randomness`: the global generators of every process, by rank.
    """
    generators = {"ppo": learner.generator.get_state()} | {
        f"{rank}.{name}": x for rank, state in enumerate(randomness) for name, x in state.torch.items()
    }
    for name, group in (*learner_tensors(learner), ("generators", generators)):
        save_file({key: value.contiguous() for key, value in group.items()}, folder / f"{name}.safetensors")
    (folder / "metrics.jsonl").write_text("".join(rows), encoding="utf-8")
    checksums = {path.name: _checksum(path) for path in sorted(folder.iterdir())}
    state = {
        "update": learner.update,
        "kl_coef": learner.kl_coef,
        "rollbacks": learner.rollbacks,
        "events": learner.events,
        "python_random": [state.python for state in randomness],
        "numpy_random": [state.numpy for state in randomness],
        "checksums": checksums,
    }
    (folder / "state.json").write_text(_json(state), encoding="utf-8")


def load_state(folder: Path, learner: Learner, rank: int = 0) -> list[str]:
    """Put a saved state into `learner` and the global generators; returns the rows of metrics so far.

    A process that the saved run did not have takes the generators of the first.

    Raises CorruptState, with `learner` untouched, when a file is missing, damaged or of another model.
    """
    try:
        state = read_json_object(folder / "state.json")
        for name, checksum in state["checksums"].items():
            if _checksum(folder / name) != checksum:
                raise CorruptState(f"{name} is damaged")
        tensors = {
            name: load_file(folder / f"{name}.safetensors")
            for name in (*learner.trained, *learner.optimizers, "generators")
        }
        rows = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptState(f"can not be read ({error})") from None
    for name, model in learner.trained.items():
        if _shapes(_trained(model)) != _shapes(tensors[name]):
            raise CorruptState(f"its {name} is a model of another shape")
    for name, model in learner.trained.items():
        _copy_into(_trained(model), tensors[name])
    for name, optimizer in learner.optimizers.items():
        set_optimizer_tensors(optimizer, tensors[name])
    learner.generator.set_state(tensors["generators"]["ppo"])
    saved = rank if rank < len(state["python_random"]) else 0
    mine = {k.removeprefix(f"{saved}."): v for k, v in tensors["generators"].items()}
    set_random_state(RandomState(state["python_random"][saved], state["numpy_random"][saved], mine))
    learner.update, learner.kl_coef = state["update"], state["kl_coef"]
    learner.rollbacks, learner.events = state["rollbacks"], state["events"]
    return rows


def _trained(model: nn.Module) -> dict[str, Tensor]:
    """Trained parameters (shared ones once) and stored buffers, by name."""
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    stored = model.state_dict().keys()
    return parameters | {name: b for name, b in model.named_buffers() if name in stored}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _copy_into(targets: Mapping[str, Tensor], sources: Mapping[str, Tensor]) -> None:
    for name, target in targets.items():
        target.copy_(part_of(sources[name], target))


@dataclass(frozen=True)
class RandomState:
    """The states of a process's global generators; those of Python and numpy as JSON values."""

    python: list[Any]
    numpy: list[Any]
    torch: dict[str, Tensor]


def random_state() -> RandomState:
    numpy_state: Any = np.random.get_state()
    tensors = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    return RandomState(
        list(random.getstate()), [numpy_state[0], numpy_state[1].tolist(), *numpy_state[2:]], tensors
    )


def set_random_state(state: RandomState) -> None:
    version, internal, gauss = state.python
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state.numpy
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state.torch["torch"])
    if torch.cuda.is_available() and "cuda" in state.torch:
        torch.cuda.set_rng_state(state.torch["cuda"])


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


def _checksum(path: Path) -> int:
    """CRC-32, read in pieces: a state may be larger than the memory left."""
    found = 0
    with open(path, "rb") as file:
        while piece := file.read(1 << 24):
            found = zlib.crc32(piece, found)
    return found


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
