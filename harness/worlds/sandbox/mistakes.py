"""Mistakes of people who label for the rules: propositions of a response, and what a prompt asks for.

Every label is mistaken by itself and by a number of its own, drawn whatever the share is: what is wrong at a smaller
share is wrong at a larger one too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from evals.rules.rulebook import Rulebook
from evals.values.conversation import LabelledResponse, Prompt, ResponseType
from harness.worlds.sandbox.request import Ask, Request


def mislabelled(
    rows: Sequence[LabelledResponse], share: float, rulebook: Rulebook, rng: np.random.Generator
) -> list[LabelledResponse]:
    """A share of the propositions' labels turned round; completion classes follow from what is labelled."""
    found = []
    for row in rows:
        wrong = rng.random(len(row.propositions)) < share
        labels = {
            name: bool(v) != bool(w) for (name, v), w in zip(row.propositions.items(), wrong, strict=True)
        }
        kind = row.response.prompt.response_type
        name = rulebook.class_of(kind, labels) if kind else None
        found.append(replace(row, propositions=labels, completion_class=name) if wrong.any() else row)
    return found


def mistold(
    requests: Sequence[Request], prompts: Sequence[Prompt], share: float, rng: np.random.Generator
) -> list[Prompt]:
    """A share of the prompts with another response type than their request has: one it is easily taken for."""
    drawn = rng.random((len(prompts), 2))
    return [
        replace(prompt, response_type=_taken_for(request, second < 0.5)) if first < share else prompt
        for request, prompt, (first, second) in zip(requests, prompts, drawn, strict=True)
    ]


def _taken_for(request: Request, for_comply: bool) -> ResponseType:
    """What is to be refused for what is to be answered and the other way round, by the area's way to refuse.

    The two soft refusals are as easily taken for one another: `for_comply` decides.
    """
    kind = request.response_type
    if kind is ResponseType.COMPLY:
        if not request.area.soft:
            return ResponseType.HARD_REFUSE
        return _SOFT[request.ask is Ask.DISTRESS]
    if kind is ResponseType.HARD_REFUSE or for_comply:
        return ResponseType.COMPLY
    return _SOFT[kind is ResponseType.SAFE_REFUSE_2]


_SOFT = {True: ResponseType.SAFE_REFUSE_1, False: ResponseType.SAFE_REFUSE_2}  # is the person in distress?
