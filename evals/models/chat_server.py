"""A chat with any OpenAI-compatible endpoint: concurrency, retries with jitter, a budget, keys from the
environment. Every failure comes back as Unscored with its reason; none raises. What can never succeed (a wrong
key, a wrong address, a setting that the server does not take) and a server that is gone are asked a few times and
no more.
"""

from __future__ import annotations

import logging
import os
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import openai
from openai.types import Completion
from openai.types.chat import ChatCompletion

from evals.models.answer import LateAnswer, MalformedAnswer, read_object, within
from evals.models.batch import Batches
from evals.models.dialect import REFUSING, Dialect
from evals.models.pace import Pace, retry_after
from evals.models.responses_api import as_completion, question
from evals.models.server import ServerSettings
from evals.models.server_failure import Hopeless, describe
from evals.models.spending import Meter, Spending
from evals.values.errors import InputError
from evals.values.grades import Unscored

log = logging.getLogger(__name__)
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

# Fields of a request that the client's own signature does not have, by whom they are understood: vLLM and llama.cpp.
BEYOND = (
    "prompt_logprobs",
    "return_token_ids",
    "add_generation_prompt",
    "continue_final_message",
    "top_k",
    "min_p",
)
RAW = {"X-Stainless-Raw-Response": "stream"}  # has the client hand over an answer that is not read yet
NAMED = re.compile(r"[\w./:@+-]{1,120}")  # a model or a fingerprint; anything else is not shown


