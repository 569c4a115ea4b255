"""`echo` with `logprobs` of the completions endpoint: the prompt's tokens come back with what is written after them.

https://platform.openai.com/docs/api-reference/completions, as OpenAI's base models, vLLM, SGLang, Together, Fireworks
and llama-cpp-python answer it, and lm-eval asks it: `logprobs` has `tokens`, `token_logprobs` (null for the first) and
`top_logprobs`, of the prompt and of the one token that must be written. Of plain texts: it knows no chat template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evals.models.answer import field_of
from evals.models.asked_once import AskedOnce
from evals.models.chat_server import ChatServer
from evals.models.given_texts.prompt_logprobs import ListedTokens, start_of
from evals.models.token_log_probs import TokenLogProbs, in_order, is_log_prob
from evals.values.conversation import Response
from evals.values.grades import Unscored


class Echo:
    """Of completions."""

    name = "echo with logprobs"

    def __init__(self, server: ChatServer) -> None:
        self._server = server
        self._once: AskedOnce[int] = AskedOnce()

    def of_text(self, context: str, text: str, listed: int) -> TokenLogProbs | Unscored:
        whole = self._echoed(context + text, listed)
        if isinstance(whole, Unscored):
            return whole
        start: int | Unscored | None = start_of(whole.pieces, text)
        if start is None:
            start = self._once(context, lambda: self._length(context))
        return start if isinstance(start, Unscored) else whole.part(start, len(whole.pieces))

    def of_response(self, response: Response, listed: int) -> TokenLogProbs | Unscored:
        return Unscored("knows no chat template")

    def _length(self, context: str) -> int | Unscored:
        """Tokens of a context."""
        before = self._echoed(context, 1)
        return before if isinstance(before, Unscored) else len(before.pieces)

    def _echoed(self, text: str, listed: int) -> ListedTokens | Unscored:
        options = {"echo": True, "logprobs": max(1, listed), "temperature": 0}
        answer = self._server.complete_text(text, max_tokens=1, **options)
        if isinstance(answer, Unscored):
            return answer
        try:
            told, written = answer.choices[0].logprobs, _written(answer)
        except (AttributeError, LookupError, TypeError):
            return Unscored("the server's answer is malformed")
        columns = [
            _column(told, name)[: -written or None] for name in ("tokens", "token_logprobs", "top_logprobs")
        ]
        pieces, values, likeliest = columns
        if len(pieces) < 2 or len(pieces) != len(values) or not all(isinstance(p, str) for p in pieces):
            return Unscored("is not known to the server")
        if not all(map(is_log_prob, values[1:])):
            return Unscored("the server does not tell the log-probability of every token")
        rows = likeliest if len(likeliest) == len(pieces) else [{}] * len(pieces)
        tops = tuple(in_order(list(row.values()) if isinstance(row, Mapping) else []) for row in rows)
        known = (None, *map(float, values[1:]))
        return ListedTokens((), tuple(pieces), known, tops)


DIALECT = Echo


def _written(answer: Any) -> int:
    """Tokens after the prompt, by the server's count: none where it ended at once, and does not list the end."""
    count = field_of(getattr(answer, "usage", None), "completion_tokens")
    return count if isinstance(count, int) and 0 <= count <= 1 else 1


def _column(told: Any, name: str) -> Sequence[Any]:
    found = field_of(told, name)
    return found if isinstance(found, list) else []
