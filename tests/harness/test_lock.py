"""harness/storage/disk.py: one holder at a time, and none left behind by a holder that died."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from harness.storage.disk import locked


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
