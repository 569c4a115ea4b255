"""Calls in the background, in the order in which they were begun."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class Background:
    """At most `most` calls at once. A command that ends does not wait for what is begun."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._begun: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._workers: list[threading.Thread] = []

    def begin(self, call: Callable[[], Answer]) -> Future[Answer]:
        future: Future[Answer] = Future()
        self._begun.put((future, call))
        with self._lock:
            if len(self._workers) < self._most:
                self._workers.append(threading.Thread(target=self._work, daemon=True))
                self._workers[-1].start()
        return future

    def _work(self) -> None:
        while True:
            future, call = self._begun.get()
            try:
                future.set_result(call())
            except BaseException as error:  # handed to whoever waits for the future
                future.set_exception(error)
