"""A server and how it is asked: one settings class for models, graders and judges. Loads no client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar
from urllib.parse import urlsplit

from evals.models.apis import APIS, ChatApi, find_api
from evals.values.errors import InputError
from evals.values.kinds import check_kind, code_of, is_outside
from evals.values.ranges import NOT_NEGATIVE, POSITIVE, SHARE, check_ranges, whole

WHICH = ("url", "model", "revision", "key_variable")  # what answers; the other keys say how it is asked
SAID = ("chat_template", "body")  # what each request has of one's own: answers depend on it where it is given


@dataclass
class ServerSettings:
    """A server, OpenAI-compatible as a rule. Its key is read from the environment, and written nowhere."""

    url: str | None = None  # its address, http://host:port/v1
    model: str | None = None  # the server's name of the model
    revision: str = ""  # names the weights, where the server's name of the model does not
    key_variable: str = "OPENAI_API_KEY"  # the environment variable that holds the key
    concurrency: int = 8  # requests at once
    timeout: float = 60.0  # seconds that a request may take, from its start to the answer's last byte
    attempts: int = 5  # tries of one request
    first_delay: float = 0.5  # seconds before the second try; doubled with each further one
    longest_delay: float = 30.0  # seconds between two tries at most
    max_requests: int = 0  # budget of requests, retries included; 0: no limit
    chat_template: dict[str, Any] = field(default_factory=dict)  # its keys: .enable_thinking=false
    body: dict[str, Any] = field(default_factory=dict)  # more of each request: .reasoning_effort=low
    headers: dict[str, str] = field(default_factory=dict)  # more headers, which records show: .X-Team=a
    header_variables: dict[str, str] = field(default_factory=dict)  # of secret ones: .api-key=VARIABLE
    api: str = "chat"  # how conversations are asked: chat (chat completions), responses, messages, or own
    limit: str = ""  # what it calls the limit of tokens, max_completion_tokens; empty: found out

    RENAMED: ClassVar[dict[str, str]] = {"base_url": "url"}
    PLACE: ClassVar[str] = "server"  # the group's key

    def __post_init__(self) -> None:
        ranges = {
            "concurrency attempts": whole(1),
            "timeout": POSITIVE,
            "first_delay longest_delay": NOT_NEGATIVE,
            "max_requests": whole(0),
        }
        check_ranges(self, self.PLACE, ranges)
        check_kind("API", self.api, APIS, f"{self.PLACE}.api")
        if self.url:
            check_address(self.url)

    def chat_api(self) -> ChatApi:
        """Raises InputError for an API of one's own that is not there."""
        return find_api(self.api, f"{self.PLACE}.api")

    def extra_body(self) -> dict[str, Any]:
        """What each request has beside the fields of the API; keys of a template as vLLM and llama.cpp take them."""
        template = {"chat_template_kwargs": dict(self.chat_template)} if self.chat_template else {}
        return {**template, **self.body}

    def said(self) -> list[Any]:
        """What answers depend on besides WHICH, for identities: [] where nothing is said, as before these keys."""
        extra = self.extra_body()
        if is_outside(self.api):
            self.chat_api()
            extra["api"] = f"{self.api} {code_of(self.api)}"
        return [extra] if extra else []

    def require(self, place: str = "server") -> None:
        """Raises InputError where the server, or its model, is not named; `place` is its group's key."""
        for key in ("url", "model"):
            if not getattr(self, key):
                raise InputError(
                    "is empty", field=f"{place}.{key}", fix="say which server and which model to ask"
                )


@dataclass
class Budgeted:
    """What one may spend on a server, beside its `max_requests`; a mixin of ServerSettings."""

    max_tokens: int = 0  # budget of tokens, asked and answered together, by the server's count; 0: none
    prompt_price: float = 0.0  # of a million tokens of requests; with it the cost is shown
    completion_price: float = 0.0  # of a million tokens of answers
    max_cost: float = 0.0  # budget in the currency of the prices; 0: none

    PLACE: ClassVar[str] = "server"

    def __post_init__(self) -> None:
        if isinstance(self, ServerSettings):
            super().__post_init__()  # type: ignore[misc]
        ranges = {"max_tokens": whole(0), "prompt_price completion_price max_cost": NOT_NEGATIVE}
        check_ranges(self, self.PLACE, ranges)
        if self.max_cost and not (self.prompt_price or self.completion_price):
            fix = f"give {self.PLACE}.prompt_price= and {self.PLACE}.completion_price="
            raise InputError("cannot be kept without prices", field=f"{self.PLACE}.max_cost", fix=fix)


LOGPROBS, TEXT, GIVEN = "logprobs", "text", "given"


