"""Seconds and peak memory of a piece of work."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from types import TracebackType

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class Usage:
    """`with Usage() as usage: ...` leaves `usage.seconds` and `usage.peak_memory_mb` (10^6 bytes).

    Memory is this process's largest resident set *during the work*: Linux resets its own
    high-water mark on request (`man 5 proc`, clear_refs). Elsewhere the mark cannot be reset and
    the figure is the process's peak so far, an upper bound. Child processes and GPU memory are not
    counted. Work within work resets the mark too: measure one stage at a time.
    """

    seconds: float = 0.0
    peak_memory_mb: float = 0.0

    def __enter__(self) -> Usage:
        _reset_peak()
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._start
        self.peak_memory_mb = _peak_bytes() / 1e6


def _reset_peak() -> bool:
    try:
        _CLEAR.write_text("5", encoding="utf-8")
    except OSError:  # not Linux, or a sandbox that forbids it: the peak so far is reported
        return False
    return True


def _peak_bytes() -> int:
    try:
        lines = _STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, the others KiB
