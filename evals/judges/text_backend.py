"""Where a judge that writes its verdict runs: a causal language model here, or an OpenAI-compatible server.

A response is untrusted text: it may hold special tokens, role markers or the very marks of the judge's own
format. `clean` breaks each of them by a space, so that the format around it cannot be changed from inside.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.graders.server import CHAT_MARKERS
from evals.judges.judgement import identity_of
from evals.models.answer import reasoning_of, refusal_of, text_of
from evals.models.chat import set_template_keys, without_system
from evals.models.chat_server import ChatServer
from evals.models.load import context_length, load_causal_lm, load_tokenizer, prompt_token_ids
from evals.models.sampling import generate, read_responses, stop_token_ids
from evals.models.server import ServerSettings
from evals.models.spending import Meter
from evals.models.thoughts import UNENDED, Parted, of_text
from evals.models.untrusted import control_tokens, marker_pattern, neutralise
from evals.values.conversation import Message
from evals.values.errors import InputError
from evals.values.grades import Unscored

# Fences are no role marks, and a judge reads code as it is.
TOP_LOGPROBS = 20
MARKERS = tuple(marker for marker in CHAT_MARKERS if marker != "```")


@dataclass(frozen=True)
class JudgeQuestion:
    """One question to a judge: turns for the model's own chat template, or else `text` in a format of its own, without
    BOS: tokenizers and completions endpoints write it, and a second one would be read."""

    messages: tuple[Message, ...] = ()
    text: str = ""

    def __repr__(self) -> str:
        """By the class's name of before, which the identities of judges, and so their kept judgements, have in them."""
        return f"Request(messages={self.messages!r}, text={self.text!r})"


def write_turns(question: str, conversation: Sequence[Message], response: str) -> JudgeQuestion:
    """The conversation's turns, with the response as the last, for a template that knows users and agents by turns: a
    system text stands at the head of the user's first."""
    return JudgeQuestion((*without_system(conversation), Message("assistant", response)))


class TextBackend(Protocol):
    """Greedy answers, in order; what could not be asked or answered is Unscored with its reason."""

    @property
    def identity(self) -> str: ...

    def cleaner(self, markers: Sequence[str]) -> Callable[[str], str]:
        """A function that breaks `markers` and the model's own control tokens in untrusted text."""
        ...

    def answers(self, requests: Sequence[JudgeQuestion], max_new_tokens: int) -> list[str | Unscored]: ...

    def next_words(
        self, requests: Sequence[JudgeQuestion], words: Sequence[str]
    ) -> list[list[float] | Unscored]:
        """The probability that each of `words`, a token each, comes next."""
        ...