@dataclass
class GraderServerSettings(Budgeted, ServerSettings):
    """Grades are read from log-probabilities; from the words of a server that gives none or thinks before it answers;
    or, of one that lists too few tokens but says how likely a given answer is, from how likely yes and no are.
    """

    top_logprobs: int = 20  # tokens that the server lists with their log-probabilities
    min_mass: float = 0.5  # of yes and no, or of all levels, together; an answer with less is unscored
    reads: str = LOGPROBS  # text: the last line of an answer that may reason; given: answers given to it
    samples: int = 1  # answers in text to each question, whose share of yes, or mean score, is the grade
    temperature: float = 1.0  # of several; one is greedy
    answer_tokens: int = 1024  # limit of an answer in text, its thought included

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges = {"top_logprobs": whole(1), "min_mass": SHARE, "samples answer_tokens": whole(1)}
        check_ranges(self, self.PLACE, {**ranges, "temperature": POSITIVE})
        if self.reads not in (LOGPROBS, TEXT, GIVEN):
            fix = f"use {LOGPROBS}, {TEXT} or {GIVEN}"
            raise InputError(f"is {self.reads!r}", field=f"{self.PLACE}.reads", fix=fix)
        if self.reads == LOGPROBS and LOGPROBS not in self.chat_api().takes:
            problem, fix = (
                f"cannot be: {self.api} gives no log-probabilities",
                f"say {self.PLACE}.reads={TEXT}",
            )
            raise InputError(problem, field=f"{self.PLACE}.reads", fix=fix)
        if self.samples > 1 and self.reads != TEXT:
            problem, fix = "does nothing: probabilities are read once", f"say {self.PLACE}.reads={TEXT}"
            raise InputError(problem, field=f"{self.PLACE}.samples", fix=fix)

    def in_words(self) -> list[Any]:
        """What grades in words, or by given ones, depend on; [] of the others, as before there were these."""
        drawn = self.temperature if self.samples > 1 else 0.0
        if self.reads == TEXT:
            return [TEXT, self.samples, drawn, self.answer_tokens]
        return [GIVEN] if self.reads == GIVEN else []

    def said(self) -> list[Any]:
        return [*super().said(), *self.in_words()]


@dataclass
class BudgetedServer(Budgeted, ServerSettings):
    """A server of `evaluate`: one of a model, or of a judge."""


@dataclass
class JudgeServer(BudgetedServer):
    """A judge's, which may be asked by batch."""

    batch: str | None = None  # a folder: ask by the batch endpoint, whose requests and answers it keeps
    samples: int = 1  # answers to each question, whose majority is the verdict
    temperature: float = 1.0  # of several; one is greedy

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, self.PLACE, {"samples": whole(1), "temperature": POSITIVE})
        if self.batch and not self.chat_api().batches:
            problem, fix = f"cannot be: {self.api} has no batch endpoint that is known", "leave it out"
            raise InputError(problem, field=f"{self.PLACE}.batch", fix=fix)
        if self.samples > 1 and self.batch:
            problem, fix = "is not asked by batch", f"leave out {self.PLACE}.batch, or the samples"
            raise InputError(problem, field=f"{self.PLACE}.samples", fix=fix)

    def said(self) -> list[Any]:
        """One greedy answer is as it was before there were several."""
        return [*super().said(), *([self.samples, self.temperature] if self.samples > 1 else [])]


def check_address(url: str) -> None:
    """Raises InputError for what can be no server's address, and for one that holds a password."""
    fix = "give http://host:port/v1 or https://..."
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half a bracket
        sound = False
    else:
        if parts.username is not None or parts.password is not None:
            problem = "has a name or a password in it, and addresses are written to records"
            raise InputError(problem, field="server.url", fix="name the key's variable: server.key_variable=")
    if not sound or not url.isprintable() or any(character.isspace() for character in url):
        raise InputError(f"{url!r} is no address of a server", field="server.url", fix=fix)


def moved_key(key: str) -> str | None:
    """What a key is called that stood beside a server's kind before the server was a group; None for others."""
    known = {field.name for field in fields(GraderServerSettings)}
    new = GraderServerSettings.RENAMED.get(key, key)
    return f"server.{new}" if new in known else None


def as_before(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A judge's settings as identities have them since before its server was a group; a budget is no part of them."""
    old = {new: name for name, new in ServerSettings.RENAMED.items()}
    paid = {"max_requests", *(field.name for field in fields(Budgeted))}
    kept = {key: value for key, value in settings.items() if key != "server"}
    server: Mapping[str, Any] = settings.get("server", {})
    return kept | {old.get(key, key): value for key, value in server.items() if key not in paid}
