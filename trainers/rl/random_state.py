"""The states of a process's global random generators, to be kept and put back."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


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
