"""Why a server gave no answer, in words that may be shown, and whether it can ever give one."""

from __future__ import annotations

import hashlib
import math
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import urlsplit

import openai

from evals.models.answer import LateAnswer, field_of

FEW = 5  # failures of one kind without an answer between them, after which it is not asked any more
PAUSE = 60.0  # seconds after which who still asks tries a silent server with one request
GATEWAYS = (502, 503, 504)  # whoever stands before a server that is gone
WHATEVER_IS_ASKED = (401, 404, 405, 407, 410, 501)
# For all prompts where the server's words are the same each time.
MAY_BE_THE_PROMPTS = (400, 403, 409, 413, 415, 422)
OF_ONE_PROMPT = re.compile(
    r"context|too (long|large|many)|filter|polic|flagged|moderat|safety|harm", re.IGNORECASE
)
NO_ANSWER = "no answer"
# A code or a parameter; anything else may be the conversation.
WORD = re.compile(r"[\w.\[\]/-]{1,64}", re.ASCII)


class Hopeless:
    """Counts requests that failed and that no further prompt can mend; `reason` is "" until there are FEW in a row.

    A server that is gone may come back: a long training asks it again, by one request each PAUSE.
    """

    def __init__(self, url: str, key_variable: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url, self._key_variable, self._clock = url, key_variable, clock
        self._lock = threading.Lock()
        self._reason = ""
        self._kind, self._times = "", 0
        self._again = math.inf

    def reason(self) -> str:
        """Why nothing more is asked; "" where the caller may ask."""
        with self._lock:
            if self._reason and self._clock() >= self._again:
                self._again = self._clock() + PAUSE
                return ""
            return self._reason

    def succeeded(self) -> None:
        with self._lock:
            self._kind, self._times = "", 0
            if self._again < math.inf:
                self._reason, self._again = "", math.inf

    def failed(self, error: Exception, *secrets: str) -> None:
        """`error` ended a request: the last of its attempts, where it was tried again."""
        kind = _kind(error)
        with self._lock:
            self._times = self._times + 1 if kind and kind == self._kind else bool(kind)
            self._kind = kind
            if self._times >= FEW and not self._reason:
                each = "to each of" if isinstance(error, openai.APIStatusError) else "for"
                self._reason = (
                    f"{describe(error, *secrets)} {each} {FEW} requests in a row, so no more were sent"
                )
                self._reason += self._advice(error)
            if self._reason and kind == NO_ANSWER:
                self._again = self._clock() + PAUSE

    def _advice(self, error: Exception) -> str:
        status = getattr(error, "status_code", None)
        if status is None:
            return "; look whether the server runs, and at server.url"
        if status == 401:
            return f"; look at the key in {self._key_variable}"
        if status == 404 and not urlsplit(self._url).path.rstrip("/").endswith("/v1"):
            return "; most servers' addresses end in /v1"
        if status == 404:
            return "; look at server.url and server.model"
        return ""


def _kind(error: Exception) -> str:
    """What must be the same in each failure; "" where another prompt may fare better."""
    if isinstance(error, LateAnswer | openai.APIConnectionError):  # the client's own time-out is one of these
        return NO_ANSWER
    if not isinstance(error, openai.APIStatusError):
        return ""
    if error.status_code in GATEWAYS:
        return NO_ANSWER
    if error.status_code in WHATEVER_IS_ASKED:
        return str(error.status_code)
    if error.status_code not in MAY_BE_THE_PROMPTS:
        return ""
    said = f"{error.code} {error.type} {error.body}"
    if OF_ONE_PROMPT.search(said):
        return ""
    return f"{error.status_code} {hashlib.sha256(said.encode('utf-8', 'replace')).hexdigest()}"


def describe(error: Exception, *secrets: str) -> str:
    """A reason without the server's text, which may echo the key or the conversation: status, code, parameter."""
    if isinstance(error, openai.APIStatusError):
        return f"the server answered {error.status_code}{_details(error, secrets)}"
    if isinstance(error, openai.APITimeoutError | LateAnswer):
        return "the server did not answer in time"
    if isinstance(error, openai.APIConnectionError):
        bad = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))
        return "the server's certificate is not trusted" if bad else "the server could not be reached"
    return "the server's answer is malformed"


def _details(error: openai.APIStatusError, secrets: Sequence[str]) -> str:
    named = [("code", error.code or error.type), ("parameter", error.param)]
    said = [f"{name} {value}" for name, value in named if _may_be_shown(value, secrets, error.status_code)]
    return f" ({', '.join(said)})" if said else ""


def named(errors: Sequence[object]) -> str:
    """Codes and parameters of errors that are told within an answer: ` (code c, parameter p)`; "" without any."""
    fields = [("code", "code"), ("parameter", "param")]
    said = [
        f"{name} {field_of(one, key)}"
        for one in errors
        for name, key in fields
        if _is_word(field_of(one, key))
    ]
    return f" ({', '.join(dict.fromkeys(said))})" if said else ""


def _is_word(value: object) -> bool:
    return isinstance(value, str) and bool(WORD.fullmatch(value))


def _may_be_shown(value: object, secrets: Sequence[str], status: int) -> bool:
    """A short word that has nothing of a key; a code that is the status says nothing."""
    text = str(value)
    if value is None or not WORD.fullmatch(text) or text == str(status):
        return False
    return not any(key and (key in text or text in key) for key in secrets)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
