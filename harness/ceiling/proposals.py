"""Who draws the samples of a set, and how likely each of them is to write any of the responses.

Models at hand say it of any text. A server lists the likeliest tokens at each place, so that its samples at a higher
temperature are drawn among those alone (`evals.models.token_log_probs`); of what another model wrote it tells where
`evals.models.given_text` finds a way. A small request finds out, before a response is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from evals.models.answer import token_log_probs_of
from evals.models.chat_server import ChatServer
from evals.models.given_text import AS_TURN, GivenTexts
from evals.models.server import ServerSettings
from evals.models.spending import Meter
from evals.models.token_log_probs import AMONG, TokenLogProbs
from evals.suites import Suite
from evals.values.conversation import Response, messages_as_json
from evals.values.errors import InputError, UndecidableError
from evals.values.grades import Unscored
from harness.keys.evaluate import SourceKeys
from harness.keys.samples import SamplesConfig, server_of
from harness.record.evaluation import Evaluation
from harness.record.finished_run import RunAddress, is_run, model_folder
from harness.runtime.console import Console
from harness.storage.digest import digest
from harness.subjects.local_model import LocalModel
from harness.subjects.make_model import make_model
from harness.subjects.model import Model
from harness.subjects.outcome import AppendLog, Outcome
from harness.subjects.server_model import ServerModel, at_each, log_prob_fields, spared_fields

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


@dataclass(frozen=True)
class ResponseLogProbs:
    """`values` [responses, proposals], the reference first, NaN where one is not known; `reasons` say why by row."""

    values: np.ndarray
    reasons: dict[int, str] = field(default_factory=dict)


# --- who draws ---------------------------------------------------------------------------------------


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
    if _told_as_drawn(asked):
        for one in asked[:2]:  # the reference and one that is hotter: the others differ from it in a number
            if reason := _told_of(one):
                _refuse(one, reason)
        return
    for one in {_key(one): one for one in reversed(servers)}.values():
        found = _scorer(one)
        if isinstance(found, Unscored):
            _refuse(one, found.reason)


def _refuse(one: Proposal, reason: str) -> None:
    assert one.server is not None
    problem = f"cannot be weighed: {one.server.model} at {one.server.url}: {reason}"
    raise InputError(
        problem, field=TEMPERATURES, fix="leave them out, or give a model at hand: subject.path="
    )


def _told_as_drawn(asked: Sequence[Proposal]) -> bool:
    """Whether all are one server's model: then each sample's listed tokens say how likely all of them are."""
    return len({_key(one) for one in asked}) == 1 and asked[0].server is not None


def _key(one: Proposal) -> str:
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


def _scorer(one: Proposal) -> GivenTexts | Unscored:
    assert isinstance(one.model, ServerModel)
    return one.model.conversations


# --- how likely ----------------------------------------------------------------------------------------


def response_log_probs_of(
    drawn: Sequence[FromProposal], responses: Sequence[Response], store: Path, console: Console
) -> ResponseLogProbs | None:
    """Of each response under each proposal; None where no model tells any. `store` keeps what servers were asked.

    Raises UndecidableError where a server draws other tokens than it was told to.
    """
    asked = [one.proposal for one in drawn]
    if all(one.server is not None for one in asked) and (len(asked) == 1 or _told_as_drawn(asked)):
        outcomes = [o for one in drawn for o in one.outcomes if o.text is not None]
        found = ResponseLogProbs(np.array([[_told(o, one) for one in asked] for o in outcomes]))
    elif all(one.server is not None or isinstance(one.model, LocalModel) for one in asked):
        found = _scored(asked, responses, store, console)
    else:
        return None
    _check_drawn(drawn, found.values)
    return found


def _told(outcome: Outcome, one: Proposal) -> float:
    """By what the server listed when it wrote the response."""
    if one.temperature == 1.0:
        return math.nan if outcome.log_prob is None else outcome.log_prob
    at = outcome.hotter or {}
    value = at.get(f"{one.temperature:g}", math.nan)
    return -math.inf if value is None else value


def _scored(
    asked: Sequence[Proposal], responses: Sequence[Response], store: Path, console: Console
) -> ResponseLogProbs:
    """By each model's reading of all responses; a model that is there at several temperatures reads them once."""
    by_model: dict[str, list[Proposal]] = {}
    for one in asked:
        by_model.setdefault(_key(one), []).append(one)
    columns: dict[int, list[float]] = {}
    reasons: dict[int, str] = {}
    total = len(by_model) * len(responses)
    with console.stage("log-probabilities", total=total, unit="responses") as advance:
        for of_model in by_model.values():
            at = tuple(one.temperature for one in of_model)
            read = _by_server if of_model[0].server is not None else _at_hand
            values, why = read(of_model[0], at, responses, store, advance)
            reasons = why | reasons
            columns |= {id(one): [row[place] for row in values] for place, one in enumerate(of_model)}
    return ResponseLogProbs(np.array([columns[id(one)] for one in asked]).T, reasons)


