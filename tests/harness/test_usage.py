"""harness/storage/usage.py: a stage's own peak memory, not the largest that the process ever had."""

from __future__ import annotations

import time

import numpy as np
import pytest

from harness.storage.usage import Usage, _reset_peak


def test_peak_is_of_the_work_alone() -> None:
    """Every stage after the largest one reported the largest one's memory."""
    if not _reset_peak():
        pytest.skip("this system cannot reset a process's high-water mark")
    large = np.ones(40_000_000)  # 320 MB, gone before the work begins
    with Usage() as during:
        pass
    del large
    with Usage() as before:
        pass
    with Usage() as after:
        small = np.ones(10_000_000)  # 80 MB
        del small
    assert during.peak_memory_mb - before.peak_memory_mb == pytest.approx(320, abs=32)
    assert after.peak_memory_mb - before.peak_memory_mb == pytest.approx(80, abs=16)


def test_seconds() -> None:
    """Processor time was reported as the time that a person waited."""
    with Usage() as usage:
        time.sleep(0.05)
    assert 0.05 <= usage.seconds < 2
