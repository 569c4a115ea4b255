"""lm-eval's requests: how a context and what follows it are parted, and how far the items are that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def parted(context: str, continuation: str) -> tuple[str, str]:
    """As lm-eval parts them for a tokenizer: spaces at the context's end are the continuation's."""
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


class ItemsDone:
    """Tells `progress` of each item of requests, as the requests that make them up are answered."""

    def __init__(self, requests: Sequence[Any], progress: Callable[[int], None] | None) -> None:
        self._items = len({(request.task_name, request.doc_id) for request in requests})
        self._requests, self._done, self._told, self._progress = len(requests), 0, 0, progress

    def done(self, count: int) -> None:
        self._done += count
        finished = self._done * self._items // max(1, self._requests)
        if self._progress is not None and finished > self._told:
            self._progress(finished - self._told)
            self._told = finished

    def add_partial(self, kind: str, request: Any, answer: Any) -> None:
        """One request is answered: what lm-eval tells its cache."""
        self.done(1)
