"""APIs of conversations that a server may speak: one file an API, whose `API` is found here by the file's name.

To add one: a module of this folder with a `ChatApi` as API; its name is a value of `server.api`. Loads no client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evals.models.apis.rate_limits import exhausted
from evals.values.errors import InputError
from evals.values.kinds import find_kind, found_in

LIMIT = "max_tokens"  # as callers of this project name the limit of an answer's tokens
Turns = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class ChatApi:
    """One API. Questions are asked of it, and answers read, in the words of chat completions.

    `question(messages, options)` gives the fields of a request, without the model; `completion(answer)` those of a
    chat completion, whose choices are [] where the answer has another shape.
    """

    path: str  # of its endpoint, below the server's address
    limits: tuple[str, ...]  # its names of the limit of tokens, in the order in which they are tried
    takes: frozenset[str]  # options that it has a field for, beside the limit
    question: Callable[[Turns, Mapping[str, Any]], dict[str, Any]]
    completion: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    key_header: str = ""  # the header that holds the key; "": Authorization, as a bearer's
    headers: Mapping[str, str] = field(default_factory=dict)  # further ones, which one's own replace
    batches: bool = True  # OpenAI's batch endpoint takes its requests
    # Seconds until what an answer's headers say is spent begins anew; 0 where nothing is.
    exhausted: Callable[[Mapping[str, str]], float] = exhausted


APIS: Mapping[str, str] = found_in(__name__, __path__, "API")


def find_api(kind: str, field: str = "server.api") -> ChatApi:
    """One of APIS, or MODULE:ATTRIBUTE. Raises InputError for what is none."""
    api = find_kind("API", kind, APIS, field)
    if not isinstance(api, ChatApi):
        raise InputError(f"{kind!r} is no ChatApi", field=field, fix="name a ChatApi of evals.models.apis")
    return api
