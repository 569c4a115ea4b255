"""A lock that ends with its process, however that process ends (POSIX `flock`)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, *, wait: bool = True, waiting: Callable[[], None] | None = None) -> Iterator[bool]:
    """Hold the file `path` against every other process and thread; the file is removed afterwards.

    Yields True once it is held; False, at once, when another holds it and `wait` is False.
    `waiting` is called before a wait begins. Raises OSError where the file cannot be made.
    """
    descriptor = _acquire(path, wait, waiting)
    if descriptor is None:
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)  # while it is still held, so that nobody's new file goes
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a forked child may still have the descriptor
        os.close(descriptor)


def _acquire(path: Path, wait: bool, waiting: Callable[[], None] | None) -> int | None:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if not _take(descriptor, wait, waiting):
                os.close(descriptor)
                return None
            if _is_still(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the holder before us removed this file: ours locks nothing, so again


def _take(descriptor: int, wait: bool, waiting: Callable[[], None] | None) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            return False
        if waiting is not None:
            waiting()
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)
