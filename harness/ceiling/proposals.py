"""Who draws the samples of a set, and whether they can be weighed.

A server lists the likeliest tokens at each place, so that its samples at a higher temperature are drawn among those
alone (`evals.models.token_log_probs`); of what another model wrote it tells where `evals.models.given_texts` has a way.
A small request finds out, before a response is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evals.models.answer import token_log_probs_of
from evals.models.chat_server import ChatServer
from evals.models.given_texts.understood import AS_TURN, GivenTexts
from evals.models.server import ServerSettings
from evals.models.spending import Meter
from evals.models.token_log_probs import AMONG
from evals.suites import Suite
from evals.values.conversation import messages_as_json
from evals.values.errors import InputError
from evals.values.grades import Unscored
from harness.keys.samples import SamplesConfig, server_of
from harness.keys.subject import SourceKeys
from harness.record.evaluation import Evaluation
from harness.record.finished_run import RunAddress, is_run, model_folder
from harness.storage.digest import digest
from harness.subjects.make_model import make_model
from harness.subjects.model import Model
from harness.subjects.outcome import Outcome
from harness.subjects.server_model import ServerModel, log_prob_fields, spared_fields

TEMPERATURES = "temperatures, others"  # the keys that name proposals


@dataclass(frozen=True)
class Proposal:
    """`label` is None for the reference itself. `server` is that of a model behind one."""

    label: str | None
    model: Model
    temperature: float
    server: ServerSettings | None = None


@dataclass(frozen=True)
class FromProposal:
    """What one proposal wrote."""

    proposal: Proposal
    outcomes: Sequence[Outcome]


def proposals(config: SamplesConfig, suite: Suite) -> list[Proposal]:
    """The reference, then the same model hotter, then others; one budget for each server."""
    meters: dict[str, Meter] = {}
    return [_proposal(config, suite, meters, *named) for named in _named(config, config.decoding.temperature)]


def _named(config: SamplesConfig, base: float) -> Iterator[tuple[str | None, str, SourceKeys, float]]:
    """Label, the model's name, source and temperature of each."""
    yield None, "reference", config.source, base
    for temperature in config.temperatures:
        yield f"temperature {temperature:g}", f"reference at {temperature:g}", config.source, temperature
    for place in config.others:
        yield (place, *_other(config, place), base)


def _other(config: SamplesConfig, place: str) -> tuple[str, SourceKeys]:
    """Name and source of another model."""
    if (server := server_of(place, config.server)) is not None:
        return str(server.model), SourceKeys(replace(config.subject, path=None), server)
    is_of_run = is_run(RunAddress.parse(place).folder)
    subject = replace(config.subject, path=None if is_of_run else place)
    return Path(place).name, SourceKeys(subject, run=place if is_of_run else None)


def _proposal(
    config: SamplesConfig,
    suite: Suite,
    meters: dict[str, Meter],
    label: str | None,
    name: str,
    source: SourceKeys,
    temperature: float,
) -> Proposal:
    decoding = replace(config.decoding, temperature=temperature)
    if source.server.url and not source.responses:
        meter = meters.setdefault(f"{source.server.model}@{source.server.url}", Meter(source.server))
        hotter = _not_of_one(config, label in config.others)
        model = ServerModel(name, source.server, decoding, config.seed, meter, log_probs=True, hotter=hotter)
        return Proposal(label, model, temperature, source.server)
    at_hand = make_model(name, _with_weights(source), decoding, config.seed, [suite], config.threads)
    return Proposal(label, at_hand, temperature)


def _not_of_one(config: SamplesConfig, is_other: bool) -> tuple[float, ...]:
    """Temperatures but 1 at which a server's samples are to be weighed: all of the reference's, or its own."""
    if not (config.temperatures or config.others):
        return ()
    asked = (config.decoding.temperature, *(() if is_other else config.temperatures))
    return tuple(value for value in dict.fromkeys(asked) if value != 1.0)


def _with_weights(source: SourceKeys) -> SourceKeys:
    if not source.run:
        return source
    folder = model_folder(RunAddress.parse(source.run), Evaluation(source.run).record["models"])
    return replace(source, subject=replace(source.subject, path=str(folder)), run=None)


# --- whether they can be weighed ---------------------------------------------------------------------


def check_proposals(asked: Sequence[Proposal]) -> None:
    """Raises InputError, in one line, where a server cannot say how likely the samples of several are."""
    servers = [one for one in asked if one.server is not None]
    if len(asked) < 2 or not servers:
        return
    if told_as_drawn(asked):
        for one in asked[:2]:  # the reference and one that is hotter: the others differ from it in a number
            if reason := _told_of(one):
                _refuse(one, reason)
        return
    for one in {key_of(one): one for one in reversed(servers)}.values():
        found = scorer_of(one)
        if isinstance(found, Unscored):
            _refuse(one, found.reason)


def _refuse(one: Proposal, reason: str) -> None:
    assert one.server is not None
    problem = f"cannot be weighed: {one.server.model} at {one.server.url}: {reason}"
    raise InputError(
        problem, field=TEMPERATURES, fix="leave them out, or give a model at hand: subject.path="
    )


def told_as_drawn(asked: Sequence[Proposal]) -> bool:
    """Whether all are one server's model: then each sample's listed tokens say how likely all of them are."""
    return len({key_of(one) for one in asked}) == 1 and asked[0].server is not None


def key_of(one: Proposal) -> str:
    return digest({"model": dict(one.model.identity), "place": one.server.url if one.server else ""})


def _told_of(one: Proposal) -> str:
    """Why a request of a few tokens does not tell how likely they are; "" where it does."""
    assert one.server is not None and isinstance(one.model, ServerModel)
    fields = log_prob_fields(one.temperature, True)
    spared = spared_fields(fields, True)
    server = ChatServer(replace(one.server, attempts=1), meter=one.model.meter, spared=spared)
    answer = server.complete(messages_as_json(AS_TURN), max_tokens=3, temperature=one.temperature, **fields)
    if isinstance(answer, Unscored):
        return answer.reason
    choice = next(iter(getattr(answer, "choices", None) or []), None)
    listed = token_log_probs_of(choice) if hasattr(choice, "message") else None
    if listed is None:
        return "it tells no log-probabilities of what it writes"
    if math.isnan(listed.at(one.temperature if one.temperature != 1.0 else 2.0)):
        return f"it lists fewer than {AMONG} tokens with their log-probabilities (top_logprobs)"
    return ""


def scorer_of(one: Proposal) -> GivenTexts | Unscored:
    assert isinstance(one.model, ServerModel)
    return one.model.conversations
