"""Why a server gave no answer, in words that may be shown, and whether it can ever give one."""

from __future__ import annotations

import hashlib
import re
import ssl
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import openai

from evals.models.answer import LateAnswer

FEW = 5  # failures of one kind without an answer between them, after which it is not asked any more
WHATEVER_IS_ASKED = (401, 404, 405, 407, 410, 501)
MAY_BE_THE_PROMPTS = (
    400,
    403,
    409,
    413,
    415,
    422,
)  # for all prompts where the server's words are the same each time
OF_ONE_PROMPT = re.compile(
    r"context|too (long|large|many)|filter|polic|flagged|moderat|safety|harm", re.IGNORECASE
)
WORD = re.compile(
    r"[\w.\[\]/-]{1,64}", re.ASCII
)  # a code or a parameter; anything else may be the conversation


class Hopeless:
    """Counts failures that no further prompt can mend; `reason` is "" until there are FEW in a row."""

    def __init__(self, url: str, key_variable: str) -> None:
        self.reason = ""
        self._url, self._key_variable = url, key_variable
        self._lock = threading.Lock()
        self._kind, self._times = "", 0

    def succeeded(self) -> None:
        with self._lock:
            self._kind, self._times = "", 0

    def failed(self, error: Exception, key: str) -> None:
        kind = _kind(error)
        with self._lock:
            self._times = self._times + 1 if kind and kind == self._kind else bool(kind)
            self._kind = kind
            if self._times >= FEW and not self.reason:
                said = describe(error, key)
                self.reason = (
                    f"{said} to each of the first requests, so no more were sent{self._advice(error)}"
                )

    def _advice(self, error: Exception) -> str:
        status = getattr(error, "status_code", None)
        if status == 401:
            return f"; look at the key in {self._key_variable}"
        if status == 404 and not urlsplit(self._url).path.rstrip("/").endswith("/v1"):
            return "; most servers' addresses end in /v1"
        if status == 404:
            return "; look at server.url and server.model"
        return ""


def _kind(error: Exception) -> str:
    """What must be the same in each failure; "" where another prompt may fare better."""
    if not isinstance(error, openai.APIStatusError):
        return ""
    if error.status_code in WHATEVER_IS_ASKED:
        return str(error.status_code)
    if error.status_code not in MAY_BE_THE_PROMPTS:
        return ""
    said = f"{error.code} {error.type} {error.body}"
    if OF_ONE_PROMPT.search(said):
        return ""
    return f"{error.status_code} {hashlib.sha256(said.encode('utf-8', 'replace')).hexdigest()}"


def describe(error: Exception, key: str = "") -> str:
    """A reason without the server's text, which may echo the key or the conversation: status, code, parameter."""
    if isinstance(error, openai.APIStatusError):
        return f"the server answered {error.status_code}{_details(error, key)}"
    if isinstance(error, openai.APITimeoutError | LateAnswer):
        return "the server did not answer in time"
    if isinstance(error, openai.APIConnectionError):
        bad = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))
        return "the server's certificate is not trusted" if bad else "the server could not be reached"
    return "the server's answer is malformed"


def _details(error: openai.APIStatusError, key: str) -> str:
    named = [("code", error.code or error.type), ("parameter", error.param)]
    said = [f"{name} {value}" for name, value in named if _may_be_shown(value, key, error.status_code)]
    return f" ({', '.join(said)})" if said else ""


def _may_be_shown(value: object, key: str, status: int) -> bool:
    """A short word that has nothing of the key; a code that is the status says nothing."""
    text = str(value)
    if value is None or not WORD.fullmatch(text) or text == str(status):
        return False
    return not key or (key not in text and text not in key)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def retry_after(error: Exception) -> float:
    """Seconds that a 429 or 503 asks to wait; 0 where it does not say."""
    response = getattr(error, "response", None)
    try:
        return max(float(response.headers["retry-after"]), 0.0) if response is not None else 0.0
    except (KeyError, ValueError):
        return 0.0
