"""Labelled responses with their features and reward-model scores, what weights are fitted on, and pairs of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evals.graders import Grader, grade_in_batches
from evals.graders.own_questions import question_scores
from evals.rules.features import Features, features
from evals.rules.propositions import Proposition
from evals.rules.questions import QuestionScores
from evals.rules.rulebook import Rulebook
from evals.values.conversation import LabelledResponse, Response, ResponseType, types_in_order
from evals.values.errors import InputError
from evals.values.grades import Grades, check_unscored
from evals.values.jsonl_rows import read_jsonl, write_jsonl
from trainers.reward.reward import Reward


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

    def held_out(self, share: float, seed: int) -> np.ndarray:
        """[responses] True for those of the prompts that are kept from fitting: `share` of them, never part of one."""
        kept = held_out(self.prompts, share, seed)
        return np.array([id in kept for id in self.prompts], dtype=bool)

    def check_scored(self, limit: float, what: str) -> None:
        """Raises UndecidableError, with the commonest reason, where more than `limit` are unscored."""
        missing = int((~self.scored).sum())
        reasons = list(self.features.reasons.values()) or ["the reward model gave no score"] * missing
        check_unscored(missing, len(self), limit, f"{what} are unscored", reasons)


def split_by_prompt(examples: FitExamples, share: float, seed: int) -> tuple[FitExamples, FitExamples]:
    """The examples to fit on and those held out."""
    out = examples.held_out(share, seed)
    return examples.select(~out), examples.select(out)


def graded_examples(
    rulebook: Rulebook,
    labelled: Sequence[LabelledResponse],
    grader: Grader,
    asked: Sequence[Proposition],
    reward_model: Reward | None,
    progress: Callable[[int], None] | None = None,
) -> list[FitExamples]:
    """Ask the grader `asked` of labelled responses, and score them; without a reward model every score is 0.

    `progress` is told of graded responses. Raises as `fit_examples` does.
    """
    responses = [row.response for row in labelled]
    grades = grade_in_batches(grader, responses, asked, progress=progress)
    scores = np.zeros(len(responses)) if reward_model is None else reward_model(responses).total
    return fit_examples(rulebook, labelled, grades, scores, _asked(rulebook, responses, grader))


def _asked(rulebook: Rulebook, responses: Sequence[Response], grader: Grader) -> QuestionScores | None:
    """What the prompts' own questions say; None where no type of the rulebook has any."""
    if not rulebook.prompt_questions:
        return None
    rows = [i for i, r in enumerate(responses) if r.prompt.response_type in rulebook.prompt_questions]
    found = question_scores(grader, [responses[row] for row in rows])
    values = np.zeros(len(responses))
    values[rows] = found.values
    return QuestionScores(values, {rows[place]: why for place, why in found.reasons.items()})


def fit_examples(
    rulebook: Rulebook,
    labelled: Sequence[LabelledResponse],
    grades: Grades,
    reward_model: np.ndarray,
    asked: QuestionScores | None = None,
) -> list[FitExamples]:
    """Group labelled responses by response type and compute their features.

    `grades` [responses, propositions], `reward_model` [responses] and `asked` [responses], what the prompts' own
    questions say where the rulebook has types with them, go with `labelled`. A response's class is its own
    `completion_class`, else what its propositions say. Raises InputError for an unknown class; responses without a
    response type are left out.
    """
    groups: dict[ResponseType, list[int]] = {}
    for row, item in enumerate(labelled):
        if (response_type := item.response.prompt.response_type) is not None:
            groups.setdefault(response_type, []).append(row)
    made = []
    for response_type in types_in_order(groups):
        rows = groups[response_type]
        classes = tuple(_class_of(rulebook, response_type, labelled[row]) for row in rows)
        made.append(
            FitExamples(
                response_type,
                tuple(labelled[row].response.prompt.id for row in rows),
                classes,
                np.array([rulebook.class_order.index(name) for name in classes]),
                features(rulebook, response_type, grades.rows(rows), asked and asked.rows(rows)),
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


def ordered_pairs(prompts: Sequence[str], rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices (better, worse), each [pairs], of all pairs of one prompt whose ranks differ.

    `rank` [responses], 0 is best. Prompts of equal size are handled together, so that time and
    memory grow with the number of prompts, not with its square. Order: by prompt's first
    appearance within its size, then by position.
    """
    _, first, inverse = np.unique(np.asarray(prompts, dtype=object), return_index=True, return_inverse=True)
    group = np.argsort(np.argsort(first))[inverse.reshape(-1)]  # prompts numbered by first appearance
    by_prompt = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    starts = np.cumsum(sizes) - sizes
    better, worse = [np.empty(0, dtype=np.intp)], [np.empty(0, dtype=np.intp)]
    for size in np.unique(sizes[sizes > 1]):
        members = by_prompt[starts[sizes == size][:, None] + np.arange(size)]  # [prompts, size]
        left, right = np.triu_indices(int(size), 1)
        a, b = members[:, left].reshape(-1), members[:, right].reshape(-1)
        differs = rank[a] != rank[b]
        a, b = a[differs], b[differs]
        swap = rank[a] > rank[b]
        better.append(np.where(swap, b, a))
        worse.append(np.where(swap, a, b))
    return np.concatenate(better), np.concatenate(worse)


def margins_of(
    classes: Sequence[str],
    better: np.ndarray,
    worse: np.ndarray,
    default: float,
    special: Mapping[str, float],
) -> np.ndarray:
    """Margins [pairs]: `special["better>worse"]` where it is given, else `default`."""
    margins = np.full(len(better), default, dtype=np.float64)
    names = np.asarray(classes, dtype=object)
    for pair, margin in special.items():
        first, _, second = pair.partition(">")
        margins[(names[better] == first) & (names[worse] == second)] = margin
    return margins