class LocalBackend:
    """A causal language model in memory."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int = 8
    ) -> None:
        self.model, self.tokenizer, self.batch_size = model.eval(), tokenizer, batch_size

    @property
    def identity(self) -> str:
        digest = hashlib.sha256(repr(self.tokenizer.chat_template).encode())
        digest.update(repr(sorted(self.tokenizer.get_vocab().items())).encode())
        for key, value in sorted(self.model.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return f"local:{digest.hexdigest()[:16]}"

    def cleaner(self, markers: Sequence[str]) -> Callable[[str], str]:
        pattern = marker_pattern([*MARKERS, *control_tokens(self.tokenizer), *markers])
        return lambda text: neutralise(text, pattern)

    def answers(self, requests: Sequence[JudgeQuestion], max_new_tokens: int) -> list[str | Unscored]:
        rows = [self._token_ids(request) for request in requests]
        room = context_length(self.model) - max_new_tokens
        answers: list[str | Unscored] = [Unscored(_too_short(room + max_new_tokens)) for _ in rows]
        order = sorted((i for i, row in enumerate(rows) if len(row) <= room), key=lambda i: -len(rows[i]))
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            written = self._write([rows[i] for i in batch], max_new_tokens)
            for i, read in zip(batch, written, strict=True):
                answers[i] = _answer_of(read)
        return answers

    @torch.inference_mode()
    def next_words(
        self, requests: Sequence[JudgeQuestion], words: Sequence[str]
    ) -> list[list[float] | Unscored]:
        """One prompt at a time: nothing is padded. Raises InputError for a word that is no token of the model's."""
        ids = [self._word_id(word) for word in words]
        found: list[list[float] | Unscored] = []
        for row in map(self._token_ids, requests):
            if len(row) > context_length(self.model):
                found.append(Unscored(_too_short(context_length(self.model))))
                continue
            logits = self.model(torch.tensor([row], device=self.model.device)).logits[0, -1].float()
            found.append(logits.softmax(dim=-1)[ids].tolist())
        return found

    def _word_id(self, word: str) -> int:
        vocabulary = self.tokenizer.get_vocab()
        if word not in vocabulary:
            problem = f"the model has no token {word!r}, which this judge reads"
            raise InputError(problem, field="model", fix="name the judge's own model")
        return int(vocabulary[word])

    def without_room(self, requests: Sequence[JudgeQuestion], max_new_tokens: int) -> list[str]:
        """Why, of each question that the context has no room for."""
        context = context_length(self.model)
        rows = (self._token_ids(request) for request in requests)
        return [_too_short(context) for row in rows if len(row) > context - max_new_tokens]

    def _write(self, rows: Sequence[list[int]], max_new_tokens: int) -> list[Parted]:
        written = generate(
            self.model,
            rows,
            max_new_tokens=max_new_tokens,
            temperature=0.0,
            stop_ids=stop_token_ids(self.model, self.tokenizer),
            pad_id=int(self.tokenizer.pad_token_id),
        )
        return read_responses(self.tokenizer, written)

    def _token_ids(self, request: JudgeQuestion) -> list[int]:
        if request.messages:
            return prompt_token_ids(self.tokenizer, request.messages)
        return list(self.tokenizer(request.text, verbose=False)["input_ids"])


class ServerBackend:
    """An OpenAI-compatible server: chat completions for turns, completions for text."""

    def __init__(self, server: ChatServer) -> None:
        self.server = server

    @property
    def identity(self) -> str:
        config = self.server.config
        return identity_of("server", config.model, config.revision, *config.said())

    @property
    def notes(self) -> list[str]:
        """What a reader of the verdicts should know of the server."""
        return self.server.notes

    @property
    def meter(self) -> Meter:
        return self.server.meter

    def cleaner(self, markers: Sequence[str]) -> Callable[[str], str]:
        pattern = marker_pattern([*MARKERS, *markers])
        return lambda text: neutralise(text, pattern)

    @property
    def samples(self) -> int:
        """How many answers a verdict is made of."""
        return int(getattr(self.server.config, "samples", 1))

    def sampled(self, requests: Sequence[JudgeQuestion], max_new_tokens: int) -> list[list[str | Unscored]]:
        """`samples` answers to each, drawn at the server's temperature by seeds from 0."""
        drawn = {"max_tokens": max_new_tokens, "temperature": getattr(self.server.config, "temperature", 1.0)}
        seeds = range(self.samples)

        def ask(one: tuple[JudgeQuestion, int]) -> str | Unscored:
            return self._ask(one[0], {**drawn, "seed": one[1]})

        flat = list(self.server.map(ask, [(request, seed) for request in requests for seed in seeds]))
        return [flat[i : i + self.samples] for i in range(0, len(flat), self.samples)]

    def _ask(self, request: JudgeQuestion, options: Mapping[str, Any]) -> str | Unscored:
        if request.messages:
            turns = [{"role": m.role, "content": m.content} for m in request.messages]
            return _text(self.server.complete(turns, **options))
        return _text(self.server.complete_text(request.text, **options))

    def answers(self, requests: Sequence[JudgeQuestion], max_new_tokens: int) -> list[str | Unscored]:
        def ask(request: JudgeQuestion) -> str | Unscored:
            return self._ask(request, {"max_tokens": max_new_tokens, "temperature": 0})

        if self.at_once and len(requests) > 1 and all(request.messages for request in requests):
            options = {"max_tokens": max_new_tokens, "temperature": 0}
            first = ask(requests[0])  # at full price: it finds out what the server takes
            turns = [[{"role": m.role, "content": m.content} for m in r.messages] for r in requests[1:]]
            return [first, *map(_text, self.server.by_batch(Path(str(self.batch)), turns, options))]
        return list(self.server.map(ask, requests))

    def next_words(
        self, requests: Sequence[JudgeQuestion], words: Sequence[str]
    ) -> list[list[float] | Unscored]:
        """From the most likely next tokens; a word that is not among them has the probability 0."""

        def ask(request: JudgeQuestion) -> list[float] | Unscored:
            options = {"max_tokens": 1, "temperature": 0, "logprobs": TOP_LOGPROBS}
            return _shares(self.server.complete_text(request.text, **options), words)

        return list(self.server.map(ask, requests))

    @property
    def batch(self) -> str | None:
        return getattr(self.server.config, "batch", None)

    @property
    def at_once(self) -> bool:
        return bool(self.batch)


