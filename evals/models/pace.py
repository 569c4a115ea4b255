"""How many requests go at once, and when all of them wait: what a server's answers say of its limits.

The number is halved where the server says that it is too much (429, 503), and grows by one after as many answers as it
allows, up to the setting. Headers of the answers, `retry-after` and `x-ratelimit-*`, say when it goes on.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

LIMITED = ("requests", "tokens")
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Pace:
    """At most `most` requests at once, and waits of `longest` seconds at most; shared by threads."""

    def __init__(self, most: int, longest: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.most, self.allowed, self._longest, self._clock = most, most, longest, clock
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

    def answered(self, headers: Mapping[str, str]) -> None:
        with self._changed:
            self._answers += 1
            if self._answers >= self.allowed < self.most:
                self.allowed, self._answers = self.allowed + 1, 0
            self._pause(exhausted(headers))
            self._changed.notify_all()

    def too_much(self, headers: Mapping[str, str]) -> None:
        with self._changed:
            self.allowed, self._answers = max(1, self.allowed // 2), 0
            self._pause(retry_after(headers))

    def _pause(self, seconds: float) -> None:
        self._until = (
            max(self._until, self._clock() + min(seconds, self._longest)) if seconds else self._until
        )


class Backoff:
    """Seconds before a request is tried again: `first`, doubled with each further failure, `longest` at most.

    With jitter, so that waiting clients do not come back all at once. Shared by threads.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest, self._random = first, longest, random.Random()

    def before(self, failures: int, headers: Mapping[str, str]) -> float:
        """After so many failures, and no sooner than the answer's headers say."""
        jitter = self._random.uniform(0.5, 1.5)
        return min(max(self._first * 2 ** (failures - 1) * jitter, retry_after(headers)), self._longest)


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that an answer asks to wait: `retry-after-ms`, `retry-after` in seconds or as a date, and the time at
    which what is exhausted begins anew; 0 where it does not say.
    """
    return max(_milliseconds(headers), _seconds(headers.get("retry-after", "")), exhausted(headers))


def exhausted(headers: Mapping[str, str]) -> float:
    """Seconds until what `x-ratelimit-remaining-*` says is spent begins anew; 0 where nothing is."""
    spent = [what for what in LIMITED if headers.get(f"x-ratelimit-remaining-{what}", "").strip() == "0"]
    return max((_duration(headers.get(f"x-ratelimit-reset-{what}", "")) for what in spent), default=0.0)


def _milliseconds(headers: Mapping[str, str]) -> float:
    return _number(headers.get("retry-after-ms", "")) / 1000.0


def _seconds(text: str) -> float:
    if seconds := _number(text):
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _duration(text: str) -> float:
    """`1s`, `6m0s`, `20ms`, or a number of seconds."""
    parts = DURATION.findall(text)
    if parts and "".join(n + unit for n, unit in parts) == text.strip():
        return sum(float(n) * SECONDS[unit] for n, unit in parts)
    return _number(text)


def _number(text: str) -> float:
    """A finite number from 0; 0 for anything else."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0.0 <= value < 1e9 else 0.0
