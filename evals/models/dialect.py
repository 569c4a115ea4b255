"""What one server takes of its API, found out from what it refuses, so that thousands of requests are not refused too.

Models that reason take `max_completion_tokens` in place of `max_tokens`, and no temperature but their own; others know
no `seed`. What was refused is renamed or left out, told once, and the request is sent again. What an answer could not
be read without, such as a grader's log-probabilities, stays as it is asked.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import openai

from evals.models.apis import LIMIT

MAY_GO = {
    "temperature": "takes no temperature, so that the model's own counts: answers are not greedy",
    "seed": "takes no seed, so that answers are drawn anew each time",
}
SPARED = {  # by who says so alone
    "logprobs": "gives no log-probabilities",
    "top_logprobs": "lists no likeliest tokens",
    "top_p": "takes no top_p, so that it draws among the tokens that it chooses itself",
    "top_k": "knows no top_k",
    "min_p": "knows no min_p",
}
REFUSING = (400, 422)
BY_A_FAULT = (500, 501)  # of a server that says so when it is at work
IS_UNKNOWN = re.compile(
    r"unsupported|not support|unknown|unrecogni[sz]ed|unexpected|not permitted|not allowed|extra_forbidden|deprecated|"
    r"may only be set",
    re.IGNORECASE,
)
# Of a value that a field may not have, which is known by its name near these words.
IS_NO_VALUE = (
    r"(?:must|should|has to|can only) be|\bonly\b.{0,40}\b(?:allowed|accepted|valid)|\binvalid\b|out of range|"
    r"cannot be|can't be|is fixed|not available"
)
NEAR = 120  # characters
NO_SYSTEM = re.compile(
    r"system role|\brole.{0,80}\bsystem\b|\bsystem (?:message|prompt|turn|instruction)s?\b.{0,40}\b(?:not|n't)\b|"
    r"developer instruction is not enabled",
    re.IGNORECASE | re.DOTALL,
)
Turns = Sequence[Mapping[str, str]]


class Dialect:
    """Of one endpoint, shared by the threads that ask it; `notes` say in what it differs from chat completions.

    `limits` are names of the limit of tokens, in the order in which they are tried; `takes` are the options that it
    has a field for, None: all; `spared` are options that answers can be read without.
    """

    def __init__(
        self, limits: Sequence[str], takes: Collection[str] | None = None, spared: Collection[str] = ()
    ) -> None:
        self._limits, self._names, self._takes = (LIMIT, *limits), list(limits), takes
        self._may_go = MAY_GO | {name: SPARED[name] for name in spared}
        self._left_out: dict[str, str] = {}
        self._renamed, self._no_system = "", False
        self._lock = threading.Lock()
        self._first, self._found_out = threading.Lock(), threading.Event()

    @property
    def notes(self) -> list[str]:
        with self._lock:
            learnt = [f"calls the limit of tokens {self._renamed}"] if self._renamed else []
            if self._no_system:
                learnt.append("takes no system turn, so that its text stands at the head of the user's first")
            return [*learnt, *self._left_out.values()]

    def turns(self, messages: Turns) -> Turns:
        """The turns as the server takes them, as far as that is known."""
        if not (self._no_system and has_system(messages)):
            return messages
        head, first = messages[0]["content"], messages[1]["content"]
        return [{"role": "user", "content": f"{head}\n\n{first}"}, *messages[2:]]

    def lacks(self, options: Mapping[str, Any]) -> str:
        """An option that the endpoint has no field for, and that may not go; "" where there is none."""
        return next((name for name in self._unknown(options) if name not in self._may_go), "")

    def _unknown(self, options: Mapping[str, Any]) -> list[str]:
        known = options if self._takes is None else {LIMIT, *self._takes}
        return [name for name in options if name not in known]

    def spoken(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options as the server takes them, as far as that is known."""
        with self._lock:
            self._left_out |= {name: self._may_go[name] for name in self._unknown(options)}
            names, gone = {LIMIT: self._names[0]}, set(self._left_out)
            if "logprobs" in gone:
                gone.add("top_logprobs")  # which is refused alone
            return {names.get(name, name): v for name, v in options.items() if name not in gone}

    def learn(self, error: Exception, sent: Mapping[str, Any], turns: Turns = ()) -> bool:
        """Whether what was `sent`, as spoken, with the `turns` should be sent again, in what is known now."""
        if not isinstance(error, openai.APIStatusError) or error.status_code not in REFUSING + BY_A_FAULT:
            return False
        names = _refused(error, sent, self._limits, self._may_go)
        name = names[0] if names else ""
        with self._lock:
            if not name and has_system(turns) and NO_SYSTEM.search(_said(error)):
                self._no_system = True
                return True
            if name in self._may_go:
                for one in names:
                    self._left_out.setdefault(one, self._may_go[one])
                return True
            if name == self._names[0] and len(self._names) > 1:
                del self._names[0]
                self._renamed = self._names[0]
                return True
            # Another thread has learnt it since this one was sent.
            return bool(name) and name not in self._names and name in self._limits

    @contextmanager
    def finding_out(self) -> Iterator[None]:
        """Around a request: the first goes alone, so that what it teaches is known before a thousand are sent."""
        if self._found_out.is_set():
            yield
            return
        with self._first:
            teaches = False
            try:
                yield
            except openai.APIStatusError as error:
                teaches = error.status_code in REFUSING
                raise
            finally:
                if not teaches:
                    self._found_out.set()


def _refused(
    error: openai.APIStatusError, sent: Mapping[str, Any], limits: Collection[str], may_go: Collection[str]
) -> list[str]:
    """The field that the server does not know or take; several where all may go; [] where it says of none.

    Its words are read, and not kept.
    """
    said = _said(error)
    if not IS_UNKNOWN.search(said):
        return [name for name in sent if name in may_go and _has_no_such_value(name, error)][:1]
    if isinstance(error.param, str) and error.param in sent:
        return [error.param]
    known = (*limits, *may_go)
    named = [name for name in sent if name in known and re.search(rf"\b{name}\b", said)]
    return named if len(named) == 1 or all(name in may_go for name in named) else []


def _has_no_such_value(name: str, error: openai.APIStatusError) -> bool:
    """Whether what is refused is the field's value, as servers do that draw always, or at one temperature alone."""
    if error.status_code not in REFUSING:
        return False
    near = rf"\b{name}\b.{{0,{NEAR}}}(?:{IS_NO_VALUE})|(?:{IS_NO_VALUE}).{{0,{NEAR}}}\b{name}\b"
    return error.param == name or bool(re.search(near, _said(error), re.IGNORECASE | re.DOTALL))


def _said(error: openai.APIStatusError) -> str:
    return f"{error.code} {error.type} {error.body}"


def has_system(turns: Turns) -> bool:
    """Whether a conversation begins with a system turn that a user's follows, into which it can go."""
    return [turn.get("role") for turn in turns[:2]] == ["system", "user"]
