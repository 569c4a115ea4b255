"""Completions that a chat model writes for stage 6, in process or behind a server: asked for by class, graded, counted.

What does not come out as the class that was asked for is asked for again, up to a limit, and is then labelled by
what it is. Answers are kept beside the store, by model and request: none is asked for twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evals.graders import Grader, grade_in_batches
from evals.judges.string_match import is_refusal
from evals.models.spending import Meter
from evals.rules.wanted import Wanted, request_for, wanted_completions
from evals.suites import Suite
from evals.values.conversation import (
    LabelledResponse,
    Message,
    Prompt,
    Response,
    ResponseType,
    types_in_order,
)
from evals.values.grades import check_unscored
from harness.evaluate.respond import responses_of
from harness.keys.subject import DecodingKeys, LocalKeys
from harness.keys.writer import SERVER
from harness.pipeline.context import Context
from harness.pipeline.language_models import content_of
from harness.pipeline.spending import check_budget, meter_of
from harness.storage.digest import digest
from harness.storage.store import Artifact
from harness.subjects.local_model import LocalModel
from harness.subjects.model import Model
from harness.subjects.outcome import Outcome
from harness.subjects.server_model import ServerModel

WRITTEN = ".written"  # under the root of results: what models have written, whichever run asked
MOST_UNANSWERED = 0.5  # of the completions that were asked for
GOT, DECLINED, ANOTHER, UNGRADED, UNANSWERED = "got", "declined", "another_class", "ungraded", "no_answer"
ENDS = (GOT, DECLINED, ANOTHER, UNGRADED, UNANSWERED)
COLUMNS = ("response_type", "asked_for", "completions", *ENDS, "requests")


@dataclass
class Order:
    """One completion that is asked for; `end` and `labelled` as of the last try that gave something."""

    prompt: Prompt
    number: int
    wanted: Wanted
    request: str
    tries: int = 0
    end: str = UNANSWERED
    reason: str = ""
    labelled: LabelledResponse | None = None

    @property
    def kind(self) -> ResponseType:
        assert self.prompt.response_type is not None
        return self.prompt.response_type

    def failed(self, end: str, reason: str = "") -> None:
        """A try came to nothing; a completion of an earlier one stays."""
        if self.labelled is None:
            self.end, self.reason = end, reason

    def question(self) -> Prompt:
        """The next try as a prompt of its own; its id names the words, so that another request is another one."""
        name = f"{self.prompt.id}-{self.number}-{digest(self.request)}-{self.tries}"
        return Prompt(name, (Message("user", self.request),))


@dataclass(frozen=True)
class OneByOne(Suite):
    """A suite whose prompts are known by their ids: what was answered in one round is known in every other."""

    @property
    def version(self) -> str:
        return "by id"


def written_by_model(
    context: Context, base: Artifact, grader: Grader, prompts: Sequence[Prompt]
) -> tuple[list[LabelledResponse], list[dict[str, Any]]]:
    """Labelled completions, and the table's rows (COLUMNS) of what was asked for and got.

    Raises UndecidableError where more than MOST_UNANSWERED have no answer.
    """
    rulebook, keys = context.rulebook, context.config.writer
    orders = orders_for(context, prompts)
    meter = meter_of(context.config, keys.asked_server) if keys.kind == SERVER else None
    model = writing_model(context, base, meter)
    waiting = orders
    for _ in range(1 + keys.again):
        if not waiting:
            break
        suite = OneByOne("completions", tuple(order.question() for order in waiting), ())
        outcomes = responses_of(model, suite, context.store.root.parent / WRITTEN, context.console)
        context.spender.tell()
        if meter is not None:
            check_budget(meter)
        _take_in(rulebook, grader, waiting, outcomes)
        waiting = [order for order in waiting if order.end != GOT]
    unanswered = [order.reason for order in orders if order.end == UNANSWERED]
    what = "completions were asked of the writer and got no answer"
    check_unscored(len(unanswered), len(orders), MOST_UNANSWERED, what, unanswered)
    return _different(orders), counted_orders(orders)


def orders_for(context: Context, prompts: Sequence[Prompt]) -> list[Order]:
    """What is asked for, drawn by the seed and the prompt's place."""
    rulebook, keys = context.rulebook, context.config.writer
    orders = []
    for place, prompt in enumerate(prompts):
        assert prompt.response_type is not None
        rng = np.random.default_rng([context.config.seed, 11, place])
        wanted = wanted_completions(rulebook, prompt.response_type, keys.flawed, keys.traits, rng)
        orders += [Order(prompt, i, one, request_for(rulebook, prompt, one)) for i, one in enumerate(wanted)]
    return orders