class ChatServer:
    """One endpoint with its budget, shared by the threads that ask it; the budget is the meter's, if one is given.

    `spared` are options that answers can be read without: left out once the server refuses them.
    """

    def __init__(
        self,
        config: ServerSettings,
        sleep: Callable[[float], None] = time.sleep,
        meter: Meter | None = None,
        spared: Collection[str] = (),
    ) -> None:
        config.require()
        self.config = config
        self._key = os.environ.get(config.key_variable) or "no-key"
        self._secret_headers = {name: _secret(name, of) for name, of in config.header_variables.items()}
        self._secrets = (self._key, *self._secret_headers.values())
        self._dialect, self._served = Dialect(config.api, config.limit, spared), Served(str(config.model))
        self._pace = Pace(config.concurrency, config.longest_delay)
        self._first, self._found_out = threading.Lock(), threading.Event()
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

        def ask(client: openai.OpenAI, spoken: Mapping[str, Any]) -> Any:
            create: Any = client.chat.completions.with_streaming_response.create
            fields = {"messages": list(messages), **_known(spoken)}
            extra = {**self.config.extra_body(), **_beyond(spoken)}
            return self._answer(create, fields, extra, ChatCompletion.construct)

        def ask_responses(client: openai.OpenAI, spoken: Mapping[str, Any]) -> Any:
            create: Any = client.responses.with_streaming_response.create
            asked = question(messages, _known(spoken))
            return self._answer(create, asked, self.config.extra_body(), _of_responses)

        return self._attempt(ask if self.config.api == "chat" else ask_responses, options)

    def complete_text(self, prompt: str, **options: Any) -> Any:
        """The same for a text that is in the model's own format already (the completions endpoint)."""

        def ask(client: openai.OpenAI, spoken: Mapping[str, Any]) -> Any:
            create: Any = client.completions.with_streaming_response.create
            fields, extra = {"prompt": prompt, **_known(spoken)}, {**self.config.body, **_beyond(spoken)}
            return self._answer(create, fields, extra, Completion.construct)

        return self._attempt(ask, options)

    def ask(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any] | Unscored:
        """The object that a server answers at a `path` of its own, beside the API's /v1: llama.cpp's, as a rule."""
        root = str(self.config.url).rstrip("/").removesuffix("/v1")

        def post(client: openai.OpenAI, spoken: Mapping[str, Any]) -> Any:
            given: Any = {"headers": RAW}
            response: Any = client.post(f"{root}/{path}", cast_to=object, body=dict(body), options=given)
            try:
                return _Counted(read_object(response))
            finally:
                response.close()

        found: _Counted | Unscored = self._attempt(post, {})
        return found if isinstance(found, Unscored) else found.answer

    def by_batch(
        self, folder: Path, conversations: Sequence[Sequence[Mapping[str, str]]], options: Mapping[str, Any]
    ) -> list[Any]:
        """A chat completion to each, or Unscored with its reason, by the batch endpoint; waits until it has ended."""
        spoken = {**self._dialect.spoken(options), **self.config.extra_body()}
        bodies = [
            {"model": self.config.model, "messages": [dict(m) for m in turns], **spoken}
            for turns in conversations
        ]
        client = self._client()
        try:
            return Batches(client, folder, self._meter, self._sleep).answers(bodies)
        except (openai.OpenAIError, *CANNOT_BE_READ) as error:
            reason = f"no batch could be made or read: {describe(error, *self._secrets)}"
            return [Unscored(reason)] * len(bodies)
        finally:
            self._give_back(client)

    @property
    def spending(self) -> Spending:
        """What it was asked so far."""
        return self._meter.spending

    @property
    def spent(self) -> str:
        """What it was asked so far, with budgets and cost; "" of one that was not asked."""
        return self._meter.said if self._meter.spending.requests else ""

    @property
    def notes(self) -> list[str]:
        """What a reader of its answers should know: what the server does not take, and which model answered."""
        asked = [f"asked its server {spent}"] if (spent := self.spent) else []
        return [f"the server {note}" for note in self._dialect.notes] + self._served.notes + asked

    def _answer(
        self,
        create: Callable[..., Any],
        fields: Mapping[str, Any],
        extra: Mapping[str, Any],
        read: Callable[..., Any],
    ) -> Any:
        with create(model=str(self.config.model), **fields, extra_body=dict(extra) or None) as response:
            answer = read(**read_object(response))
            self._pace.answered(response.headers)
        self._served.by(getattr(answer, "model", None), getattr(answer, "system_fingerprint", None))
        return answer

    def _attempt(self, ask: Callable[..., Any], options: Mapping[str, Any]) -> Any:
        """`ask` of a client and of the options as the server takes them, until it is answered or given up."""
        reason, attempt = "", 0
        while attempt < self.config.attempts:
            if hopeless := self._hopeless.reason():
                return Unscored(hopeless)
            if over := self._meter.begin():
                return Unscored(over)
            with self._lock:
                self._requests += 1
            spoken: dict[str, Any] = {}
            try:
                with self._finding_out(), self._pace.turn():
                    spoken = self._dialect.spoken(options)
                    answer = self._ask_in_time(partial(ask, spoken=spoken))
            except RETRIED as error:
                if self._has_learnt(error, spoken):
                    continue
                reason = describe(error, *self._secrets)
                if isinstance(error, openai.APIStatusError) and error.status_code in (429, 503):
                    self._pace.too_much(error.response.headers)
                attempt += 1
                if attempt < self.config.attempts:
                    self._sleep(self._delay(attempt - 1, error))
                else:
                    self._hopeless.failed(error, *self._secrets)
            except (openai.OpenAIError, MalformedAnswer, *CANNOT_BE_READ) as error:
                if self._has_learnt(error, spoken):
                    continue
                self._hopeless.failed(error, *self._secrets)
                return Unscored(describe(error, *self._secrets))
            else:
                self._hopeless.succeeded()
                self._meter.answered(getattr(answer, "usage", None))
                return answer
        attempts = self.config.attempts
        return Unscored(f"{reason}, {attempts} time{'s' if attempts > 1 else ''}")

    def _has_learnt(self, error: Exception, spoken: Mapping[str, Any]) -> bool:
        if not self._dialect.learn(error, spoken):
            return False
        log.info("the server %s; asked again in its words", "; ".join(self._dialect.notes))
        return True

    @contextmanager
    def _finding_out(self) -> Iterator[None]:
        """The first request goes alone, so that what it teaches is known before a thousand are sent."""
        if self._found_out.is_set():
            yield
            return
        with self._first:
            try:
                yield
            except openai.APIStatusError as error:
                if error.status_code not in REFUSING:
                    self._found_out.set()
                raise
            except BaseException:
                self._found_out.set()
                raise
            else:
                self._found_out.set()

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
            default_headers={**self.config.headers, **self._secret_headers},
        )

    def _give_back(self, client: openai.OpenAI) -> None:
        with self._lock:
            self._clients.append(client)

    def _delay(self, attempt: int, error: Exception) -> float:
        """Exponential with jitter, so that waiting clients do not come back all at once."""
        with self._lock:
            jitter = self._random.uniform(0.5, 1.5)
        response = getattr(error, "response", None)
        wished = retry_after(response.headers) if response is not None else 0.0
        return min(max(self.config.first_delay * 2**attempt * jitter, wished), self.config.longest_delay)


class Served:
    """Which model a server says that it is, in each answer: `notes` name it where that is another than was asked for.

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


class _Counted:
    """An answer beside the API: what it was asked, in the API's words."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.answer = answer
        counts = {"prompt_tokens": "tokens_evaluated", "completion_tokens": "tokens_predicted"}
        self.usage = {name: answer.get(own, 0) for name, own in counts.items()}


def _known(spoken: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in spoken.items() if name not in BEYOND}


def _beyond(spoken: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in spoken.items() if name in BEYOND}


def _name(said: object) -> str:
    return said if isinstance(said, str) and NAMED.fullmatch(said) else ""


def _called(named: tuple[str, str]) -> str:
    fingerprint = f" (fingerprint {named[1]})" if named[1] else ""
    return f"{named[0] or 'a model without a name'}{fingerprint}"


def _secret(header: str, variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        field, fix = f"server.header_variables.{header}", f"export {variable}=..."
        raise InputError("its environment variable is not set", field=field, fix=fix)
    return value


def _of_responses(**answer: Any) -> ChatCompletion:
    return ChatCompletion.construct(**as_completion(answer))
