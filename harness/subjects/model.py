"""A model under test, wherever it lives: its name, what its responses depend on, and how it is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from evals.suites import Suite
from evals.values.conversation import Prompt
from harness.subjects.outcome import Outcome

Keep = Callable[[Sequence[Outcome]], None]


class Model(Protocol):
    """`identity`: what its responses depend on besides prompt and decoding; never its place or its key.

    `template`: in what form it sees a conversation. `decoding`: how it writes, or that nobody knows.
    """

    @property
    def name(self) -> str: ...
    @property
    def identity(self) -> Mapping[str, Any]: ...
    @property
    def template(self) -> str: ...
    @property
    def decoding(self) -> Mapping[str, Any]: ...

    def expected(self, suite: Suite) -> list[tuple[Prompt, int]]:
        """(prompt, number of the sample) of every response that the suite asks for."""
        ...

    def respond(self, suite: Suite, missing: Sequence[tuple[Prompt, int]], keep: Keep) -> None:
        """Ask for `missing`; each outcome, or finished batch of them, is stored before the next step."""
        ...


def every_sample(suite: Suite, samples: int) -> list[tuple[Prompt, int]]:
    return [(prompt, sample) for prompt in suite.prompts for sample in range(samples)]


def clean(text: str) -> str:
    """Half a surrogate pair, which some servers send, cannot be written to a file: U+FFFD stands for it."""
    return text.encode("utf-8", "replace").decode("utf-8")
