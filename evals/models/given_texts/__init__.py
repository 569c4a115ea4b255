"""Ways to ask a server how likely a given text is: one file a dialect, whose `DIALECT` is found here.

To add one: a module of this folder with a `GivenTextDialect` as DIALECT. `understood.py` finds out which of them a
server understands, by a small request.
"""

from __future__ import annotations

from typing import Protocol

from evals.models.chat_server import ChatServer
from evals.models.token_log_probs import TokenLogProbs
from evals.values.conversation import Response
from evals.values.grades import Unscored
from evals.values.kinds import find_kind, found_in

# The order in which they are tried, the cheapest first; every other file follows by its name.
FIRST = ("prompt_logprobs", "echo", "llama_completion")


class GivenTextDialect(Protocol):
    """One way to ask. `name` is what a server must understand, in words; a dialect may know texts alone."""

    name: str

    def __init__(self, server: ChatServer) -> None: ...

    def of_text(self, context: str, text: str, listed: int) -> TokenLogProbs | Unscored:
        """Of `text` after `context`, which is not empty; `listed` of the likeliest tokens at each place."""
        ...

    def of_response(self, response: Response, listed: int) -> TokenLogProbs | Unscored:
        """Of a response in the server's own chat template, and of the end of its turn where it finished."""
        ...


def dialects() -> tuple[type[GivenTextDialect], ...]:
    """Every dialect, in the order in which they are tried."""
    found = found_in(__name__, __path__, "DIALECT")
    names = (*FIRST, *(name for name in found if name not in FIRST))
    return tuple(find_kind("dialect", name, found, "server") for name in names)
