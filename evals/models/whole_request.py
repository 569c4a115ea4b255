"""One answer of a server within limits: seconds of the whole request, bytes, and a shape that is data."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import openai

LARGEST_ANSWER = 64 << 20  # bytes; a response of 100,000 tokens with log-probabilities has less
Answer = TypeVar("Answer")


class LateAnswer(Exception):
    """The whole request took longer than it may."""


class MalformedAnswer(Exception):
    """What came is no answer."""


def within(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """What `ask` returns or raises. Raises LateAnswer once `seconds` have passed, whatever has arrived by then.

    A client's own limit is one of each read: headers or a body that drip a byte a second never reach it. So the
    request has a thread, which is left behind; closing its connections ends it.
    """
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as error:  # handed to the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise LateAnswer
    return answers[0]


def read_object(response: Any) -> dict[str, Any]:
    """The JSON object that a streamed response of the client holds.

    Raises MalformedAnswer, and openai.APIConnectionError where the connection ends before the answer does.
    """
    try:
        value = json.loads(_read(response))
    except (ValueError, RecursionError):
        raise MalformedAnswer from None
    if not isinstance(value, dict) or not isinstance(value.get("choices", []), list):
        raise MalformedAnswer
    return value


def _read(response: Any) -> bytes:
    content = bytearray()
    try:
        for part in response.iter_bytes():
            content += part
            if len(content) > LARGEST_ANSWER:
                break
    except Exception as error:  # the client's transport has classes of its own, by its version
        raise openai.APIConnectionError(request=response.http_request) from error
    if len(content) > LARGEST_ANSWER:
        raise MalformedAnswer
    return bytes(content)
