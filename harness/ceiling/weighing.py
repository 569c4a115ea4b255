"""How likely each proposal of a set is to write any of its responses.

Models at hand say it of any text, a server of what it wrote itself, or of any where it is asked; what servers were
asked is kept, so that a killed command goes on from there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from evals.models.token_log_probs import AMONG, TokenLogProbs
from evals.values.conversation import Response, messages_as_json
from evals.values.errors import UndecidableError
from evals.values.grades import Unscored
from harness.ceiling.proposals import FromProposal, Proposal, key_of, scorer_of, told_as_drawn
from harness.runtime.console import Console
from harness.storage.digest import digest
from harness.subjects.local_model import LocalModel
from harness.subjects.outcome import AppendLog, Outcome
from harness.subjects.server_model import at_each


@dataclass(frozen=True)
class ResponseLogProbs:
    """`values` [responses, proposals], the reference first, NaN where one is not known; `reasons` say why by row."""

    values: np.ndarray
    reasons: dict[int, str] = field(default_factory=dict)


def response_log_probs_of(
    drawn: Sequence[FromProposal], responses: Sequence[Response], store: Path, console: Console
) -> ResponseLogProbs | None:
    """Of each response under each proposal; None where no model tells any. `store` keeps what servers were asked.

    Raises UndecidableError where a server draws other tokens than it was told to, or lists no ends of responses.
    """
    asked = [one.proposal for one in drawn]
    if all(one.server is not None for one in asked) and (len(asked) == 1 or told_as_drawn(asked)):
        outcomes = [o for one in drawn for o in one.outcomes if o.text is not None]
        found = ResponseLogProbs(np.array([[_told(o, one) for one in asked] for o in outcomes]))
        if len(asked) > 1:
            _check_ends(outcomes, asked[0])
    elif all(one.server is not None or isinstance(one.model, LocalModel) for one in asked):
        found = _scored(asked, responses, store, console)
    else:
        return None
    _check_drawn(drawn, found.values)
    return found


def _check_ends(outcomes: Sequence[Outcome], one: Proposal) -> None:
    """llama-cpp-python does not list the token that ends a response: those that were cut alone would be weighed."""
    ended = [outcome for outcome in outcomes if outcome.finished and not (outcome.refused or outcome.thought)]
    if ended and all(outcome.log_prob is None for outcome in ended) and one.server is not None:
        problem = f"none of {len(ended)} samples that ended can be weighed"
        raise UndecidableError(f"{problem}: {one.server.url} does not list the token that ends a response")


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
        by_model.setdefault(key_of(one), []).append(one)
    columns: dict[int, list[float]] = {}
    reasons: dict[int, str] = {}
    total = len(by_model) * len(responses)
    with console.stage("log-probabilities", total=total, unit="responses") as advance:
        for of_model in by_model.values():
            at = tuple(one.temperature for one in of_model)
            read = _by_server if of_model[0].server is not None else _at_hand
            values, why = read(of_model[0], at, responses, store, advance)
            reasons = why | reasons
            for model in (one.model for one in of_model):
                if isinstance(model, LocalModel):
                    model.unload()
            columns |= {id(one): [row[place] for row in values] for place, one in enumerate(of_model)}
    return ResponseLogProbs(np.array([columns[id(one)] for one in asked]).T, reasons)


def _at_hand(
    one: Proposal, temperatures: Sequence[float], responses: Sequence[Response], store: Path, advance: Any
) -> tuple[list[list[float]], dict[int, str]]:
    from evals.models.likelihood import response_log_probs

    assert isinstance(one.model, LocalModel)
    model, tokenizer = one.model.loaded
    rows = response_log_probs(model, tokenizer, responses, temperatures, advance)
    too_long = {i: "longer than a proposal's context" for i, row in enumerate(rows) if row[0] is None}
    return [[math.nan if value is None else value for value in row] for row in rows], too_long


def _by_server(
    one: Proposal, temperatures: Sequence[float], responses: Sequence[Response], store: Path, advance: Any
) -> tuple[list[list[float]], dict[int, str]]:
    """What is known already is not asked again."""
    assert one.server is not None
    names = [f"{temperature:g}" for temperature in temperatures]
    header = {"likelihoods": dict(one.model.identity), "said": one.server.said(), "at": names}
    ids = [_id_of(response) for response in responses]
    with AppendLog(store / digest(header) / "likelihoods.jsonl", header) as log:
        known = {row.get("response"): row.get("at") for row in log.rows}
        missing = {id: response for id, response in zip(ids, responses, strict=True) if id not in known}
        advance(len(responses) - len(missing))
        scorer = scorer_of(one) if missing else None
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
