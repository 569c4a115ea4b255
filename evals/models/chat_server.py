"""A chat with any OpenAI-compatible endpoint: concurrency, retries with jitter, a budget, keys from the
environment. Every failure comes back as Unscored with its reason; none raises. What can never succeed (a wrong
key, a wrong address, a setting that the server does not take) and a server that is gone are asked a few times and
no more.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

import openai
from openai.types import Completion
from openai.types.chat import ChatCompletion

from evals.models.answer import LateAnswer, MalformedAnswer, read_object, within
from evals.models.server import ServerSettings
from evals.models.server_failure import Hopeless, describe, retry_after
from evals.models.spending import Meter
from evals.values.grades import Unscored

Given = TypeVar("Given")
Answer = TypeVar("Answer")

RETRIED = (
    LateAnswer,
    openai.APITimeoutError,
    openai.APIConnectionError,
    openai.RateLimitError,
    openai.InternalServerError,
)
# What a hostile answer makes of the client's own reading, a nesting of thousands in an error's body for one.
CANNOT_BE_READ = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


class ChatServer:
    """One endpoint with its budget, shared by the threads that ask it; the budget is the meter's, if one is given."""

    def __init__(
        self,
        config: ServerSettings,
        sleep: Callable[[float], None] = time.sleep,
        meter: Meter | None = None,
    ) -> None:
        config.require()
        self.config = config
        self._key = os.environ.get(config.key_variable) or "no-key"
        self._sleep = sleep
        self._random = random.Random()
        self._lock = threading.Lock()
        self._clients: list[openai.OpenAI] = []  # those that nobody uses now
        self._hopeless = Hopeless(str(config.url), config.key_variable)
        self._meter = meter or Meter(config)
        self._begun: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._workers: list[threading.Thread] = []
        self._requests = 0

    @property
    def requests(self) -> int:
        """Number of requests sent so far, retries included."""
        return self._requests

    def map(self, ask: Callable[[Given], Answer], items: Iterable[Given]) -> Iterator[Answer]:
        """`ask` of each item, in their order, at most `concurrency` at a time."""
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            yield from pool.map(ask, items)

    def begin(self, ask: Callable[[], Answer]) -> Future[Answer]:
        """Call `ask` in the background, after what was begun before, `concurrency` at a time.

        A command that ends does not wait for what is begun, and nothing of it is sent any more.
        """
        future: Future[Answer] = Future()
        self._begun.put((future, ask))
        with self._lock:
            if len(self._workers) < self.config.concurrency:
                self._workers.append(threading.Thread(target=self._work, daemon=True))
                self._workers[-1].start()
        return future

    def _work(self) -> None:
        while True:
            future, ask = self._begun.get()
            try:
                future.set_result(ask())
            except BaseException as error:  # handed to whoever waits for the future
                future.set_exception(error)

    def complete(self, messages: Sequence[Mapping[str, str]], **options: Any) -> Any:
        """A chat completion, as the client's own object; Unscored when every attempt has failed.

        `options` are those of the endpoint: `max_tokens`, `temperature`, `seed`, `logprobs`, ...
        """

        def ask(client: openai.OpenAI) -> ChatCompletion:
            create: Any = client.chat.completions.with_streaming_response.create
            asked = {"model": str(self.config.model), "messages": list(messages), **options}
            with create(**asked, extra_body=self.config.extra_body() or None) as response:
                return ChatCompletion.construct(**read_object(response))

        return self._attempt(ask)

    def complete_text(self, prompt: str, **options: Any) -> Any:
        """The same for a text that is in the model's own format already (the completions endpoint)."""

        def ask(client: openai.OpenAI) -> Completion:
            create: Any = client.completions.with_streaming_response.create
            asked = {"model": str(self.config.model), "prompt": prompt, **options}
            with create(**asked, extra_body=dict(self.config.body) or None) as response:
                return Completion.construct(**read_object(response))

        return self._attempt(ask)

    def _attempt(self, ask: Callable[[openai.OpenAI], Answer]) -> Answer | Unscored:
        reason = ""
        for attempt in range(self.config.attempts):
            if hopeless := self._hopeless.reason():
                return Unscored(hopeless)
            if over := self._meter.begin():
                return Unscored(over)
            with self._lock:
                self._requests += 1
            try:
                answer = self._ask_in_time(ask)
            except RETRIED as error:
                reason = describe(error, self._key)
                if attempt + 1 < self.config.attempts:
                    self._sleep(self._delay(attempt, error))
                else:
                    self._hopeless.failed(error, self._key)
            except (openai.OpenAIError, MalformedAnswer, *CANNOT_BE_READ) as error:
                self._hopeless.failed(error, self._key)
                return Unscored(describe(error, self._key))
            else:
                self._hopeless.succeeded()
                self._meter.answered(getattr(answer, "usage", None))
                return answer
        attempts = self.config.attempts
        return Unscored(f"{reason}, {attempts} time{'s' if attempts > 1 else ''}")

    def _ask_in_time(self, ask: Callable[[openai.OpenAI], Answer]) -> Answer:
        """A client is one request's alone: where that is late, its connections are closed, and nobody else's."""
        client = self._client()
        try:
            answer = within(self.config.timeout, lambda: ask(client))
        except LateAnswer:
            client.close()
            raise
        except BaseException:
            self._give_back(client)
            raise
        self._give_back(client)
        return answer

    def _client(self) -> openai.OpenAI:
        with self._lock:
            if self._clients:
                return self._clients.pop()
        return openai.OpenAI(
            base_url=self.config.url,
            api_key=self._key,
            timeout=self.config.timeout,
            max_retries=0,  # retried here, where the budget is counted
        )

    def _give_back(self, client: openai.OpenAI) -> None:
        with self._lock:
            self._clients.append(client)

    def _delay(self, attempt: int, error: Exception) -> float:
        """Exponential with jitter, so that waiting clients do not come back all at once."""
        with self._lock:
            jitter = self._random.uniform(0.5, 1.5)
        wished = retry_after(error)
        return min(max(self.config.first_delay * 2**attempt * jitter, wished), self.config.longest_delay)
