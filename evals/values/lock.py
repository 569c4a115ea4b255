"""A lock that a file is: one holder among the processes of one machine and of every other that shares the folder.

The file is made exclusively, which network file systems do as well as local ones, and says who holds it: host, process
and when that began. A holder whose process has ended on this machine is known to be dead at once. Of another machine,
where nobody can look, the sign of life decides: a holder renews its file every `BEAT` seconds, and one that has been
silent for `SILENCE` seconds of watching is dead. No two clocks are compared, and `flock` is not relied on.

A holder that only stood still so long (a suspended machine, a network that was away) may come back: `Lock.check` tells
it that another holds the lock, before it writes.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path

from evals.values.errors import InputError
from evals.values.json_text import parse_json

BEAT = 5.0  # seconds between two signs of life
SILENCE = 60.0  # seconds without one, after which a holder on another machine counts as dead
POLL = 0.25  # seconds between two looks of one that waits, at most
LONGEST_LOOK = (
    1.0  # seconds of watching that one look counts for: a watcher that stood still itself saw nothing
)


@dataclass(frozen=True)
class Holder:
    """Who holds a lock. `machine`: one boot and one namespace of processes; `process` and `began` are of it."""

    token: str
    host: str
    machine: str
    process: int
    began: str

    @classmethod
    def here(cls) -> Holder:
        process = os.getpid()
        return cls(secrets.token_hex(8), socket.gethostname(), machine(), process, _own_beginning(process))

    @property
    def is_dead(self) -> bool:
        """Known to be dead: a process of this machine that has ended, and whose number another may have."""
        if self.machine != machine():
            return False
        began = _began(self.process)
        return began is None or (began != "" and self.began not in ("", began))

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


def machine() -> str:
    """One boot of one machine and one namespace of processes; the host's name where the system tells neither."""
    return _machine_of(os.getpid())


@cache
def _machine_of(process: int) -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


@cache
def _own_beginning(process: int) -> str:
    return _began(process) or ""


def _began(process: int) -> str | None:
    """When the process began, in ticks since the boot, or "" where that is not told; None: it has ended."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return None if status[0] in "ZX" else status[19]  # nobody has waited yet for one that has ended
    except (OSError, IndexError):
        return "" if _has_number(process) else None


def _has_number(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


@dataclass(frozen=True)
class Seen:
    """A lock's file as it was read: no holder is told by one that is being written, or was when its writer died."""

    holder: Holder | None
    mark: tuple[int, bytes]  # changes with every sign of life

    @property
    def token(self) -> str:
        return self.holder.token if self.holder else "torn"


def look(path: Path) -> Seen | None:
    """Who holds the lock; None where nobody does. Opened, since a network file system asks its server only then."""
    try:
        with open(path, "rb") as file:
            mark = os.fstat(file.fileno()).st_mtime_ns, file.read()
    except FileNotFoundError:
        return None
    try:
        row = parse_json(mark[1])
        return Seen(Holder(**{f.name: row[f.name] for f in fields(Holder)}), mark)
    except (ValueError, KeyError, TypeError):
        return Seen(None, mark)


@dataclass
class Watch:
    """How long what one waits for has given no sign of life."""

    mark: object = None
    silent: float = 0.0
    last: float = field(default_factory=time.monotonic)

    def is_dead(self, seen: Seen) -> bool:
        now = time.monotonic()
        self.silent = self.silent + min(now - self.last, LONGEST_LOOK) if seen.mark == self.mark else 0.0
        self.mark, self.last = seen.mark, now
        if seen.holder is not None and seen.holder.machine == machine():
            return seen.holder.is_dead
        return self.silent >= SILENCE


@dataclass(eq=False)
class Lock:
    """A lock that is held here, until it is released or found to be another's (`lost`)."""

    path: Path
    holder: Holder
    lost: bool = False

    def is_ours(self) -> bool:
        seen = look(self.path)
        return seen is not None and seen.token == self.holder.token

    def check(self) -> None:
        """Raises InputError where another took the lock, since this process gave no sign of life for too long."""
        if self.lost or not self.is_ours():
            self.lost = True
            raise InputError(
                f"was taken over by another process after {SILENCE:.0f} s without a sign of life of this one",
                path=self.path,
                fix="run the same command again",
            )

    def beat(self) -> None:
        """A sign of life."""
        try:
            with open(self.path, "rb") as file:  # the file that is read is the one that is renewed
                self.lost = self.lost or self.holder.token.encode() not in file.read()
                if not self.lost:
                    os.utime(file.fileno())
        except FileNotFoundError:
            self.lost = True
        except OSError:  # the network is away: the next one may come through
            return

    def release(self) -> None:
        if self.holder.process != os.getpid():  # a forked child leaves what its parent holds
            return
        try:
            _remove(self.path, self.holder.token)
        except OSError:  # no room for the right to remove it
            with suppress(OSError):
                if self.is_ours():
                    self.path.unlink(missing_ok=True)


