"""What one server takes of the API, found out from what it refuses, so that thousands of requests are not refused too.

Models that reason take `max_completion_tokens` in place of `max_tokens`, and no temperature but their own; others know
no `seed`. What was refused is renamed or left out, told once, and the request is sent again. What an answer could not
be read without, such as a grader's log-probabilities, stays as it is asked.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Mapping
from typing import Any

import openai

LIMIT = "max_tokens"  # as callers of this project name it
LIMITS = {"chat": (LIMIT, "max_completion_tokens"), "responses": ("max_output_tokens",)}
MAY_GO = {
    "temperature": "takes no temperature, so that the model's own counts: answers are not greedy",
    "seed": "takes no seed, so that answers are drawn anew each time",
}
SPARED = {  # by who says so alone
    "logprobs": "gives no log-probabilities",
    "top_p": "takes no top_p, so that it draws among the tokens that it chooses itself",
    "top_k": "knows no top_k",
    "min_p": "knows no min_p",
}
REFUSING = (400, 422)
BY_A_FAULT = (500, 501)  # of a server that says so when it is at work
IS_UNKNOWN = re.compile(
    r"unsupported|not support|unknown|unrecogni[sz]ed|unexpected|not permitted|not allowed|extra_forbidden|deprecated",
    re.IGNORECASE,
)


class Dialect:
    """Shared by the threads that ask one server; `notes` say in what its requests differ from those of the API."""

    def __init__(self, api: str = "chat", limit: str = "", spared: Collection[str] = ()) -> None:
        self._names = [limit] if limit else list(LIMITS[api])
        self._may_go = MAY_GO | {name: SPARED[name] for name in spared}
        self._left_out: dict[str, str] = {}
        self._renamed = ""
        self._lock = threading.Lock()

    @property
    def notes(self) -> list[str]:
        with self._lock:
            renamed = [f"calls the limit of tokens {self._renamed}"] if self._renamed else []
            return [*renamed, *self._left_out.values()]

    def spoken(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The request's fields as the server takes them, as far as that is known."""
        with self._lock:
            names = {LIMIT: self._names[0]}
            return {names.get(name, name): v for name, v in options.items() if name not in self._left_out}

    def learn(self, error: Exception, sent: Mapping[str, Any]) -> bool:
        """Whether what was `sent`, as spoken, should be sent again, in what is known now."""
        if not isinstance(error, openai.APIStatusError) or error.status_code not in REFUSING + BY_A_FAULT:
            return False
        names = _refused(error, sent, self._may_go)
        name = names[0] if names else ""
        with self._lock:
            if name in self._may_go:
                for one in names:
                    self._left_out.setdefault(one, self._may_go[one])
                return True
            if name == self._names[0] and len(self._names) > 1:
                del self._names[0]
                self._renamed = self._names[0]
                return True
            # Another thread has learnt it since this one was sent.
            return bool(name) and name not in self._names and name in (LIMIT, *LIMITS["chat"])


def _refused(error: openai.APIStatusError, sent: Mapping[str, Any], may_go: Collection[str]) -> list[str]:
    """The field that the server does not know or take; several where all may go; [] where it says of none.

    Its words are read, and not kept.
    """
    said = f"{error.code} {error.type} {error.body}"
    if not IS_UNKNOWN.search(said):
        return []
    if isinstance(error.param, str) and error.param in sent:
        return [error.param]
    known = (*LIMITS["chat"], *LIMITS["responses"], *may_go)
    named = [name for name in sent if name in known and re.search(rf"\b{name}\b", said)]
    return named if len(named) == 1 or all(name in may_go for name in named) else []
