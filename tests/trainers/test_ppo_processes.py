"""Two real processes (gloo) train as one does at the same global batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evals.errors import InputError
from trainers.ppo import _check_batch
from trainers.ppo_config import PPOConfig
from trainers.processes import Processes

PROGRAM = Path(__file__).parent / "ppo_two_processes.py"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def start(command: list[str], out: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(PROGRAM.parents[2]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, str(PROGRAM), str(out)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """{processes: folder}: the same trainings by one process and by two."""
    folders = {count: tmp_path_factory.mktemp(f"processes{count}") for count in (1, 2)}
    one, two = start([sys.executable], folders[1]), start(TORCHRUN, folders[2])
    for process in (one, two):
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output[-3000:]
    return folders


def rows(folder: Path) -> list[dict[str, float | None]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "unscored"])
def test_two_processes_train_as_one(runs: dict[int, Path], name: str) -> None:
    """Whitening, the loss's divisor, KL or gradients were of one process's rows alone (PPO.md)."""
    one, two = rows(runs[1] / name), rows(runs[2] / name)
    assert len(one) == len(two) == 3
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for key, value in a.items():
            assert b[key] == pytest.approx(value, rel=1e-6, abs=1e-5), (a["update"], key)
    weights = [load_file(folder / name / "checkpoint-3" / "model.safetensors") for folder in runs.values()]
    for key, value in weights[0].items():
        assert torch.allclose(weights[1][key], value, atol=1e-5), key


@pytest.mark.slow
def test_the_trainings_compared_are_not_trivial(runs: dict[int, Path]) -> None:
    """Nothing unscored, or nothing learnt: the comparison would hold of any two runs."""
    hard = rows(runs[1] / "unscored")
    assert any(row["reward/unscored_share"] for row in hard)
    assert hard[-1]["objective/kl_coef"] != hard[0]["objective/kl_coef"]
    plain = rows(runs[1] / "plain")
    assert abs(plain[-1]["objective/kl"] - plain[0]["objective/kl"]) > 0.1


@pytest.mark.slow
def test_two_processes_resume_to_the_same_bytes(runs: dict[int, Path]) -> None:
    """The second process went on with the random generators of the first, or sums changed from run to run."""
    for file in ("metrics.jsonl", "checkpoint-3/model.safetensors", "critic/model.safetensors"):
        assert (runs[2] / "unbroken" / file).read_bytes() == (runs[2] / "resumed" / file).read_bytes()


def test_fewer_responses_than_processes_are_refused() -> None:
    """A process without a row failed deep in the sampling loop."""
    processes = Processes()
    processes.count = 4
    with pytest.raises(InputError, match=r"batch_size.* 3, fewer .* 4 processes"):
        _check_batch(PPOConfig(updates=1, batch_size=3, max_new_tokens=4), processes)