def _create(path: Path, holder: Holder) -> bool:
    """Make the file, unless it is there. Raises OSError, and leaves nothing, where the disk refuses."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return False
    try:
        try:
            os.write(descriptor, json.dumps(asdict(holder)).encode())
        finally:
            os.close(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return True


def _remove(path: Path, token: str) -> None:
    """Remove the lock if it is still `token`'s.

    Its holder and all that think it dead may try at once: only who has made the file `PATH.TOKEN` may, so that nobody
    removes the lock of the next holder.
    """
    right = path.with_name(f"{path.name}.{token}")
    mine = Holder.here()
    if not _create(right, mine):
        _drop_if_dead(right)
        return
    try:
        seen = look(path)
        if seen is not None and seen.token == token:
            path.unlink(missing_ok=True)
    finally:
        right.unlink(missing_ok=True)


def sweep_rights(path: Path) -> None:
    """Remove what processes left that died while they removed the lock `path`."""
    for right in path.parent.glob(f"{path.name}.*"):
        _drop_if_dead(right)


def _drop_if_dead(right: Path) -> None:
    """They are had for an instant, so that an old one is a dead process's."""
    seen = look(right)
    if seen is None:
        return
    is_old = abs(time.time() - seen.mark[0] / 1e9) > 10 * SILENCE  # by two clocks that may differ
    if is_old or (seen.holder is not None and seen.holder.is_dead):
        right.unlink(missing_ok=True)


@contextmanager
def held(
    path: Path, *, wait: bool = True, waiting: Callable[[Holder | None], None] | None = None
) -> Iterator[Lock | None]:
    """Hold the lock `path` against every other process and thread; the file is removed afterwards.

    Yields None, at once, when another holds it and `wait` is False. `waiting` is told by whom it is held before a wait
    begins. Raises OSError where the file cannot be made.
    """
    lock = _acquire(path, wait, waiting)
    if lock is None:
        yield None
        return
    _beating.add(lock)
    try:
        yield lock
    finally:
        _beating.discard(lock)
        lock.release()


def _acquire(path: Path, wait: bool, waiting: Callable[[Holder | None], None] | None) -> Lock | None:
    holder, watch, pause, told = Holder.here(), Watch(), 0.001, False
    while not _create(path, holder):
        seen = look(path)
        if seen is None:
            continue
        if watch.is_dead(seen):
            _remove(path, seen.token)
        elif not wait:
            return None
        elif not told:
            told = True
            if waiting is not None:
                waiting(seen.holder)
        time.sleep(pause)
        pause = min(pause * random.uniform(1.2, 2.0), POLL)
    return Lock(path, holder)


def has_living_holder(path: Path) -> bool:
    """Whether somebody who lives holds the lock; of another machine's a sign of life is waited for, `SILENCE` long."""
    watch, first = Watch(), look(path)
    while (seen := look(path)) is not None and first is not None:
        if watch.is_dead(seen):
            return False
        if seen.mark != first.mark or (seen.holder is not None and seen.holder.machine == machine()):
            return True
        time.sleep(POLL)
    return False


class _Beating:
    """The locks that this process holds, and the thread that renews them."""

    def __init__(self) -> None:
        self.forget()
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """A forked child holds none of its parent's."""
        self._locks: set[Lock] = set()
        self._turn = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, lock: Lock) -> None:
        with self._turn:
            self._locks.add(lock)
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="signs of life", daemon=True)
                self._thread.start()

    def discard(self, lock: Lock) -> None:
        with self._turn:
            self._locks.discard(lock)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT)
            with self._turn:
                locks = list(self._locks)
            for lock in locks:
                lock.beat()


_beating = _Beating()
