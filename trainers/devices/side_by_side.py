"""Two pieces of work at once on one machine's cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Result = TypeVar("Result")


def side_by_side(jobs: Sequence[Callable[[], Result]], *, together: bool) -> list[Result]:
    """The results of `jobs`, each run in a thread with an equal share of torch's threads.

    Small models leave a second core idle between the many short operations of one pass; two
    independent passes fill both. The jobs must share no state, and enter `no_grad` themselves.
    Runs them in turn unless `together`, and where there is less than a thread for each.
    """
    threads = torch.get_num_threads()
    share = threads // len(jobs)
    if share < 1 or not together:
        return [job() for job in jobs]

    def run(job: Callable[[], Result]) -> Result:
        torch.set_num_threads(share)
        return job()

    try:
        with ThreadPoolExecutor(len(jobs)) as pool:
            return list(pool.map(run, jobs))
    finally:
        torch.set_num_threads(threads)
