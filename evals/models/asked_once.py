"""What stands before many texts, a context or a conversation, is asked of a server once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from evals.values.grades import Unscored

Found = TypeVar("Found")


class AskedOnce(Generic[Found]):
    """Answers by key; what is Unscored is asked again, and what two threads want at once is asked twice."""

    def __init__(self) -> None:
        self._found: dict[object, Found] = {}

    def __call__(self, key: object, ask: Callable[[], Found | Unscored]) -> Found | Unscored:
        if key in self._found:
            return self._found[key]
        found = ask()
        if not isinstance(found, Unscored):
            self._found[key] = found
        return found
