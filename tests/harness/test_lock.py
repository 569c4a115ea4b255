"""evals/values/lock.py: one holder at a time, of all machines, and none left behind by a holder that died."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from evals.values import lock
from evals.values.errors import InputError
from harness.storage.disk import locked
from harness.storage.provenance import ROOT


def test_never_two_holders(tmp_path: Path) -> None:
    """A waiter locked the file that its holder had just removed, while a third locked a new one."""
    path, inside, worst = tmp_path / ".lock", [0], [0]

    def work() -> None:
        for _ in range(100):
            with locked(path):
                inside[0] += 1
                worst[0] = max(worst[0], inside[0])
                time.sleep(0.0002)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert worst == [1]
    assert not path.exists()


def test_without_waiting(tmp_path: Path) -> None:
    """A look whether somebody works there hung until he had finished."""
    path = tmp_path / ".lock"
    with locked(path) as held, locked(path, wait=False) as other:
        assert (held, other) == (True, False)
    with locked(path, wait=False) as held:
        assert held


def test_lock_ends_with_its_process(tmp_path: Path) -> None:
    """A killed run left a lock that had to be removed by hand."""
    path = tmp_path / ".lock"
    child = os.fork()
    if child == 0:
        with locked(path):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert path.exists()
    with locked(path, waiting=lambda: None) as held:
        assert held
    assert not path.exists()


def test_lock_is_released_when_its_work_fails(tmp_path: Path) -> None:
    """A failed stage kept the next one waiting for ever."""
    path = tmp_path / ".lock"
    try:
        with locked(path):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        with locked(path, wait=False) as held:
            assert held


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life are missed within tenths of a second, not within a minute."""
    monkeypatch.setattr(lock, "SILENCE", 0.3)
    monkeypatch.setattr(lock, "POLL", 0.02)


def test_a_number_that_another_process_has_now_holds_nothing(tmp_path: Path) -> None:
    """After a reboot's worth of processes, a dead run's number was some daemon's, and its lock was waited for."""
    path = tmp_path / ".lock"
    path.write_text(json.dumps(asdict(replace(lock.Holder.here(), began="1"))))
    with locked(path, wait=False) as held:
        assert held


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("text", ["", '{"token": "a', json.dumps({"token": "a"})])
def test_a_lock_that_its_writer_died_in_is_taken(tmp_path: Path, text: str) -> None:
    """Killed between making the file and writing to it: nobody knew whose it was, and all waited for ever."""
    path = tmp_path / ".lock"
    path.write_text(text)
    told: list[lock.Holder | None] = []
    with lock.held(path, wait=False) as none:
        assert none is None
    with lock.held(path, waiting=told.append) as ours:
        assert ours is not None and told == [None]


ELSEWHERE = """
import sys, time
from pathlib import Path
from evals.values import lock
lock.BEAT = 0.05
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.usefixtures("impatient")
@pytest.mark.skipif(os.geteuid() != 0, reason="a namespace of processes is root's to make")
def test_another_machines_lock_lives_by_its_signs_of_life(tmp_path: Path) -> None:
    """Its processes cannot be looked up here: a live one was robbed, or a dead one waited for, for ever.

    A process of another namespace, as in another container: its numbers mean nothing here.
    """
    path = tmp_path / ".lock"
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", ELSEWHERE, str(path)]
    elsewhere = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert elsewhere.stdout is not None and elsewhere.stdout.readline() == "held\n"
    killed: list[float] = []

    def kill() -> None:
        killed.append(time.monotonic())
        elsewhere.kill()

    timer = threading.Timer(3 * lock.SILENCE, kill)
    timer.start()
    with locked(path):
        assert time.monotonic() - killed[0] > 0.5 * lock.SILENCE
    elsewhere.communicate(timeout=10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("impatient")
def test_a_holder_that_stood_still_knows_that_it_was_robbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed after its lock was taken, it went on to write; or removed the lock of the next holder as its own."""
    path = tmp_path / ".lock"
    with lock.held(path) as first:
        assert first is not None
        first.check()
        with monkeypatch.context() as patch:
            patch.setattr(lock, "machine", lambda: "elsewhere")
            robber = lock.held(path)
            second = robber.__enter__()
        with pytest.raises(InputError, match="was taken over by another process"):
            first.check()
        first.beat()
        assert first.lost
    assert second is not None and second.is_ours()
    robber.__exit__(None, None, None)
    assert list(tmp_path.iterdir()) == []


def test_many_that_wait_for_a_dead_holder_are_one_after_the_other(tmp_path: Path) -> None:
    """Two found the same holder dead: the second removed the lock that the first had just taken."""
    path, inside, worst = tmp_path / ".lock", [0], [0]
    dead = replace(lock.Holder.here(), began="1")

    def work() -> None:
        for _ in range(30):
            with locked(path):
                inside[0] += 1
                worst[0] = max(worst[0], inside[0])
                inside[0] -= 1
                path.write_text(json.dumps(asdict(replace(dead, token=f"{time.monotonic_ns():x}"))))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert worst == [1]
    assert [p.name for p in tmp_path.iterdir()] in ([], [".lock"])
