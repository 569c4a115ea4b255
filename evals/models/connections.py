"""Connections to one server: its key and its headers, a client a request, an end to what is late."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import openai

from evals.models.answer import LateAnswer, read_object, within
from evals.models.apis import ChatApi
from evals.models.server import ServerSettings
from evals.values.errors import InputError

Read = TypeVar("Read")

RAW = {"X-Stainless-Raw-Response": "stream"}  # has the client hand over an answer that is not read yet


class Connections:
    """Shared by threads. Raises InputError where the variable of a secret header is not set."""

    def __init__(self, config: ServerSettings, api: ChatApi) -> None:
        self._config = config
        self._key = os.environ.get(config.key_variable) or "no-key"
        hidden = {name: _secret(name, of) for name, of in config.header_variables.items()}
        self.secrets = (self._key, *hidden.values())  # that nothing may show
        key = {api.key_header: self._key} if api.key_header else {}
        self._headers = {**api.headers, **key, **config.headers, **hidden}
        # The client wants to be told of each request that it has no key of a bearer's.
        self._each: dict[str, Any] = {**RAW, **({"Authorization": openai.Omit()} if key else {})}
        self._free: list[openai.OpenAI] = []  # clients that nobody uses now
        self._lock = threading.Lock()

    def post(
        self, url: str, body: Mapping[str, Any], read: Callable[[dict[str, Any]], Read]
    ) -> tuple[Read, Mapping[str, str]]:
        """What `read` makes of the object that is answered at `url`, below the server's address; and the headers.

        Raises LateAnswer, MalformedAnswer, openai.OpenAIError and whatever `read` does. A client is one request's
        alone: where that is late, its connections are closed, and nobody else's.
        """

        def ask() -> tuple[Read, Mapping[str, str]]:
            given: Any = {"headers": self._each}
            response: Any = client.post(url, cast_to=object, body=dict(body), options=given)
            try:
                return read(read_object(response)), response.headers
            finally:
                response.close()

        with self.client() as client:
            return within(self._config.timeout, ask)

    @contextmanager
    def client(self) -> Iterator[openai.OpenAI]:
        """One that nobody else uses meanwhile; it is closed where its answer was late."""
        with self._lock:
            client = self._free.pop() if self._free else None
        client = client or self._new()
        try:
            yield client
        except LateAnswer:
            client.close()
            raise
        except BaseException:
            self._give_back(client)
            raise
        self._give_back(client)

    def _new(self) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=self._config.url,
            api_key=self._key,
            timeout=self._config.timeout,
            max_retries=0,  # whoever asks tries again, where the budget is counted
            default_headers=self._headers,
        )

    def _give_back(self, client: openai.OpenAI) -> None:
        with self._lock:
            self._free.append(client)


def _secret(header: str, variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        field, fix = f"server.header_variables.{header}", f"export {variable}=..."
        raise InputError("its environment variable is not set", field=field, fix=fix)
    return value
