"""Work in threads: results in order, threads put back, errors passed on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from operator import call
from typing import Any

import pytest
import torch

from trainers.devices.side_by_side import side_by_side


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def results(jobs: Sequence[Callable[[], Any]], together: bool) -> list[Any]:
    with side_by_side(len(jobs), together=together) as each:
        return list(each(call, jobs))


def test_jobs_run_at_once_with_a_thread_each(two_threads: None) -> None:
    """The jobs ran one after the other; torch kept one thread afterwards."""
    meeting = threading.Barrier(2, timeout=20)

    def job() -> int:
        meeting.wait()
        return torch.get_num_threads()

    assert results([job, job], together=True) == [1, 1]
    assert torch.get_num_threads() == 2


def test_an_error_comes_through(two_threads: None) -> None:
    """A job that failed in its thread left the update half done without a word."""
    with pytest.raises(ZeroDivisionError):
        results([lambda: 1, lambda: 1 // 0], together=True)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("threads", "together"), [(1, True), (2, False)])
def test_one_thread_or_order_runs_them_in_turn(two_threads: None, threads: int, together: bool) -> None:
    """Two jobs shared one core; collectives ran in another order in each process."""
    torch.set_num_threads(threads)
    seen = results([threading.current_thread, threading.current_thread], together=together)
    assert seen == [threading.main_thread()] * 2
