"""How many requests go at once, and when all of them wait: what a server's answers say of its limits.

The number is halved where the server says that it is too much (429, 503), and grows by one after as many answers as it
allows, up to the setting. Headers of the answers say when it goes on: `retry-after`, and those of limits, which each
API reads in its own file.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

from evals.models.apis.rate_limits import exhausted, number

Headers = Mapping[str, str]
Exhausted = Callable[[Headers], float]  # seconds until what is spent begins anew; 0 where nothing is


class Pace:
    """At most `most` requests at once, and waits of `longest` seconds at most; shared by threads.

    `reads` is the API's own reading of what is spent.
    """

    def __init__(
        self,
        most: int,
        longest: float,
        clock: Callable[[], float] = time.monotonic,
        reads: Exhausted = exhausted,
    ) -> None:
        self.most, self.allowed, self._longest, self._clock, self._reads = most, most, longest, clock, reads
        self._running, self._answers, self._until = 0, 0, 0.0
        self._changed = threading.Condition()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Around one request: waits for its place."""
        with self._changed:
            while (wait := self._wait()) != 0.0:
                self._changed.wait(wait)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _wait(self) -> float | None:
        """0 where the next may go; seconds to wait; None: until another has ended."""
        if self._running >= self.allowed:
            return None
        return max(0.0, self._until - self._clock())

    def answered(self, headers: Headers) -> None:
        with self._changed:
            self._answers += 1
            if self._answers >= self.allowed < self.most:
                self.allowed, self._answers = self.allowed + 1, 0
            self._pause(self._reads(headers))
            self._changed.notify_all()

    def too_much(self, headers: Headers) -> None:
        with self._changed:
            self.allowed, self._answers = max(1, self.allowed // 2), 0
            self._pause(retry_after(headers, self._reads))

    def _pause(self, seconds: float) -> None:
        self._until = (
            max(self._until, self._clock() + min(seconds, self._longest)) if seconds else self._until
        )


class Backoff:
    """Seconds before a request is tried again: `first`, doubled with each further failure, `longest` at most.

    With jitter, so that waiting clients do not come back all at once. Shared by threads.
    """

    def __init__(self, first: float, longest: float, reads: Exhausted = exhausted) -> None:
        self._first, self._longest, self._random, self._reads = first, longest, random.Random(), reads

    def before(self, failures: int, headers: Headers) -> float:
        """After so many failures, and no sooner than the answer's headers say."""
        jitter = self._random.uniform(0.5, 1.5)
        return min(
            max(self._first * 2 ** (failures - 1) * jitter, retry_after(headers, self._reads)), self._longest
        )


def retry_after(headers: Headers, reads: Exhausted = exhausted) -> float:
    """Seconds that an answer asks to wait: `retry-after-ms`, `retry-after` in seconds or as a date, and the time at
    which what is exhausted begins anew; 0 where it does not say.
    """
    return max(_milliseconds(headers), _seconds(headers.get("retry-after", "")), reads(headers))


def _milliseconds(headers: Headers) -> float:
    return number(headers.get("retry-after-ms", "")) / 1000.0


def _seconds(text: str) -> float:
    if seconds := number(text):
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
