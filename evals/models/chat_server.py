"""A chat with any OpenAI-compatible endpoint: concurrency, retries with jitter, a budget, keys from the
environment. Every failure comes back as Unscored with its reason; none raises.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import openai

from evals.models.server import ServerSettings
from evals.values.grades import Unscored

Given = TypeVar("Given")
Answer = TypeVar("Answer")

RETRIED = (
    openai.APITimeoutError,
    openai.APIConnectionError,
    openai.RateLimitError,
    openai.InternalServerError,
)


class ChatServer:
    """One endpoint with its budget, shared by the threads that ask it."""

    def __init__(self, config: ServerSettings, sleep: Callable[[float], None] = time.sleep) -> None:
        config.require()
        self.config = config
        self._client = openai.OpenAI(
            base_url=config.url,
            api_key=os.environ.get(config.key_variable) or "no-key",
            timeout=config.timeout,
            max_retries=0,  # retried here, where the budget is counted
        )
        self._sleep = sleep
        self._random = random.Random()
        self._lock = threading.Lock()
        self._requests = 0

    @property
    def requests(self) -> int:
        """Number of requests sent so far, retries included."""
        return self._requests

    def map(self, ask: Callable[[Given], Answer], items: Iterable[Given]) -> Iterator[Answer]:
        """`ask` of each item, in their order, at most `concurrency` at a time."""
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            yield from pool.map(ask, items)

    def complete(self, messages: Sequence[Mapping[str, str]], **options: Any) -> Any:
        """A chat completion, as the client's own object; Unscored when every attempt has failed.

        `options` are those of the endpoint: `max_tokens`, `temperature`, `seed`, `logprobs`, ...
        """
        create: Any = self._client.chat.completions.create
        return self._attempt(lambda: create(model=str(self.config.model), messages=list(messages), **options))

    def complete_text(self, prompt: str, **options: Any) -> Any:
        """The same for a text that is in the model's own format already (the completions endpoint)."""
        create: Any = self._client.completions.create
        return self._attempt(lambda: create(model=str(self.config.model), prompt=prompt, **options))

    def _attempt(self, call: Callable[[], Any]) -> Any:
        reason = ""
        for attempt in range(self.config.attempts):
            if not self._spend():
                return Unscored(f"the budget of {self.config.max_requests} requests is spent")
            try:
                return call()
            except RETRIED as error:
                reason = describe(error)
                if attempt + 1 < self.config.attempts:
                    self._sleep(self._delay(attempt, error))
            except (openai.OpenAIError, ValueError) as error:
                return Unscored(describe(error))
        attempts = self.config.attempts
        return Unscored(f"{reason}, {attempts} time{'s' if attempts > 1 else ''}")

    def _spend(self) -> bool:
        with self._lock:
            if self.config.max_requests and self._requests >= self.config.max_requests:
                return False
            self._requests += 1
            return True

    def _delay(self, attempt: int, error: openai.OpenAIError) -> float:
        """Exponential with jitter, so that waiting clients do not come back all at once."""
        with self._lock:
            jitter = self._random.uniform(0.5, 1.5)
        wished = _retry_after(error)
        return min(max(self.config.first_delay * 2**attempt * jitter, wished), self.config.longest_delay)


def describe(error: Exception) -> str:
    """A reason without the server's text, which may echo the key or the conversation."""
    if isinstance(error, openai.APIStatusError):
        return f"the server answered {error.status_code}"
    if isinstance(error, openai.APITimeoutError):
        return "the server did not answer in time"
    if isinstance(error, openai.APIConnectionError):
        return "the server could not be reached"
    return "the server's answer is malformed"


def _retry_after(error: openai.OpenAIError) -> float:
    """Seconds that a 429 or 503 asks to wait; 0 where it does not say."""
    response = getattr(error, "response", None)
    try:
        return max(float(response.headers["retry-after"]), 0.0) if response is not None else 0.0
    except (KeyError, ValueError):
        return 0.0