def _shares(completion: Any, words: Sequence[str]) -> list[float] | Unscored:
    """Of a completion's first token."""
    if isinstance(completion, Unscored):
        return completion
    try:
        top = completion.choices[0].logprobs.top_logprobs[0]
        exact = {str(token): math.exp(value) for token, value in dict(top).items()}
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError):
        return Unscored("the server gives no log-probabilities of completions")
    told = {token.strip(): share for token, share in exact.items()} | exact  # "1" is read before " 1"
    return [told.get(word, 0.0) for word in words]


def _too_short(context: int) -> str:
    return f"the judge's context of {context} tokens is too short"


def _answer_of(read: Parted) -> str | Unscored:
    """A judge that thinks is read by its answer."""
    return Unscored(f"the judge gave no answer: {read.unanswered}") if read.unanswered else read.answer


def _text(completion: Any) -> str | Unscored:
    """The answer's text. A filtered, refused or missing one is no verdict."""
    if isinstance(completion, Unscored):
        return completion
    try:
        choice = completion.choices[0]
        text = text_of(choice) if hasattr(choice, "message") else choice.text
        filtered = choice.finish_reason == "content_filter"
    except (AttributeError, LookupError, TypeError):
        return Unscored("the server's answer is malformed")
    if refusal_of(choice) is not None:
        return Unscored("the judge's model refused to answer")
    if filtered:
        return Unscored("the server's filter withheld the judge's answer")
    if not isinstance(text, str) or not text.strip():
        if reasoning_of(choice):
            return Unscored(f"the judge gave no answer: {UNENDED}")
        return Unscored("the judge's answer has no text") if not isinstance(text, str) else text
    return _answer_of(of_text().part(text))


def make_backend(
    model: str = "",
    server: ServerSettings | None = None,
    batch_size: int = 8,
    chat_template: Mapping[str, Any] | None = None,
) -> TextBackend:
    """The model of `server`, where it is given, else the folder or hub name `model`, with keys of its template.

    Raises InputError unless one of the two is named, and for a model that cannot be loaded.
    """
    if server is not None and chat_template:
        problem, fix = "is of a model in a folder", "say server.chat_template"
        raise InputError(problem, field="chat_template", fix=fix)
    if server is not None and model:
        raise InputError("two models are named", field="model", fix="leave out this one or server.url")
    if server is not None:
        return ServerBackend(ChatServer(server))
    if not model:
        fix = "give a folder or hub name, or server.url and server.model"
        raise InputError("the judge has no model", field="model", fix=fix)
    tokenizer = load_tokenizer(model, needs_padding=False)
    set_template_keys(tokenizer, chat_template or {}, "chat_template")
    return LocalBackend(load_causal_lm(model), tokenizer, batch_size)
