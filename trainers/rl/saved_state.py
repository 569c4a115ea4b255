"""A state of a run, whole and checked: models, optimisers, generators and metrics, in a folder.

state.json holds a checksum of each other file. Tensors are stored as safetensors, the rest as JSON;
nothing is pickled.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from evals.values.json_text import read_json_object
from trainers.devices.optimizer import optimizer_tensors, set_optimizer_tensors
from trainers.devices.sharding import part_of, whole_tensors
from trainers.rl.learner import Learner
from trainers.rl.random_state import RandomState, set_random_state


class CorruptState(Exception):
    """A saved state that can not be read back as it was written."""


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
    (folder / "state.json").write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")


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


def _checksum(path: Path) -> int:
    """CRC-32, read in pieces: a state may be larger than the memory left."""
    found = 0
    with open(path, "rb") as file:
        while piece := file.read(1 << 24):
            found = zlib.crc32(piece, found)
    return found
