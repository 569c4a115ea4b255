"""vLLM's `prompt_logprobs`: what each token of a prompt is worth, of texts and of conversations.

https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html, extra parameters: a field of completions (their
choices have the list) and of chat completions (the answer has it). The list has an entry a token, null for the first
and else `{token id: {logprob, rank, decoded_token}}` with the prompt's own token first, then as many of the likeliest
as were asked for. A response stands in the conversation as its last turn: closed (`add_generation_prompt: false`), or
open (`continue_final_message: true`) where it was cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.models.asked_once import AskedOnce
from evals.models.chat_server import ChatServer
from evals.models.token_log_probs import TokenLogProbs, in_order, is_log_prob
from evals.values.conversation import Message, Response, messages_as_json
from evals.values.grades import Unscored

ANOTHER_TEXT = Unscored("the server's chat template writes a response otherwise than the model does")
BROKEN = "\ufffd"  # what a piece of a character is shown as


class PromptLogprobs:
    """Of chat completions and of completions."""

    name = "prompt_logprobs"

    def __init__(self, server: ChatServer) -> None:
        self._server = server
        self._once: AskedOnce[ListedTokens] = AskedOnce()

    def of_text(self, context: str, text: str, listed: int) -> TokenLogProbs | Unscored:
        whole = self._text(context + text, listed)
        if isinstance(whole, Unscored):
            return whole
        start = start_of(whole.pieces, text)
        if start is None:
            before = self._once(context, lambda: self._text(context, 0))
            if isinstance(before, Unscored):
                return before
            start = len(before.pieces)
        return whole.part(start, len(whole.pieces))

    def of_response(self, response: Response, listed: int) -> TokenLogProbs | Unscored:
        messages = response.prompt.messages
        before = self._once(messages, lambda: self._chat(messages, 0, add_generation_prompt=True))
        if isinstance(before, Unscored):
            return before
        whole = self._turns(response, listed, finished=response.finished)
        if isinstance(whole, Unscored):
            return whole
        start = len(before.pieces)
        if whole.ids[:start] != before.ids:
            return ANOTHER_TEXT
        end = self._end(whole, start, response)
        if isinstance(end, Unscored):
            return end
        said = "".join(whole.pieces[start:end])
        if BROKEN not in said and said.strip() != response.text.strip():
            return ANOTHER_TEXT
        return whole.part(start, end + response.finished)  # and the token that ends the turn

    def _turns(self, response: Response, listed: int, finished: bool) -> ListedTokens | Unscored:
        """The conversation with the response as its last turn, closed where it is `finished`."""
        turns = (*response.prompt.messages, Message("assistant", response.text))
        form = {} if finished else {"continue_final_message": True}
        return self._chat(turns, listed, add_generation_prompt=False, **form)

    def _end(self, whole: ListedTokens, start: int, response: Response) -> int | Unscored:
        """Where the response's own tokens end; as many as of the same one cut where pieces do not tell."""
        if not response.finished:
            return len(whole.pieces)
        end = end_of(whole.pieces, start, response.text)
        if end is not None:
            return end
        cut = self._turns(response, 0, finished=False)
        return cut if isinstance(cut, Unscored) else len(cut.pieces)

    def _text(self, text: str, listed: int) -> ListedTokens | Unscored:
        options = {"prompt_logprobs": listed, "return_token_ids": True}
        answer = self._server.complete_text(text, max_tokens=1, temperature=0, **options)
        if isinstance(answer, Unscored):
            return answer
        choice = next(iter(getattr(answer, "choices", None) or []), None)
        return tokens_of(getattr(choice, "prompt_logprobs", None), getattr(choice, "prompt_token_ids", None))

    def _chat(self, messages: Sequence[Message], listed: int, **form: bool) -> ListedTokens | Unscored:
        options = {"prompt_logprobs": listed, "return_token_ids": True, **form}
        answer = self._server.complete(messages_as_json(messages), max_tokens=1, temperature=0, **options)
        if isinstance(answer, Unscored):
            return answer
        return tokens_of(getattr(answer, "prompt_logprobs", None), getattr(answer, "prompt_token_ids", None))


DIALECT = PromptLogprobs


@dataclass(frozen=True)
class ListedTokens:
    """The tokens of a prompt: ids as texts, pieces, and values, None for the first one."""

    ids: tuple[str, ...]
    pieces: tuple[str, ...]
    values: tuple[float | None, ...]
    likeliest: tuple[tuple[float, ...], ...]

    def part(self, start: int, end: int) -> TokenLogProbs | Unscored:
        """Those from `start` up to, not including, `end`."""
        values = self.values[start:end]
        if not 0 <= start < end <= len(self.values) or None in values:
            return Unscored("the server does not list every token of the text")
        return TokenLogProbs(tuple(v for v in values if v is not None), self.likeliest[start:end])


def tokens_of(listed: Any, given: Any = None) -> ListedTokens | Unscored:
    """What `prompt_logprobs` lists; `given` are the prompt's token ids, where the server tells them."""
    if not isinstance(listed, list) or len(listed) < 2:
        return Unscored("is not known to the server")
    told = [str(one) for one in given] if isinstance(given, list) and len(given) == len(listed) else None
    ids, pieces, values, likeliest = [], [], [], []
    own: Any
    for place, entry in enumerate(listed):
        if not isinstance(entry, Mapping) or not entry:
            if place:
                return Unscored("the server does not list every token of the text")
            entry, id, own = {}, told[0] if told else "", {}
        else:
            id = told[place] if told else next(iter(entry))
            own = entry.get(id)
        if not isinstance(own, Mapping) or (place and not is_log_prob(own.get("logprob"))):
            return Unscored("the server does not tell the log-probability of every token")
        ids.append(id)
        pieces.append(str(own.get("decoded_token") or ""))
        values.append(float(own["logprob"]) if place else None)
        others = (one.get("logprob") for one in entry.values() if isinstance(one, Mapping))
        likeliest.append(in_order(list(others)))
    return ListedTokens(tuple(ids), tuple(pieces), tuple(values), tuple(likeliest))


def start_of(pieces: Sequence[str], text: str) -> int | None:
    """Where the last pieces that make up `text` begin; None where none do."""
    said = ""
    for place in range(len(pieces) - 1, -1, -1):
        said = pieces[place] + said
        if said == text:
            return place
        if len(said) > len(text):
            return None
    return None


def end_of(pieces: Sequence[str], start: int, text: str) -> int | None:
    """Where the pieces from `start` on that make up `text` end; None where none do."""
    said = ""
    for place in range(start, len(pieces)):
        said += pieces[place]
        if said.strip() == text.strip():
            return place + 1
    return None
