"""Which model a server says that it is, in each answer."""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter

log = logging.getLogger(__name__)

NAMED = re.compile(r"[\w./:@+-]{1,120}")  # a model or a fingerprint; anything else is not shown


class Served:
    """Shared by threads; `notes` name a model that is another than was asked for.

    A change within a run is told at once: answers of two models are then compared as if they were one's.
    """

    def __init__(self, asked: str) -> None:
        self._asked, self._lock = asked, threading.Lock()
        self._answers: Counter[tuple[str, str]] = Counter()

    def by(self, model: object, fingerprint: object) -> None:
        named = _name(model), _name(fingerprint)
        with self._lock:
            is_new = named not in self._answers and bool(self._answers)
            self._answers[named] += 1
        if is_new:
            log.warning("the server answers as %s now: the model behind it has changed", _called(named))

    @property
    def notes(self) -> list[str]:
        with self._lock:
            counted = dict(self._answers)
        if len(counted) > 1:
            each = ", ".join(f"{_called(named)} {times} times" for named, times in counted.items())
            return [f"the server's model changed while it was asked: {each}"]
        told = [named for named in counted if named[1] or named[0] not in ("", self._asked)]
        return [f"the server answered as {_called(named)}" for named in told]


def _name(said: object) -> str:
    return said if isinstance(said, str) and NAMED.fullmatch(said) else ""


def _called(named: tuple[str, str]) -> str:
    fingerprint = f" (fingerprint {named[1]})" if named[1] else ""
    return f"{named[0] or 'a model without a name'}{fingerprint}"
