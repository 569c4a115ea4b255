"""llama.cpp's own `/completion`, token by token: its server tells nothing of a prompt, and takes no `echo`.

https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md: `logit_bias` makes each token of the text the
next one, `n_probs` has the answer say how likely it was before any bias or sampler, and the prompt that is read already
stays in the slot's cache. So a text of n tokens takes n requests of one token each. `/tokenize` and `/apply-template`
give the tokens of a text and of a conversation as the server itself reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evals.models.asked_once import AskedOnce
from evals.models.chat_server import ChatServer
from evals.models.token_log_probs import TokenLogProbs, in_order, is_log_prob
from evals.values.conversation import Message, Response, messages_as_json
from evals.values.grades import Unscored

FORCED = 1e6  # added to the logit of the token that must come
SLOT = "\u2039response\u203a"  # a response whose place in the template is looked for
UNKNOWN = Unscored("is not known to the server")


class LlamaCompletion:
    """Of `/completion` beside the API, whose address ends in /v1."""

    name = "llama.cpp's /completion"

    def __init__(self, server: ChatServer) -> None:
        self._server = server
        self._once: AskedOnce[list[int]] = AskedOnce()

    def of_text(self, context: str, text: str, listed: int) -> TokenLogProbs | Unscored:
        before = self._once(context, lambda: self._tokens(context, special=True))
        if isinstance(before, Unscored):
            return before
        whole = self._tokens(context + text, special=True)
        if isinstance(whole, Unscored):
            return whole
        return self._each(whole[: len(before)], whole[len(before) :], listed)

    def of_response(self, response: Response, listed: int) -> TokenLogProbs | Unscored:
        messages = response.prompt.messages
        before = self._once(messages, lambda: self._conversation(messages))
        text = self._tokens(response.text)
        end = self._once(SLOT, self._end_of_turn) if response.finished else []
        for part in (before, text, end):
            if isinstance(part, Unscored):
                return part
        assert isinstance(before, list) and isinstance(text, list) and isinstance(end, list)
        return self._each(before, [*text, *end], listed)

    def _tokens(self, text: str, special: bool = False, marks: bool = False) -> list[int] | Unscored:
        """Token ids; with `marks`, those of the template are read as such, which a response may not write."""
        body = {"content": text, "add_special": special, "parse_special": marks}
        answer = self._server.ask("tokenize", body)
        if isinstance(answer, Unscored):
            return answer
        ids = answer.get("tokens")
        sound = isinstance(ids, list) and all(isinstance(i, int) and not isinstance(i, bool) for i in ids)
        return list(ids or ()) if sound else UNKNOWN

    def _conversation(self, messages: Sequence[Message]) -> list[int] | Unscored:
        written = self._template(messages)
        return written if isinstance(written, Unscored) else self._tokens(written, special=True, marks=True)

    def _template(self, messages: Sequence[Message]) -> str | Unscored:
        body = {"messages": messages_as_json(messages), **self._server.config.extra_body()}
        answer = self._server.ask("apply-template", body)
        if isinstance(answer, Unscored):
            return answer
        prompt = answer.get("prompt")
        return prompt if isinstance(prompt, str) else UNKNOWN

    def _end_of_turn(self) -> list[int] | Unscored:
        """The token that the template writes after a response."""
        turns = (Message("user", "."), Message("assistant", SLOT), Message("user", "."))
        written = self._template(turns)
        if isinstance(written, Unscored):
            return written
        after = written.partition(SLOT)[2].lstrip()
        ids = self._tokens(after, marks=True) if after else UNKNOWN
        return ids if isinstance(ids, Unscored) else ids[:1]

    def _each(self, before: list[int], text: list[int], listed: int) -> TokenLogProbs | Unscored:
        if not before or not text:
            return Unscored("a text without tokens, or after none, has no log-probability")
        values, likeliest = [], []
        for place, token in enumerate(text):
            found = self._next([*before, *text[:place]], token, listed)
            if isinstance(found, Unscored):
                return found
            values.append(found[0])
            likeliest.append(found[1])
        return TokenLogProbs(tuple(values), tuple(likeliest))

    def _next(self, before: list[int], token: int, listed: int) -> tuple[float, tuple[float, ...]] | Unscored:
        """log P of a token, and those of the likeliest ones there."""
        body = {"prompt": before, "n_predict": 1, "n_probs": max(1, listed), "temperature": 0}
        answer = self._server.ask(
            "completion", {**body, "logit_bias": [[token, FORCED]], "cache_prompt": True}
        )
        if isinstance(answer, Unscored):
            return answer
        rows = answer.get("completion_probabilities")
        first = rows[0] if isinstance(rows, list) and rows else None
        if (
            not isinstance(first, Mapping)
            or first.get("id") != token
            or not is_log_prob(first.get("logprob"))
        ):
            return UNKNOWN
        top = first.get("top_logprobs")
        others = (
            [one.get("logprob") for one in top if isinstance(one, Mapping)] if isinstance(top, list) else []
        )
        return float(first["logprob"]), in_order(others)


DIALECT = LlamaCompletion