def _at_hand(
    one: Proposal, temperatures: Sequence[float], responses: Sequence[Response], store: Path, advance: Any
) -> tuple[list[list[float]], dict[int, str]]:
    from evals.models.likelihood import response_log_probs

    assert isinstance(one.model, LocalModel)
    model, tokenizer = one.model.loaded
    rows = response_log_probs(model, tokenizer, responses, temperatures, advance)
    one.model.unload()
    too_long = {i: "longer than a proposal's context" for i, row in enumerate(rows) if row[0] is None}
    return [[math.nan if value is None else value for value in row] for row in rows], too_long


def _by_server(
    one: Proposal, temperatures: Sequence[float], responses: Sequence[Response], store: Path, advance: Any
) -> tuple[list[list[float]], dict[int, str]]:
    """What is known already is not asked again."""
    assert one.server is not None
    names = [f"{temperature:g}" for temperature in temperatures]
    header = {"likelihoods": dict(one.model.identity), "said": one.server.said(), "at": names}
    ids = [
        digest({"prompt": messages_as_json(r.prompt.messages), "text": r.text, "ended": r.finished})
        for r in responses
    ]
    with AppendLog(store / digest(header) / "likelihoods.jsonl", header) as log:
        known = {row.get("response"): row.get("at") for row in log.rows}
        missing = {id: response for id, response in zip(ids, responses, strict=True) if id not in known}
        advance(len(responses) - len(missing))
        scorer = _scorer(one) if missing else None
        if isinstance(scorer, Unscored):
            raise UndecidableError(f"no response can be weighed: {scorer.reason}")
        listed = AMONG if any(value != 1.0 for value in temperatures) else 1
        why: dict[str, str] = {}
        told = scorer.of_responses(missing.values(), listed) if scorer is not None else iter(())
        for id, found in zip(missing, told, strict=True):
            advance(1)
            if isinstance(found, TokenLogProbs):
                known[id] = at_each(found, temperatures)
                log.append([{"response": id, "at": known[id]}])
            else:
                why[id] = found.reason
    rows = [_row(known.get(id), names) for id in ids]
    return rows, {i: f"no log-probability: {why[id]}" for i, id in enumerate(ids) if id in why}


def _id_of(response: Response) -> str:
    prompt = messages_as_json(response.prompt.messages)
    return digest({"prompt": prompt, "text": response.text, "finished": response.finished})


def _row(at: Any, names: Sequence[str]) -> list[float]:
    told = at if isinstance(at, dict) else {}
    values = [told.get(name, math.nan) for name in names]
    return [-math.inf if value is None else float(value) for value in values]


def _check_drawn(drawn: Sequence[FromProposal], values: np.ndarray) -> None:
    """A server that does not know `top_k` draws any token, and what it drew cannot be weighed."""
    row = 0
    for place, one in enumerate(drawn):
        count = sum(outcome.text is not None for outcome in one.outcomes)
        beyond = int(np.isneginf(values[row : row + count, place]).sum())
        if beyond:
            server = one.proposal.server.url if one.proposal.server is not None else one.proposal.label
            problem = f"{beyond} of {count} samples of {one.proposal.label} hold tokens beyond the {AMONG} likeliest"
            raise UndecidableError(
                f"{problem}: {server} draws others than it is told to (top_k), and they cannot be weighed"
            )
        row += count
