"""Every test runs offline, on one thread, and with the same environment for the programs that it starts."""

from __future__ import annotations

import os

# Before anything imports these libraries: each reads its variables once.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    MPLBACKEND="Agg",
    OMP_NUM_THREADS="1",
)

import random
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

torch.set_num_threads(1)  # pytest-xdist runs one worker a core

TESTS = Path(__file__).parent


# Files that take half a minute or more, longest first: one that is begun last keeps one worker while the others idle.
LONG = (
    "harness/test_guides.py",  # makes the smoke run that others wait for
    "trainers/test_ppo_processes.py",  # needs none
    "harness/test_run_processes.py",
    "harness/test_sweeps.py",
    "harness/test_killed_sweeps.py",
    "harness/test_reinforcement.py",
    "trainers/test_ppo.py",
    "harness/test_run_sweeps.py",
    "trainers/test_refusal_encoder.py",
    "trainers/test_encoder_grader.py",
    "harness/test_paying_server.py",
    "harness/test_own_data.py",
    "evals/test_lm_eval_command.py",
    "harness/test_run.py",
    "harness/test_gpu_experiment.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Workers take files as they come from here: by itself pytest-xdist begins those with the fewest tests last."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, then those with slow tests; `RBRBENCH_TEST_ORDER=SEED` shuffles instead.

    The seed shuffles the files, and the tests in each: none may need another's leavings. Files stay together, for
    their fixtures' sake, and every worker has the same order.
    """
    seed = os.environ.get("RBRBENCH_TEST_ORDER")
    if seed is None:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: _rank(item.path, slow))  # stable: each file's tests stay as they were
        return
    generator = random.Random(seed)
    places = sorted({item.path for item in items})
    place = dict(zip(places, generator.sample(range(len(places)), len(places)), strict=True))
    generator.shuffle(items)
    items.sort(key=lambda item: place[item.path])


def _rank(path: Path, slow: set[Path]) -> int:
    name = path.relative_to(TESTS).as_posix()
    if name in LONG:
        return LONG.index(name)
    return len(LONG) + (path not in slow)


@pytest.fixture(autouse=True, scope="session")
def only_this_machine() -> Iterator[None]:
    """A test that reaches for the network fails at once instead of waiting for a time-out."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and str(address[0]) not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"the tests run offline; something tried to reach {address[0]}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


def numeric_state() -> dict[str, object]:
    """What changes the bits of a result for the whole process."""
    return {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "denormals": (torch.tensor(1e-40) * 1.0).item() != 0.0,
        "gradients": torch.is_grad_enabled(),
    }


@pytest.fixture(autouse=True)
def leaves_numbers_as_they_were() -> Iterator[None]:
    """A command set two threads for the whole process: what a program did after it had other bytes."""
    before = numeric_state()
    yield
    assert numeric_state() == before


@pytest.fixture(scope="session")
def save_random_encoder() -> Callable[[Path, Sequence[str]], Path]:
    """Save a random BERT of three layers that knows `words`, with its tokenizer, in a folder."""
    from tiny_models import make_tokenizer, random_model
    from tokenizers import pre_tokenizers
    from transformers import BertModel

    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
    }

    def save(folder: Path, words: Sequence[str]) -> Path:
        tokenizer = make_tokenizer(words, special=marks, split=pre_tokenizers.Whitespace())
        random_model(BertModel, len(tokenizer), **sizes).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return save
