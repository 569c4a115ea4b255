"""A chat with a server of any API that is known (`evals.models.apis`): concurrency, retries with jitter, a budget.

Every failure comes back as Unscored with its reason; none raises. What can never succeed (a wrong key, a wrong address,
a setting that the server does not take) and a server that is gone are asked a few times and no more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import openai
from openai.types import Completion
from openai.types.chat import ChatCompletion

from evals.models.answer import LateAnswer, MalformedAnswer
from evals.models.apis import find_api
from evals.models.background import Background
from evals.models.batch import Batches
from evals.models.connections import Connections
from evals.models.dialect import Dialect
from evals.models.pace import Backoff, Pace
from evals.models.served import Served
from evals.models.server import ServerSettings
from evals.models.server_failure import Hopeless, describe
from evals.models.spending import Meter, Spending
from evals.values.grades import Unscored

log = logging.getLogger(__name__)
Given = TypeVar("Given")
Answer = TypeVar("Answer")
Body = dict[str, Any]

RETRIED = (
    LateAnswer,
    openai.APITimeoutError,
    openai.APIConnectionError,
    openai.RateLimitError,
    openai.InternalServerError,
)
# What a hostile answer makes of the client's own reading, a nesting of thousands in an error's body for one.
CANNOT_BE_READ = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
TOO_MUCH = (429, 503)

# Fields without which an answer would be read as another's: `server.body` does not replace them.
FIXED = (
    *("prompt_logprobs", "return_token_ids", "add_generation_prompt", "continue_final_message"),
    *("top_p", "top_k", "min_p"),
)


class ChatServer:
    """One server with its budget, shared by the threads that ask it; the budget is the meter's, if one is given.

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
        self.config, self._api = config, config.chat_api()
        limit = [config.limit] if config.limit else []
        self._dialect = Dialect(limit or self._api.limits, self._api.takes, spared)
        self._of_texts = Dialect(limit or find_api("chat").limits, spared=spared)
        self._connections, self._served = Connections(config, self._api), Served(str(config.model))
        reads = self._api.exhausted
        self._pace = Pace(config.concurrency, config.longest_delay, reads=reads)
        self._backoff, self._sleep = Backoff(config.first_delay, config.longest_delay, reads), sleep
        self._hopeless = Hopeless(str(config.url), config.key_variable)
        self.meter, self._background = meter or Meter(config), Background(config.concurrency)
        self._requests, self._lock = 0, threading.Lock()

    # --- asking -------------------------------------------------------------------------------

    def map(self, ask: Callable[[Given], Answer], items: Iterable[Given]) -> Iterator[Answer]:
        """`ask` of each item, in their order, at most `concurrency` at a time."""
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            yield from pool.map(ask, items)

    def begin(self, ask: Callable[[], Answer]) -> Future[Answer]:
        """Call `ask` in the background, after what was begun before, `concurrency` at a time.

        A command that ends does not wait for what is begun, and nothing of it is sent any more.
        """
        return self._background.begin(ask)

    def complete(self, messages: Sequence[Mapping[str, str]], **options: Any) -> Any:
        """A chat completion, as the client's own object; Unscored when every attempt has failed.

        `options` are those of chat completions: `max_tokens`, `temperature`, `seed`, `logprobs`, ... One that the API
        has no field for is left out where that may be, and else Unscored.
        """

        def body(spoken: Mapping[str, Any]) -> Body:
            return self._body(
                self._api.question(self._dialect.turns(messages), spoken), self.config.extra_body()
            )

        def read(answer: Body) -> Any:
            return self._signed(ChatCompletion.construct(**self._api.completion(answer)))

        return self._attempt(self._dialect, options, self._api.path, body, read, messages)

    def complete_text(self, prompt: str, **options: Any) -> Any:
        """The same for a text that is in the model's own format already (the completions endpoint)."""

        def body(spoken: Mapping[str, Any]) -> Body:
            return self._body({"prompt": prompt, **spoken}, self.config.body)

        def read(answer: Body) -> Any:
            return self._signed(Completion.construct(**answer))

        return self._attempt(self._of_texts, options, "completions", body, read)

    def ask(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any] | Unscored:
        """The object that a server answers at a `path` of its own, beside the API's /v1: llama.cpp's, as a rule."""
        url = f"{str(self.config.url).rstrip('/').removesuffix('/v1')}/{path}"
        found: _Counted | Unscored = self._attempt(self._of_texts, {}, url, lambda _: dict(body), _Counted)
        return found if isinstance(found, Unscored) else found.answer

    def by_batch(
        self, folder: Path, conversations: Sequence[Sequence[Mapping[str, str]]], options: Mapping[str, Any]
    ) -> list[Any]:
        """A chat completion to each, or Unscored with its reason, by the batch endpoint; waits until it has ended."""
        extra, spoken = self.config.extra_body(), self._dialect.spoken(options)
        asked = [self._api.question(self._dialect.turns(turns), spoken) for turns in conversations]
        bodies = [self._body(one, extra) for one in asked]
        try:
            with self._connections.client() as client:
                found = Batches(client, self._api, folder, self.meter, self._sleep).answers(bodies)
                return [one if isinstance(one, Unscored) else self._signed(one) for one in found]
        except (openai.OpenAIError, *CANNOT_BE_READ) as error:
            reason = f"no batch could be made or read: {describe(error, *self._connections.secrets)}"
            return [Unscored(reason)] * len(bodies)

    # --- what it was asked, and what it turned out to be ---------------------------------------

    @property
    def requests(self) -> int:
        """Number of requests sent so far, retries included."""
        return self._requests

    @property
    def spending(self) -> Spending:
        """What it was asked so far."""
        return self.meter.spending

    @property
    def notes(self) -> list[str]:
        """What a reader of its answers should know: what the server does not take, and which model answered."""
        asked = [f"asked its server {spent}"] if (spent := self.meter.spent) else []
        learnt = dict.fromkeys([*self._dialect.notes, *self._of_texts.notes])
        return [f"the server {note}" for note in learnt] + self._served.notes + asked

    # --- one request ---------------------------------------------------------------------------

    def _body(self, fields: Mapping[str, Any], extra: Mapping[str, Any]) -> Body:
        """`extra` is one's own `server.body`, which replaces what is not FIXED."""
        fixed = {name: fields[name] for name in FIXED if name in fields}
        return {"model": str(self.config.model), **fields, **extra, **fixed}

    def _signed(self, answer: Any) -> Any:
        """`answer`; the model that it names is counted."""
        self._served.by(getattr(answer, "model", None), getattr(answer, "system_fingerprint", None))
        return answer

    def _attempt(
        self,
        dialect: Dialect,
        options: Mapping[str, Any],
        url: str,
        body: Callable[[Mapping[str, Any]], Body],
        read: Callable[[Body], Any],
        turns: Sequence[Mapping[str, str]] = (),
    ) -> Any:
        """The answer to a request whose `body` is made of the options as the dialect has them; Unscored in the end."""
        if lacks := dialect.lacks(options):
            return Unscored(f"the API {self.config.api} has no {lacks}")
        failures = 0
        while True:
            if refused := self._hopeless.reason() or self.meter.begin():
                return Unscored(refused)
            with self._lock:
                self._requests += 1
            spoken: dict[str, Any] = {}
            said: Sequence[Mapping[str, str]] = ()
            try:
                with dialect.finding_out(), self._pace.turn():
                    spoken, said = dialect.spoken(options), dialect.turns(turns)
                    answer, headers = self._connections.post(url, body(spoken), read)
                    self._pace.answered(headers)
            except (LateAnswer, MalformedAnswer, openai.OpenAIError, *CANNOT_BE_READ) as error:
                if dialect.learn(error, spoken, said):
                    log.info("the server %s; asked again in its words", "; ".join(dialect.notes))
                    continue
                failures += 1
                if not self._goes_on(error, failures):
                    return Unscored(self._given_up(error, failures))
            else:
                self._hopeless.succeeded()
                self.meter.answered(getattr(answer, "usage", None))
                return answer

    def _goes_on(self, error: Exception, failures: int) -> bool:
        """Whether a request that failed is tried again; waits until it may be."""
        if not isinstance(error, RETRIED):
            return False
        response = getattr(error, "response", None)
        headers = {} if response is None else response.headers
        if isinstance(error, openai.APIStatusError) and error.status_code in TOO_MUCH:
            self._pace.too_much(headers)
        if failures >= self.config.attempts:
            return False
        self._sleep(self._backoff.before(failures, headers))
        return True

    def _given_up(self, error: Exception, failures: int) -> str:
        secrets = self._connections.secrets
        self._hopeless.failed(error, *secrets)
        tries = f", {failures} time{'s' if failures > 1 else ''}" if isinstance(error, RETRIED) else ""
        return f"{describe(error, *secrets)}{tries}"


class _Counted:
    """An answer beside the API: what it was asked, in the API's words."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.answer = answer
        counts = {"prompt_tokens": "tokens_evaluated", "completion_tokens": "tokens_predicted"}
        self.usage = {name: answer.get(own, 0) for name, own in counts.items()}
