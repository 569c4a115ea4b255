"""A model behind an OpenAI-compatible server."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from evals.models.answer import refusal_of, text_of
from evals.models.chat_server import ChatServer
from evals.models.server import ServerSettings
from evals.models.spending import Meter
from evals.suites import Suite
from evals.values.conversation import Prompt, messages_as_json
from evals.values.grades import Unscored
from harness.keys.evaluate import DecodingKeys
from harness.subjects.model import Store, clean, every_sample
from harness.subjects.outcome import Outcome


class ServerModel:
    """Every request's outcome is stored before its thread takes the next one.

    No response, and so unscored: no answer, an answer without text or that is no chat completion, one that
    the server withheld, and one that it cut before `max_new_tokens`. One that reached that limit counts, as
    unfinished. A refusal that the API reports beside the text is one, with words or without.
    """

    template = "the server's own"

    def __init__(
        self,
        name: str,
        keys: ServerSettings,
        decoding: DecodingKeys,
        seed: int,
        meter: Meter | None = None,
    ) -> None:
        self.name, self._keys, self._decoding, self._seed = name, keys, decoding, seed
        self._meter = meter

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"server": self._keys.url, "model": self._keys.model, "revision": self._keys.revision}

    @property
    def decoding(self) -> Mapping[str, Any]:
        return self._decoding.identity(self._seed)

    def expected(self, suite: Suite) -> list[tuple[Prompt, int]]:
        return every_sample(suite, self._decoding.samples)

    def respond(self, suite: Suite, missing: Sequence[tuple[Prompt, int]], store: Store) -> None:
        def ask(pair: tuple[Prompt, int]) -> None:
            store([self._outcome(*pair)])

        for _ in self._server.map(ask, missing):
            pass

    @cached_property
    def _server(self) -> ChatServer:
        """One client for all suites, so that the budget is one."""
        return ChatServer(self._keys, meter=self._meter)

    def _outcome(self, prompt: Prompt, sample: int) -> Outcome:
        limit, temperature = self._decoding.max_new_tokens, self._decoding.temperature
        drawn = {"seed": self._request_seed(prompt, sample)} if temperature else {}
        completion = self._server.complete(
            messages_as_json(prompt.messages), max_tokens=limit, temperature=temperature, **drawn
        )
        read = completion if isinstance(completion, Unscored) else read_answer(completion, limit)
        if isinstance(read, Unscored):
            return Outcome(prompt.id, sample, None, False, read.reason)
        return Outcome(prompt.id, sample, read.text, read.finished, refused=read.refused)

    def _request_seed(self, prompt: Prompt, sample: int) -> int:
        """31 bits, as servers take them, so that samples differ and a second run draws the same."""
        name = f"{self._seed}\0{prompt.id}\0{sample}".encode()
        return int.from_bytes(hashlib.sha256(name).digest()[:4]) >> 1


@dataclass(frozen=True)
class ServerAnswer:
    """`finished`: it ended by itself. `refused`: the API itself says that the model refused, in these words or none."""

    text: str
    finished: bool
    refused: bool = False


def read_answer(completion: Any, limit: int) -> ServerAnswer | Unscored:
    """What a chat completion that may write `limit` tokens says."""
    try:
        choice = completion.choices[0]
        text, refusal, reason = text_of(choice), refusal_of(choice), choice.finish_reason
    except (AttributeError, LookupError, TypeError):
        return Unscored("the server's answer is malformed")
    if refusal is not None:
        said = [part for part in (text, refusal) if part and part.strip()]
        return ServerAnswer(clean("\n".join(said)), True, refused=True)
    if reason == "content_filter":
        return Unscored("the server withheld the response (content filter)")
    if text is None or not text.strip():
        return Unscored("the server's answer has no text")
    if reason != "length":
        return ServerAnswer(clean(text), True)
    written = getattr(getattr(completion, "usage", None), "completion_tokens", None)
    if isinstance(written, int) and written < limit:
        return Unscored(f"the server cut the response after {written} of {limit} tokens")
    return ServerAnswer(clean(text), False)
