"""A run whose processes another launcher starts: who is who, how they meet, and that a lost one ends all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evals.values.errors import InputError
from harness.runtime import channel, machines
from harness.runtime.launch import launch_digest, read_launch
from harness.runtime.machines import First, in_its_place
from harness.runtime.place import Place, place_in
from harness.storage.provenance import ROOT
from trainers.devices.announced import announced, zero_stage

TINY = ROOT / "tests" / "tiny"
PROGRAM = "machine_program"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "BEAT", 0.1)
    monkeypatch.setattr(channel, "SILENCE", 2.0)
    monkeypatch.syspath_prepend(str(TINY))


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The second process of two."""
    command = [sys.executable, str(TINY / f"{PROGRAM}.py"), "follow", str(tmp_path), "2"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{TINY}"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def first(tmp_path: Path) -> Iterator[First]:
    group = First(Place(0, 2, 0, 1, "127.0.0.1", "meeting"), tmp_path)
    yield group
    group.close()


def train(first: First, tmp_path: Path, *what: str) -> list[tuple[str, Any]]:
    told: list[tuple[str, Any]] = []
    values = {"what": what, "folder": str(tmp_path)}
    first.train(PROGRAM, values, {}, lambda *message: told.append(message))
    return sorted(told)


def running(folder: Path, rank: int) -> int:
    """The number of a worker, once it works."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        text = (folder / str(rank)).read_text() if (folder / str(rank)).exists() else ""
        if text:
            return int(text)
        time.sleep(0.02)
    raise AssertionError("no worker")


def is_gone(process: int) -> bool:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.usefixtures("other")
def test_processes_of_two_machines_train_together(first: First, tmp_path: Path) -> None:
    """A second machine was refused. What any process tells is heard, and one training comes after another."""
    for _ in range(2):
        said = train(first, tmp_path, "tell", "tell")
        assert said == [("say", [rank, "2", "1", "127.0.0.1"]) for rank in "01"]
    with pytest.raises(SystemExit) as stopped:  # after SIGTERM, all have saved
        train(first, tmp_path, "stop", "stop")
    assert stopped.value.code == 143


def test_the_others_are_let_go(first: First, other: subprocess.Popen[str], tmp_path: Path) -> None:
    """They waited for a training that never came, or a card with the secret stayed behind."""
    train(first, tmp_path, "tell", "tell")
    (card,) = tmp_path.glob(".meeting-*")
    assert card.stat().st_mode & 0o077 == 0
    first.close()
    assert other.wait(20) == 0
    assert list(tmp_path.glob(".meeting-*")) == []


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize(
    ("what", "said"),
    [
        (("wait", "fail"), "field 'ppo.updates': is 7; give less"),
        (("wait", "die"), "process 1, of 2 processes, was killed by SIGKILL; see what killed it"),
        (("die", "wait"), "process 0, of 2 processes, was killed by SIGKILL; see what killed it"),
    ],
)
def test_one_that_fails_ends_all(first: First, tmp_path: Path, what: tuple[str, str], said: str) -> None:
    """The others waited in a sum for one that had ended, for half an hour."""
    with pytest.raises(InputError, match=said):
        train(first, tmp_path, *what)
    first.close()
    rank = what.index("wait")
    if (tmp_path / str(rank)).exists():
        assert is_gone(int((tmp_path / str(rank)).read_text() or 0))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_machine_ends_all(
    first: First, other: subprocess.Popen[str], tmp_path: Path, number: int
) -> None:
    """One that is killed breaks its connection; one whose network is gone says nothing at all."""

    def lose() -> None:
        running(tmp_path, 0)
        running(tmp_path, 1)
        other.send_signal(number)

    threading.Thread(target=lose).start()
    start = time.monotonic()
    with pytest.raises(InputError, match="process 1 on .* is lost, of 2 processes; see what killed it"):
        train(first, tmp_path, "wait", "wait")
    assert time.monotonic() - start < 20
    assert is_gone(running(tmp_path, 0))


def test_the_loss_of_the_first_ends_the_others(
    first: First, other: subprocess.Popen[str], tmp_path: Path
) -> None:
    """They trained on, and wrote into a folder that the next run had taken."""

    def lose() -> None:
        running(tmp_path, 1)
        first.ended = True  # as if it were killed: nothing is said
        for other in first.channels.values():
            other.close()

    threading.Thread(target=lose).start()
    threading.Timer(4, lambda: first.worker and first.worker.kill()).start()
    with pytest.raises(InputError):
        train(first, tmp_path, "wait", "wait")
    out, _ = other.communicate(timeout=20)
    assert other.returncode == 2 and out.startswith("process 0, of 2 processes, is lost")
    assert is_gone(running(tmp_path, 1))


TORCH = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a"}
STEP = {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1"}
STEP |= {"SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}


def test_a_place_is_what_the_launcher_says() -> None:
    """Left where they were, its variables made the trainers of other stages wait for processes that never came."""
    environment = TORCH | {"TORCHELASTIC_RUN_ID": "r", "ACCELERATE_USE_FSDP": "true", "HOME": "/"}
    place = place_in(environment)
    assert place is not None and (place.rank, place.count, place.local_rank, place.local_count) == (
        3,
        4,
        1,
        2,
    )
    assert place.address == "a" and environment == {"HOME": "/"}
    slurm = place_in(dict(STEP))
    assert slurm is not None and (slurm.rank, slurm.count, slurm.local_rank, slurm.local_count) == (
        3,
        4,
        1,
        2,
    )
    again = place_in(STEP | {"SLURM_STEP_ID": "1"})
    assert again is not None and again.meeting != slurm.meeting


@pytest.mark.parametrize(
    "environment",
    [{}, {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}, {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}],
)
def test_one_process_has_no_place(environment: dict[str, str]) -> None:
    """A batch script that may start four tasks waited for three others."""
    assert place_in(environment) is None


def test_another_number_of_processes_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four processes of a run of one would each have trained it."""
    monkeypatch.setattr(machines, "started_place", lambda: Place(0, 4, 0, 4, "", "m"))
    with pytest.raises(InputError, match="'processes': is 1, and 4 processes were started; say processes=4"):
        in_its_place(1, "results", lambda: 0)


@pytest.mark.parametrize(
    ("name", "stage"), [("one_node", 0), ("deepspeed_zero1", 1), ("deepspeed_zero2", 2), ("fsdp", 3)]
)
def test_torchrun_and_srun_follow_the_launch_file(name: str, stage: int) -> None:
    """They announce nothing of it, and split models were trained whole."""
    assert zero_stage(announced(read_launch(name))) == stage


def test_where_machines_are_changes_no_key(tmp_path: Path) -> None:
    """The same command on other machines began its training anew."""
    text = (ROOT / "conf" / "accelerate" / "one_node.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(text + "machine_rank: 1\nmain_process_ip: 10.0.0.7\nmain_process_port: 2950\n")
    assert launch_digest(str(path)) == launch_digest("one_node")
