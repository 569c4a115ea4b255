"""Two pieces of work at once on one machine's cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def side_by_side(jobs: int, *, together: bool) -> Iterator[Callable[..., Iterator[Any]]]:
    """A `map` whose `jobs` calls each run in a thread with an equal share of torch's threads.

    Small models leave a second core idle between the many short operations of one pass; two
    independent passes fill both. The calls must share no state, and enter `no_grad` themselves.
    Python's own `map`, one call after the other, unless `together`, and where there is less than a thread for each.
    """
    threads = torch.get_num_threads()
    share = threads // jobs
    if share < 1 or not together:
        yield map
        return
    try:
        with ThreadPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(share,)) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)