def writing_model(context: Context, base: Artifact, meter: Meter | None) -> Model:
    """The writer of the keys: a server, a model of its own, or the run's."""
    config, keys = context.config, context.config.writer
    decoding = DecodingKeys(keys.max_new_tokens, keys.temperature, batch_size=keys.batch_size)
    if keys.kind == SERVER:
        return ServerModel("writer", keys.asked_server, decoding, config.seed, meter)
    precision = config.model.precision.value
    local = LocalKeys(keys.path or str(base.path), precision, dict(keys.chat_template))
    return LocalModel("writer", local, decoding, config.seed, None)


def identity_of_writer(context: Context) -> Mapping[str, Any]:
    """What the completions depend on besides the prompts; the run's own model is an input of the stage."""
    keys = context.config.writer
    named = {name: getattr(keys, name) for name in ("prompts", "temperature", "max_new_tokens")}
    if keys.kind is None:
        return named | {"written": keys.written, "samples": keys.samples}
    named |= {name: getattr(keys, name) for name in ("flawed", "traits", "again")}
    if keys.kind == SERVER:
        server = keys.asked_server
        return named | {"server": [server.model, server.revision, server.url, *server.said()]}
    precision = context.config.model.precision.value
    keys_of_template = {"chat_template": dict(keys.chat_template)} if keys.chat_template else {}
    return named | {"model": [content_of(keys.path), precision] if keys.path else None} | keys_of_template


def _take_in(rulebook: Any, grader: Grader, orders: Sequence[Order], outcomes: Sequence[Outcome]) -> None:
    """Grade what came, and say of each order how its try ended."""
    answered = []
    for order, outcome in zip(orders, outcomes, strict=True):
        order.tries += 1
        if outcome.text is None or not outcome.text.strip():
            order.failed(UNANSWERED, outcome.reason or "the answer has no text")
        else:
            text = outcome.text.strip()
            answered.append((order, outcome, Response(order.prompt, text, order.number, outcome.finished)))
    grades = grade_in_batches(
        grader, [response for _, _, response in answered], list(rulebook.propositions.values()), 64
    )
    for (order, outcome, response), row in zip(answered, grades.probability, strict=True):
        if np.isnan(row).any():
            order.failed(UNGRADED)
            continue
        labels = rulebook.labels_of(row)
        found = rulebook.class_of(order.kind, labels)
        order.labelled = LabelledResponse(response, labels, found)
        order.end = GOT if found == order.wanted.completion_class else ANOTHER
        if order.end == ANOTHER and _asks_no_refusal(rulebook, order):
            order.end = DECLINED if outcome.refused or is_refusal(response.text) else ANOTHER


def _asks_no_refusal(rulebook: Any, order: Order) -> bool:
    """Whether a refusal is none of what was asked for: an answer to be given, or what should be refused."""
    worst = list(rulebook.conditions_for(order.kind))[-1]
    return not order.kind.is_refusal or order.wanted.completion_class == worst


def _different(orders: Sequence[Order]) -> list[LabelledResponse]:
    """One of each text of a prompt, in the order of the orders."""
    found = {(o.prompt.id, o.labelled.response.text): o.labelled for o in reversed(orders) if o.labelled}
    return list(found.values())[::-1]


def counted_orders(orders: Sequence[Order]) -> list[dict[str, Any]]:
    """The table: by response type and class asked for, how the completions ended, and in how many requests."""
    ends = Counter((order.kind, order.wanted.completion_class, order.end) for order in orders)
    tries: Counter[tuple[ResponseType, str]] = Counter()
    for order in orders:
        tries[order.kind, order.wanted.completion_class] += order.tries
    rows = []
    types = types_in_order(kind for kind, _ in tries)
    for kind, name in sorted(tries, key=lambda key: (types.index(key[0]), key[1])):
        by_end = {end: ends[kind, name, end] for end in ENDS}
        head = {"response_type": kind.value, "asked_for": name, "completions": sum(by_end.values())}
        rows.append({**head, **by_end, "requests": tries[kind, name]})
    return rows


def said_of_row(row: Mapping[str, Any]) -> str:
    """A line of the table for the screen."""
    given_up = {end: int(row[end]) for end in ENDS if end != GOT and int(row[end])}
    why = ", ".join(f"{count} {end.replace('_', ' ')}" for end, count in given_up.items())
    up = f", {sum(given_up.values())} given up ({why})" if given_up else ""
    asked = f"written: {row['response_type']} {row['asked_for']}: {row['completions']} asked for"
    return f"{asked}, {row['got']} got{up}, {row['requests']} requests"
