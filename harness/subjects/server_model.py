"""A model behind an OpenAI-compatible server."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from evals.models.answer import reasoning_of, reasoning_tokens, refusal_of, text_of, token_log_probs_of
from evals.models.chat_server import ChatServer
from evals.models.dialect import SPARED
from evals.models.given_texts.understood import GivenTexts, given_texts
from evals.models.server import ServerSettings
from evals.models.spending import Meter
from evals.models.thoughts import UNENDED, Parted, Thoughts, of_text, parted
from evals.models.token_log_probs import AMONG, TokenLogProbs
from evals.suites import Suite
from evals.values.conversation import Prompt, messages_as_json
from evals.values.grades import Unscored
from harness.keys.subject import DecodingKeys
from harness.subjects.model import Keep, clean, every_sample
from harness.subjects.outcome import Outcome


class ServerModel:
    """Every request's outcome is stored before its thread takes the next one.

    No response, and so unscored: no answer, an answer without text or that is no chat completion, one that
    the server withheld, one that it cut before `max_new_tokens`, and a thought that never ended. One that reached
    that limit counts, as unfinished. A refusal that the API reports beside the text is one, with words or without.
    With `log_probs`, at temperature 1, outcomes have their log-probability where the server tells it, and with
    `hotter` those at these temperatures too. A model of another temperature draws among the `AMONG` likeliest tokens
    then: how likely it is to is known of these alone.
    """

    template = "the server's own"

    def __init__(
        self,
        name: str,
        keys: ServerSettings,
        decoding: DecodingKeys,
        seed: int,
        meter: Meter | None = None,
        log_probs: bool = False,
        hotter: Sequence[float] = (),
    ) -> None:
        self.name, self._keys, self._decoding, self._seed = name, keys, decoding, seed
        self.meter, self._hotter = meter or Meter(keys), tuple(hotter)
        told = log_probs and (decoding.temperature == 1.0 or bool(hotter))
        self._asks = log_prob_fields(decoding.temperature, bool(hotter)) if told else {}

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"server": self._keys.url, "model": self._keys.model, "revision": self._keys.revision}

    @property
    def said(self) -> list[Any]:
        """What its answers depend on besides its identity."""
        return self._keys.said()

    @property
    def decoding(self) -> Mapping[str, Any]:
        said = self._keys.said()
        body = {"body": said[0]} if said else {}
        listed = {"hotter": list(self._hotter)} if self._hotter else {}
        drawn = {name: self._asks[name] for name in DRAWN_BY if name in self._asks}
        return self._decoding.identity(self._seed) | body | drawn | listed

    @property
    def marks(self) -> Thoughts:
        """Of thoughts within the text."""
        return of_text(self._decoding.thoughts)

    def expected(self, suite: Suite) -> list[tuple[Prompt, int]]:
        return every_sample(suite, self._decoding.samples)

    def respond(self, suite: Suite, missing: Sequence[tuple[Prompt, int]], keep: Keep) -> None:
        def ask(pair: tuple[Prompt, int]) -> None:
            keep([self._outcome(*pair)])

        for _ in self._server.map(ask, missing):
            pass

    @property
    def notes(self) -> list[str]:
        """What a reader should know of the server; [] of one that was not asked."""
        return self._server.notes

    @cached_property
    def _server(self) -> ChatServer:
        """One client for all suites, so that the budget is one."""
        return ChatServer(self._keys, meter=self.meter, spared=spared_fields(self._asks, bool(self._hotter)))

    @cached_property
    def texts(self) -> GivenTexts | Unscored:
        """How likely it is to write plain texts, or in one line why it does not say; a small request finds out."""
        return given_texts(self._keys, chat=False, meter=self.meter)

    @cached_property
    def conversations(self) -> GivenTexts | Unscored:
        """The same of responses in its chat template."""
        return given_texts(self._keys, chat=True, meter=self.meter)

    def _outcome(self, prompt: Prompt, sample: int) -> Outcome:
        limit, temperature = self._decoding.max_new_tokens, self._decoding.temperature
        drawn = {"seed": self._request_seed(prompt, sample)} if temperature else {}
        completion = self._server.complete(
            messages_as_json(prompt.messages),
            max_tokens=limit,
            temperature=temperature,
            **drawn,
            **self._asks,
        )
        asked = not isinstance(completion, Unscored)
        read = read_answer(completion, limit, self.marks) if asked else completion
        if isinstance(read, Unscored):
            return Outcome(prompt.id, sample, None, False, read.reason)
        told = None if read.unanswered else read.text
        said = told, read.finished, read.unanswered, read.refused, read.thought, read.thought_tokens
        # Of an answer after a thought it is over all thoughts, which nobody tells.
        is_all = not (read.thought or read.unanswered or read.refused or read.thought_tokens)
        listed = token_log_probs_of(completion.choices[0]) if self._asks and is_all else None
        if listed is None:
            return Outcome(prompt.id, sample, *said)
        if self._hotter and read.finished and not listed.ended:
            return Outcome(prompt.id, sample, *said)  # among several temperatures the end would weigh too
        return Outcome(prompt.id, sample, *said, log_prob=listed.total, hotter=at_each(listed, self._hotter))

    def _request_seed(self, prompt: Prompt, sample: int) -> int:
        """31 bits, as servers take them, so that samples differ and a second run draws the same."""
        name = f"{self._seed}\0{prompt.id}\0{sample}".encode()
        return int.from_bytes(hashlib.sha256(name).digest()[:4]) >> 1


# A server has settings of its own, llama.cpp's the 40 likeliest tokens of .95 together: what is drawn then is less than
# the model, and its log-probability is not that of a draw. So they are said: all tokens, or so many of them.
DRAWN_BY = ("top_p", "min_p", "top_k")
ALL_TOKENS = (
    1_000_000  # more than any vocabulary has; 0 and -1 say so to some servers each, and are refused by others
)


def log_prob_fields(temperature: float, hotter: bool) -> dict[str, Any]:
    """What a request says so that its log-probabilities are those of what is drawn; with `hotter`, at others too.

    Some servers, llama-cpp-python's for one, list nothing where `top_logprobs` is not said.
    """
    listed = {"logprobs": True, "top_logprobs": AMONG if hotter else 1}
    return {**listed, "top_p": 1.0, "min_p": 0.0, "top_k": ALL_TOKENS if temperature == 1.0 else AMONG}


def spared_fields(asks: Mapping[str, Any], hotter: bool) -> tuple[str, ...]:
    """Those that may be left out where the server refuses them: without the rest a sample could not be weighed."""
    needed = ("logprobs", "top_logprobs") if hotter else ()
    fewest = ("top_k",) if asks.get("top_k") == AMONG else ()
    return tuple(name for name in asks if name in SPARED and name not in (*needed, *fewest))


def at_each(listed: TokenLogProbs, temperatures: Sequence[float]) -> dict[str, float | None] | None:
    """log P at each temperature, None for -inf; no entry where too little is listed. None without temperatures."""
    found = {f"{one:g}": listed.at(one) for one in temperatures}
    told = {name: value for name, value in found.items() if not math.isnan(value)}
    return {name: None if math.isinf(value) else value for name, value in told.items()} or None


@dataclass(frozen=True)
class ServerAnswer:
    """`finished`: it ended by itself. `refused`: the API itself says that the model refused, in these words or none.

    `thought`, `unanswered` and `thought_tokens` are as of `evals.models.thoughts.Parted`.
    """

    text: str
    finished: bool
    refused: bool = False
    thought: str = ""
    unanswered: str = ""
    thought_tokens: int = 0


def read_answer(completion: Any, limit: int, thoughts: Thoughts | None = None) -> ServerAnswer | Unscored:
    """What a chat completion that may write `limit` tokens says; its thought is a field of its own, or marked."""
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
    usage = getattr(completion, "usage", None)
    written = getattr(usage, "completion_tokens", None)
    if reason == "length" and isinstance(written, int) and written < limit:
        return Unscored(f"the server cut the response after {written} of {limit} tokens")
    read = _parted(choice, text or "", reason, thoughts or of_text())
    if not read.thought and not read.unanswered and not read.answer.strip():
        return Unscored("the server's answer has no text")
    thought = clean(read.thought), read.unanswered, reasoning_tokens(usage)
    return ServerAnswer(clean(read.answer), reason != "length", False, *thought)


def _parted(choice: Any, text: str, reason: Any, thoughts: Thoughts) -> Parted:
    apart = reasoning_of(choice)
    if not apart:
        return thoughts.part(text)
    if reason == "length" and not text.strip():
        return Parted("", apart.strip(), UNENDED)
    again = replace(thoughts, stray=False).part(text)  # some servers leave the thought in the text too
    told = list(dict.fromkeys(thought for thought in (apart.strip(), again.thought) if thought))
    read = parted("\n\n".join(told), again.answer)
    return replace(read, unanswered=again.unanswered or read.unanswered)
