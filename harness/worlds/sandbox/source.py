"""Draws the requests of one split of the topics, alone and in the mixes that the data sets have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from evals.rules.rulebook import Rulebook
from evals.values.conversation import LabelledResponse, Prompt, Response, ResponseType
from harness.worlds.sandbox.areas import AREA_BY_NAME
from harness.worlds.sandbox.oracle import Oracle
from harness.worlds.sandbox.request import Ask, Request, asks_of, make_request, wordings
from harness.worlds.sandbox.world import Topic, World
from harness.worlds.sandbox.writer import Writer

Filter = Callable[[Request], bool]


@dataclass
class RequestSource:
    """Draws requests from one split, and writes what each stage needs about them.

    `taken`: texts that another part of the data asks, and that are not drawn; `for_evaluation` leaves each question
    about a topic wordings that it does not ask.
    """

    world: World
    rulebook: Rulebook
    rng: np.random.Generator
    topics: Sequence[Topic]
    wording: str
    taken: Collection[str] = frozenset()

    def __post_init__(self) -> None:
        self.oracle = Oracle(self.world)
        self.writer = Writer(self.world, self.rng)
        every = [(t, ask) for t in self.topics for ask in asks_of(AREA_BY_NAME[t.area])]
        self._kinds = [(t, ask, Request(t, ask, "")) for t, ask in every]

    def requests(self, count: int, keep: Filter) -> list[Request]:
        """`count` requests whose kind passes `keep`, topics and asks drawn evenly."""
        kinds = [(t, ask) for t, ask, kind in self._kinds if keep(kind)]
        return [self._request(*kinds[int(i)], self.taken) for i in self.rng.integers(len(kinds), size=count)]

    def _request(self, topic: Topic, ask: Ask, taken: Collection[str]) -> Request:
        """In words that are not taken: drawn again where they are, so that topics and asks stay even."""
        while (request := make_request(topic, ask, self.wording, self.rng)).text in taken:
            pass
        return request

    def for_evaluation(self, count: int, keep: Filter) -> list[Request]:
        """`count` requests without a repeated text, of as many topics as there are: in turns, each question about a
        topic is asked once more, in at most half its wordings. Others ask the rest; fewer when all are asked.
        """
        kinds = [(t, ask) for t, ask, kind in self._kinds if keep(kind)]
        found: dict[str, Request] = {}
        for turn in range(max(wordings(ask, self.wording) for _, ask in kinds) // 2):
            for topic, ask in (kinds[int(i)] for i in self.rng.permutation(len(kinds))):
                if len(found) == count:
                    return list(found.values())
                if turn < wordings(ask, self.wording) // 2:
                    request = self._request(topic, ask, found)
                    found[request.text] = request
        return list(found.values())

    def unique(self, count: int, keep: Filter) -> list[Request]:
        """As `requests`, without a repeated text: of enough draws that `count` should differ, the first that do."""
        return list({request.text: request for request in self.requests(count * 6, keep)}.values())[:count]

    def labelled(self, prompt: Prompt, text: str) -> LabelledResponse:
        truth = self.oracle.truth(prompt, text)
        name = self.rulebook.class_of(prompt.response_type, truth) if prompt.response_type else None
        return LabelledResponse(Response(prompt, text), truth, name)


def is_safety(request: Request) -> bool:
    return request.area.is_safety


def is_plain(request: Request) -> bool:
    """Off the safety areas, or plainly fine."""
    return not request.is_harmful and not request.is_borderline


def thin_on_safety(source: RequestSource, total: int, borderline: float, harmful: float) -> list[Request]:
    """`total` requests, most of them plain; `borderline` and `harmful` are shares."""
    n_borderline = round(total * borderline)
    n_harmful = min(round(total * harmful), total - n_borderline)
    return (
        source.requests(total - n_borderline - n_harmful, is_plain)
        + source.requests(n_borderline, lambda r: r.is_borderline)
        + source.requests(n_harmful, lambda r: r.is_harmful)
    )


def safety_mix(source: RequestSource, count: int) -> list[Request]:
    """Half harmful, a third borderline, the rest plainly fine; in random order."""
    harmful, borderline = count // 2, count // 3
    parts = (
        source.requests(harmful, lambda r: r.is_harmful)
        + source.requests(borderline, lambda r: r.is_borderline)
        + source.requests(count - harmful - borderline, lambda r: is_safety(r) and is_plain(r))
    )
    return shuffled(parts, source.rng)


def unique_safety(source: RequestSource, count: int) -> list[Request]:
    """The paper's mix of response types: about as many to refuse as to answer."""
    soft = count // 5
    hard = (count - soft) // 2
    parts = (
        source.unique(hard, lambda r: r.response_type is ResponseType.HARD_REFUSE)
        + source.unique(soft, lambda r: r.is_harmful and r.area.soft)
        + source.unique(count - hard - soft, lambda r: r.response_type is ResponseType.COMPLY)
    )
    return shuffled(parts, source.rng)


def shuffled(items: list, rng: np.random.Generator) -> list:
    return [items[i] for i in rng.permutation(len(items))]
