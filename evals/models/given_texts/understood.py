"""How likely a server is to write a given text: whichever dialect of this folder the server understands asks it.

A small request finds out, before thousands are sent, and checks: what the server writes by itself must be as likely
when it is given as when it was written. Servers ignore fields that they do not know, and some list log-probabilities
that belong to the token before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from evals.models.answer import field_of, log_prob_of, text_of
from evals.models.chat_server import ChatServer
from evals.models.given_texts import GivenTextDialect, dialects
from evals.models.server import ServerSettings
from evals.models.spending import Meter
from evals.models.token_log_probs import TokenLogProbs, is_log_prob
from evals.values.conversation import Message, Prompt, Response, messages_as_json
from evals.values.grades import Unscored

TRIED_ON = "The days of the week are Monday, Tuesday, Wednesday,"
AS_TURN = (Message("user", "Name the days of the week."),)
FEW_TOKENS = 3
# Nats a token between what a server says of its own words when it writes and when it is given them.
CLOSE = 0.1


class GivenTexts:
    """A server that tells how likely given texts are, by the dialect that was found."""

    def __init__(self, server: ChatServer, dialect: type[GivenTextDialect]) -> None:
        self.server, self._dialect = server, dialect(server)

    @property
    def name(self) -> str:
        return self._dialect.name

    def of_texts(self, pairs: Iterable[tuple[str, str]]) -> Iterator[TokenLogProbs | Unscored]:
        """Of each text after its context, with its likeliest rival at each place, in order."""
        return self.server.map(lambda pair: self._dialect.of_text(*pair, 1), pairs)

    def of_responses(
        self, responses: Iterable[Response], listed: int = 1
    ) -> Iterator[TokenLogProbs | Unscored]:
        """Of each response, in order."""
        return self.server.map(lambda response: self.of_response(response, listed), responses)

    def of_response(self, response: Response, listed: int = 1) -> TokenLogProbs | Unscored:
        """One after a thought is Unscored: its likelihood is over all thoughts."""
        if response.thought:
            return Unscored("an answer after a thought is as likely as all thoughts make it")
        return self._dialect.of_response(response, listed)


@dataclass(frozen=True)
class NotUnderstood(Unscored):
    """The server answers, and understands no dialect."""


def given_texts(
    settings: ServerSettings,
    chat: bool,
    meter: Meter | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> GivenTexts | Unscored:
    """Of conversations (`chat`) or of plain texts; NotUnderstood, in one line, where the server tells none.

    A server that gives no answer at all is Unscored, and says why not.
    """
    meter = meter or Meter(settings)
    trying = ChatServer(replace(settings, attempts=1), sleep, meter, spared=("logprobs", "top_logprobs"))
    try_one = _try_chat if chat else _try_text
    written = try_one.written(trying)
    if isinstance(written, Unscored):
        return written
    said: list[str] = []
    for dialect in dialects():
        reason = try_one.problem(dialect(trying), written)
        if not reason:
            return GivenTexts(ChatServer(settings, sleep, meter), dialect)
        said.append(f"{dialect.name}: {reason}")
    what = "responses in its chat template" if chat else "given texts"
    return NotUnderstood(f"the server tells no log-probabilities of {what} ({'; '.join(said)})")


@dataclass(frozen=True)
class _Tried:
    """What is asked of a server to find out; its own words are the text that is given."""

    write: Callable[[ChatServer], Any]
    read: Callable[[Any], tuple[str, float | None]]
    ask: Callable[[GivenTextDialect, str], TokenLogProbs | Unscored]

    def written(self, server: ChatServer) -> tuple[str, float | None] | Unscored:
        """A few greedy tokens of its own and their log-probability, None where it does not tell that."""
        completion = self.write(server)
        if isinstance(completion, Unscored):
            return completion
        try:
            return self.read(completion.choices[0])
        except (AttributeError, LookupError, TypeError):
            return Unscored("the server's answer is malformed")

    def problem(self, dialect: GivenTextDialect, written: tuple[str, float | None]) -> str:
        """Why the dialect is not the server's; "" where it is."""
        text, told = written
        found = self.ask(dialect, text or " Thursday")
        if isinstance(found, Unscored):
            return found.reason
        if text and told is not None and abs(found.total - told) > CLOSE * max(1, len(found.values)):
            return f"its own words have {found.total:.2f} nats when given, {told:.2f} when written"
        return ""


def _own_text(choice: Any) -> tuple[str, float | None]:
    """Of the completions endpoint, whose log-probabilities some servers list as chat completions do."""
    text, told = str(choice.text or ""), getattr(choice, "logprobs", None)
    values = field_of(told, "token_logprobs") or [
        field_of(one, "logprob") for one in field_of(told, "content") or []
    ]
    known = bool(values) and all(map(is_log_prob, values)) and choice.finish_reason == "length"
    return (text, sum(values)) if known else (text, None)


def _own_response(choice: Any) -> tuple[str, float | None]:
    text = text_of(choice) or ""
    return text, log_prob_of(choice) if choice.finish_reason == "length" else None


_try_text = _Tried(
    lambda server: server.complete_text(TRIED_ON, max_tokens=FEW_TOKENS, temperature=0, logprobs=1),
    _own_text,
    lambda dialect, text: dialect.of_text(TRIED_ON, text, 1),
)
_try_chat = _Tried(
    lambda server: server.complete(
        messages_as_json(AS_TURN), max_tokens=FEW_TOKENS, temperature=0, logprobs=True, top_logprobs=1
    ),
    _own_response,
    lambda dialect, text: dialect.of_response(Response(Prompt("tried", AS_TURN), text, finished=False), 1),
)
