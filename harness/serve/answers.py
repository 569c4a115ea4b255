"""What a served reward is asked and answers, as JSON values. Two requests mean the same:

`/reward`, which rbrbench's own clients send: `prompts` and `completions` (texts or messages), `response_type`, and
`category` and `questions` where the rules know them, lists of one length. `/get_reward`, OpenRLHF's remote reward:
`query` (prompt and response as one text, with the model's own marks), `prompts`, `labels`; a label is the prompt's
response type, or a JSON object with `response_type` and perhaps `prompt` (its messages, where the text of `prompts` is
a template's), `category` and `questions`. Null, or an empty label, is a prompt off the safety areas.

Both answer `rewards`, and what they are made of. A response that cannot be paid has null, with its reason, from
`/reward`; from `/get_reward`, whose readers take numbers alone, the whole request is refused with the reasons.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evals.values.conversation import QUESTIONS_FIX
from evals.values.errors import InputError
from evals.values.json_text import parse_json
from trainers.reward.function import RewardFunction
from trainers.reward.reward import Breakdown, pay

PATH, OPENRLHF = "/reward", "/get_reward"
COLUMNS = ("response_type", "category", "id", "questions")
# Marks that end a turn, as tokenizers write them.
ENDS = re.compile(
    r"(\s*(<\|[^|<>\s]{1,40}\|>|</s>|<eos>|<end_of_turn>|<pad>|<\uff5c[^<>\s]{1,40}\uff5c>))+\s*$"
)


class NoReward(Exception):
    """Some responses have no reward; `reasons` by row."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__("; ".join(f"row {row}: {reason}" for row, reason in sorted(reasons.items())))
        self.reasons = reasons


def answer(path: str, body: Mapping[str, Any], function: RewardFunction, most: int) -> dict[str, Any]:
    """Raises InputError for what is no request, and NoReward."""
    if path == OPENRLHF:
        breakdown = _pay(function, of_openrlhf(body, most))
        if breakdown.reasons:
            raise NoReward(breakdown.reasons)
        rewards = breakdown.total.tolist()
        parts = {**breakdown.terms, **breakdown.contributions}
        logs = {name: np.nan_to_num(values).tolist() for name, values in parts.items()}
        return {"rewards": rewards, "scores": rewards, "extra_logs": logs}
    breakdown = _pay(function, _own(body, most))
    return {
        "rewards": _listed(breakdown.total),
        "terms": {name: _listed(values) for name, values in breakdown.terms.items()},
        "rules": {name: _listed(values) for name, values in breakdown.contributions.items()},
        "unscored": {str(row): reason for row, reason in sorted(breakdown.reasons.items())},
    }


def _pay(function: RewardFunction, asked: Mapping[str, Any]) -> Breakdown:
    for name in ("prompts", "completions"):
        for row, turns in enumerate(asked[name]):
            if not _are_turns(turns):
                fix = 'send a text, or messages: [{"role": "user", "content": "..."}]'
                raise InputError("is neither text nor messages", field=f"{name}[{row}]", fix=fix)
    for row, questions in enumerate(asked.get("questions") or []):
        if not isinstance(questions, list | None):
            raise InputError("is no list", field=f"questions[{row}]", fix=QUESTIONS_FIX)
    columns = {name: asked[name] for name in COLUMNS if name in asked}
    return pay(function.reward, function.responses(asked["prompts"], asked["completions"], columns))


def _are_turns(found: Any) -> bool:
    """A text, or messages whose content is a text, null, or blocks."""
    return isinstance(found, str) or (isinstance(found, list) and all(map(_is_turn, found)))


def _is_turn(found: Any) -> bool:
    if not isinstance(found, dict) or not isinstance(found.get("role"), str):
        return False
    content = found.get("content")
    blocks = isinstance(content, list) and all(isinstance(block, dict) for block in content)
    return blocks or isinstance(content, str | None)


def _listed(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _own(body: Mapping[str, Any], most: int) -> dict[str, Any]:
    found = {name: _column(body, name, most) for name in ("prompts", "completions", "response_type")}
    found |= {name: _column(body, name, most) for name in COLUMNS[1:] if body.get(name) is not None}
    _same_length(found)
    return found


def of_openrlhf(body: Mapping[str, Any], most: int) -> dict[str, Any]:
    """The same columns from OpenRLHF's. Raises InputError for a query that does not hold its prompt."""
    asked = {name: _column(body, name, most) for name in ("query", "prompts", "labels")}
    _same_length(asked)
    found: dict[str, list[Any]] = {
        name: [] for name in ("prompts", "completions", "response_type", "category", "questions")
    }
    for row, (query, prompt, label) in enumerate(zip(*asked.values(), strict=True)):
        about = _label(label, row)
        held, response = _behind(query, prompt)
        if not held:
            fix = "send each query as its prompt and the response behind it"
            raise InputError("does not hold its prompt", field=f"query[{row}]", fix=fix)
        found["prompts"].append(about.get("prompt") or prompt)
        found["completions"].append(ENDS.sub("", response))
        found["response_type"].append(about.get("response_type"))
        found["category"].append(about.get("category"))
        found["questions"].append(about.get("questions"))
    return found


def _behind(query: Any, prompt: Any) -> tuple[bool, str]:
    """Whether a query holds its prompt, and what stands behind it."""
    if not isinstance(query, str) or not isinstance(prompt, str) or not prompt:
        return False, ""
    _, held, response = query.partition(prompt)
    return bool(held), response


def _label(label: Any, row: int) -> Mapping[str, Any]:
    if isinstance(label, str) and label.strip().startswith("{"):
        try:
            label = parse_json(label)
        except (json.JSONDecodeError, ValueError):
            fix = "write a response type, or a JSON object"
            raise InputError("is no JSON object", field=f"labels[{row}]", fix=fix) from None
    if isinstance(label, Mapping):
        return label
    return {"response_type": label or None}


def _column(body: Mapping[str, Any], name: str, most: int) -> list[Any]:
    found = body.get(name)
    if not isinstance(found, list) or not found:
        raise InputError("is no list", field=name, fix="give one entry for each response")
    if len(found) > most:
        raise TooMany(f"has {len(found)} entries", field=name, fix=f"send {most} at most, or raise max_batch")
    return found


def _same_length(columns: Mapping[str, Sequence[Any]]) -> None:
    lengths = {name: len(values) for name, values in columns.items()}
    if len({*lengths.values()}) > 1:
        told = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise InputError(
            f"have different lengths: {told}", field="columns", fix="give one entry for each response"
        )


class TooMany(InputError):
    """More responses than one request may bring."""
