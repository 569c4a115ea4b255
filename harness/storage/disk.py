"""Writing that survives a kill, and failures of the disk as one line each."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from evals.values.errors import InputError
from evals.values.lock import held
from evals.values.whole_file import replacing_file

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_json(path: Path, value: object) -> None:
    """Replace `path` in one step, so that a reader or a kill sees the old file or the new one whole."""
    with replacing_file(path) as part, part.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1, ensure_ascii=False, allow_nan=False)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())


def write_whole(path: Path, content: bytes) -> Path:
    """Put a file in its place, whole or not at all. Raises InputError when the disk refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(path) as part:
            part.write_bytes(content)
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
        raise InputError(problem, path=path, fix="free space or give another folder") from None
    return path


def sync(path: Path) -> None:
    """Bring one file's content, or a folder's names, to the disk."""
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Around our own writing: any failure of the disk becomes one InputError line about `place`."""
    try:
        with full_disk_as_input_error(place):
            yield
    except OSError as error:
        problem = f"cannot be written ({error.strerror or error})"
        raise InputError(problem, path=place, fix="choose a writable folder with results=") from error


@contextmanager
def full_disk_as_input_error(place: Path) -> Iterator[None]:
    """Around other people's code, whose own OSErrors mean other things: a full disk alone is translated."""
    try:
        yield
    except Exception as error:
        # Rust libraries (safetensors, tokenizers) raise their own classes with the system's text.
        if getattr(error, "errno", None) in FULL or os.strerror(errno.ENOSPC) in str(error):
            fix = "free some space, or choose another folder with results="
            raise InputError("the disk is full", path=place, fix=fix) from error
        raise


@contextmanager
def locked(path: Path, *, wait: bool = True, waiting: Callable[[], None] | None = None) -> Iterator[bool]:
    """Hold the lock `path` (`evals.values.lock`); True once it is held, False where another has it and `wait` is not.

    `waiting` is called before a wait begins. Raises OSError where the file cannot be made.
    """
    told = None if waiting is None else lambda _: waiting()
    with held(path, wait=wait, waiting=told) as lock:
        yield lock is not None
