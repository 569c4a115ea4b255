"""Labelled responses with their features and reward-model scores: what weights are fitted on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evals.rules.features import Features, features
from evals.rules.rulebook import Rulebook
from evals.values.conversation import LabelledResponse, ResponseType, read_jsonl, write_jsonl
from evals.values.errors import InputError
from evals.values.grades import Grades


@dataclass(frozen=True)
class FitExamples:
    """Responses of one response type, ready to fit; every sequence runs over responses."""

    response_type: ResponseType
    prompts: tuple[str, ...]  # prompt ids
    classes: tuple[str, ...]  # completion classes
    rank: np.ndarray  # [responses] place of the class in the order, 0 is best
    features: Features
    reward_model: np.ndarray  # [responses] normalised score, NaN where unscored

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def scored(self) -> np.ndarray:
        """[responses] True where both the features and the reward model's score are numbers."""
        return np.isfinite(self.reward_model) & np.isfinite(self.features.values).all(axis=1)

    def select(self, rows: np.ndarray) -> FitExamples:
        """The examples at `rows` (indices or a mask [responses])."""
        index = np.arange(len(self))[rows]
        place = {int(old): new for new, old in enumerate(index)}
        reasons = {place[row]: why for row, why in self.features.reasons.items() if row in place}
        return FitExamples(
            self.response_type,
            tuple(self.prompts[i] for i in index),
            tuple(self.classes[i] for i in index),
            self.rank[index],
            Features(self.features.names, self.features.values[index], reasons),
            self.reward_model[index],
        )


def split_by_prompt(examples: FitExamples, share: float, seed: int) -> tuple[FitExamples, FitExamples]:
    """The examples to fit on and those held out: `share` of the prompts, never part of one."""
    kept = held_out(examples.prompts, share, seed)
    out = np.array([id in kept for id in examples.prompts], dtype=bool)
    return examples.select(~out), examples.select(out)


def fit_examples(
    rulebook: Rulebook, labelled: Sequence[LabelledResponse], grades: Grades, reward_model: np.ndarray
) -> list[FitExamples]:
    """Group labelled responses by response type and compute their features.

    `grades` [responses, propositions] and `reward_model` [responses] go with `labelled`. A response's
    class is its own `completion_class`, else what its propositions say. Raises InputError for an
    unknown class; responses without a response type are left out.
    """
    groups: dict[ResponseType, list[int]] = {}
    for row, item in enumerate(labelled):
        if (response_type := item.response.prompt.response_type) is not None:
            groups.setdefault(response_type, []).append(row)
    made = []
    for response_type in (t for t in ResponseType if t in groups):
        rows = groups[response_type]
        classes = tuple(_class_of(rulebook, response_type, labelled[row]) for row in rows)
        made.append(
            FitExamples(
                response_type,
                tuple(labelled[row].response.prompt.id for row in rows),
                classes,
                np.array([rulebook.class_order.index(name) for name in classes]),
                features(rulebook, response_type, grades.rows(rows)),
                np.asarray(reward_model, dtype=np.float64)[rows],
            )
        )
    return made


def _class_of(rulebook: Rulebook, response_type: ResponseType, item: LabelledResponse) -> str:
    name = item.completion_class
    if name is None:
        return rulebook.class_of(response_type, item.propositions)
    if name not in rulebook.class_order:
        raise InputError(
            f"unknown completion class {name!r} of prompt {item.response.prompt.id!r}",
            field="completion_class",
            fix=f"use one of {', '.join(rulebook.class_order)}",
        )
    return name


def held_out(prompts: Sequence[str], share: float, seed: int) -> frozenset[str]:
    """The ids kept from fitting: `share` of the distinct prompts, whatever the order they come in.

    Ids are ordered by a hash with the seed, so that a longer data set moves few prompts across.
    """
    ids = sorted(set(prompts), key=lambda id: hashlib.sha256(f"{seed}:{id}".encode()).digest())
    return frozenset(ids[: round(share * len(ids))])


def prompts_digest(prompts: Sequence[str]) -> str:
    """16 hexadecimal digits of a set of prompt ids."""
    return hashlib.sha256("\n".join(sorted(set(prompts))).encode()).hexdigest()[:16]


def save_examples(examples: Sequence[FitExamples], path: Path | str) -> None:
    """Write one JSON object a response: its prompt's id, class, rank, features and reward-model score."""
    write_jsonl(path, (row for group in examples for row in _rows(group)))


def load_examples(path: Path | str) -> list[FitExamples]:
    """What `save_examples` wrote. Raises InputError for a malformed file."""
    groups: dict[ResponseType, list[Mapping[str, Any]]] = {}
    for row in read_jsonl(path, lambda row: row):
        response_type = row.response_type()
        if response_type is None:
            raise row.error("response_type", "is missing", "fit the weights again")
        groups.setdefault(response_type, []).append(row.values)
    return [_group(response_type, rows) for response_type, rows in groups.items()]


def _rows(group: FitExamples) -> Iterator[dict[str, Any]]:
    for i in range(len(group)):
        yield {
            "response_type": group.response_type.value,
            "prompt_id": group.prompts[i],
            "completion_class": group.classes[i],
            "rank": int(group.rank[i]),
            "names": group.features.names if i == 0 else None,
            "features": [_number(value) for value in group.features.values[i]],
            "reward_model": _number(group.reward_model[i]),
            "reason": group.features.reasons.get(i),
        }


def _group(response_type: ResponseType, rows: Sequence[Mapping[str, Any]]) -> FitExamples:
    values = np.array([row["features"] for row in rows], dtype=np.float64)
    reasons = {i: row["reason"] for i, row in enumerate(rows) if row["reason"] is not None}
    return FitExamples(
        response_type,
        tuple(row["prompt_id"] for row in rows),
        tuple(row["completion_class"] for row in rows),
        np.array([row["rank"] for row in rows]),
        Features(tuple(rows[0]["names"]), values, reasons),
        np.array([row["reward_model"] for row in rows], dtype=np.float64),
    )


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
