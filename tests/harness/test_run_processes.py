"""A run as processes of its own: killed, resumed, interrupted, two at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from tiny_runs import SMOKE, rbrbench_process

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def finished(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished smoke run, to write to."""
    return copytree(smoke_run, tmp_path_factory.mktemp("run") / "finished")


def test_two_processes_train_as_one(finished: Path) -> None:
    """`processes=2` trained on other data, or on half of it; or a run from the command line could not have two."""
    small = ["name=two", "methods=[rbr_ppo]", "capability.tasks=[]"]
    done = rbrbench_process(*SMOKE, *small, "processes=2", "launch=fsdp", cwd=finished)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (
        [row for row in training_rows(finished / "results" / run) if row["method"] == "rbr_ppo"]
        for run in ("smoke", "two")
    )
    assert len(one) == len(two) == 6
    for a, b in zip(one, two, strict=True):
        numbers = {k: v for k, v in a.items() if isinstance(v, float) and not k.startswith("time/")}
        assert {k: b[k] for k in numbers} == pytest.approx(numbers, rel=1e-2, abs=1e-3)


def training_rows(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (results / "training.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_killed_run_goes_on_and_ends_with_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    """Two properties in one: same seed, same bytes; and a kill loses no finished stage and changes nothing."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rbrbench", *SMOKE],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    store = tmp_path / "results" / ".store"
    while not list(store.glob("ppo/.partial-*/metrics.jsonl")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stages = {p.parent for p in store.glob("*/*/manifest.json")}
    assert stages and not list(store.glob("ppo/*/manifest.json"))
    done = rbrbench_process(*SMOKE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("cached") >= len(stages)
    same = [(folder / "results" / "smoke" / "metrics.csv").read_bytes() for folder in (finished, tmp_path)]
    assert same[0] == same[1]


def test_interrupted_run_says_so(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "rbrbench", *SMOKE],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        # A test run's own SIGINT may be ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    # In a stage: libraries swallow an interrupt while they are imported.
    while not list(tmp_path.glob("results/.store/data/*/manifest.json")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1].startswith("rbrbench: interrupted")
