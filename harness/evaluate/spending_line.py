"""What a server has been asked so far, in a line now and then while it is asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from evals.models.spending import Meter
from harness.runtime.console import Advance, Console

LEAST_S = 10.0  # between two lines


def spent_by(asked: object) -> str:
    """Requests, tokens and cost in words; "" of what is no server, or was not asked."""
    meter = getattr(asked, "meter", None)
    return meter.spent if isinstance(meter, Meter) else ""


class SpendingLine:
    """Of one model or judge: says what its `meter` has, where it has one and that has changed; `clock` in seconds."""

    def __init__(self, console: Console, asked: object, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._asked, self._clock = console, asked, clock
        self._said, self._last = "", clock()

    def tell(self, least: float = LEAST_S) -> None:
        """Not within `least` seconds of the last line."""
        if self._clock() - self._last < least:
            return
        spent = spent_by(self._asked)
        if spent and spent != self._said:
            self._said, self._last = spent, self._clock()
            self._console.say(f"{getattr(self._asked, 'name', 'server')}: {spent}")


@contextmanager
def asking_stage(
    console: Console, name: str, asked: object, total: int | None, unit: str = "responses"
) -> Iterator[Advance]:
    """`Console.stage` that says what `asked` has spent: on the way, and once more in the end, also after a failure."""
    line = SpendingLine(console, asked)
    with console.stage(name, total=total, unit=unit) as advance:

        def told(count: int = 1) -> None:
            advance(count)
            line.tell()

        try:
            yield told
        finally:
            line.tell(0.0)
