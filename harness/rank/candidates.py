"""Prompts with chosen and rejected responses: RewardBench 2's files, and one's own in its columns.

A row has `prompt` (a text or messages), `chosen` and `rejected` (lists of responses, or one) and, where they are known,
`id`, `subset` and `response_type`. Other columns may divide the rows in place of `subset`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from evals.values.conversation import Prompt, Response, ResponseType, prompt_id, types_in_order
from evals.values.errors import InputError
from evals.values.jsonl_rows import Row
from evals.values.parquet_rows import find_records, read_records

FILES = ("test-00000-of-00001.parquet", "data.jsonl")  # what a folder of it holds
WHOLE = "all"  # the subset of rows that name none


@dataclass(frozen=True)
class Candidates:
    """One prompt, with the responses that should have more reward and those that should have less."""

    prompt: Prompt
    subset: str  # the benchmark's own name
    group: str  # what it is counted under
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        return (*self.chosen, *self.rejected)


@dataclass(frozen=True)
class CandidateSets:
    """All that is read of a file, in its order; a reward is asked of `responses`, one prompt after the other."""

    path: Path
    sets: tuple[Candidates, ...]

    def __len__(self) -> int:
        return len(self.responses)

    @cached_property
    def responses(self) -> list[Response]:
        return [Response(one.prompt, text, n) for one in self.sets for n, text in enumerate(one.texts)]

    @cached_property
    def slices(self) -> list[slice]:
        """Where each set's rewards stand among those of all responses."""
        ends = np.cumsum([len(one.texts) for one in self.sets]).tolist()
        return [slice(end - len(one.texts), end) for one, end in zip(self.sets, ends, strict=True)]

    @property
    def groups(self) -> list[str]:
        return list(dict.fromkeys(one.group for one in self.sets))

    @property
    def response_types(self) -> list[ResponseType]:
        return types_in_order({t for one in self.sets if (t := one.prompt.response_type) is not None})

    def rows(self, response_type: ResponseType) -> np.ndarray:
        """Places among `responses` [n]."""
        return np.flatnonzero([r.prompt.response_type == response_type for r in self.responses])

    @cached_property
    def untyped(self) -> np.ndarray:
        """Whether a response's prompt has no response type [responses]."""
        return np.array([r.prompt.response_type is None for r in self.responses])


def read_candidates(
    path: str, *, subsets: Sequence[str], by: str, types: Mapping[str, ResponseType]
) -> CandidateSets:
    """The rows of `subsets` (all where none is named), grouped by the column `by`; `types` gives a group's rows without
    a response type one. Raises InputError, naming file, line and field, for a row that does not fit.
    """
    place = find_records(Path(path), FILES)
    found = read_records(place, partial(_candidates, by=by))
    known = list(dict.fromkeys(one.subset for one in found))
    unknown = next((name for name in subsets if name not in known), None)
    if unknown is not None:
        fix = f"use some of {', '.join(known)}"
        raise InputError(f"no row is of the subset {unknown!r}", path=place, field="subsets", fix=fix)
    kept = [one for one in found if not subsets or one.subset in subsets]
    groups = {one.group for one in kept}
    stray = next((name for name in types if name not in groups), None)
    if stray is not None:
        fix = f"name some of {', '.join(sorted(groups))}, the values of {by}"
        raise InputError(f"no row is of {stray!r}", path=place, field="types", fix=fix)
    return CandidateSets(place, tuple(_typed(one, types.get(one.group)) for one in kept))


def _typed(one: Candidates, response_type: ResponseType | None) -> Candidates:
    if response_type is None or one.prompt.response_type is not None:
        return one
    return replace(one, prompt=replace(one.prompt, response_type=response_type))


def _candidates(row: Row, by: str) -> Candidates:
    messages = row.messages("prompt")
    given, subset = row.name("id"), row.name("subset") or WHOLE
    id = given if given is not None else prompt_id(messages)
    chosen, rejected = (_texts(row, name) for name in ("chosen", "rejected"))
    prompt = Prompt(id, messages, row.response_type(), subset, questions=row.questions())
    return Candidates(prompt, subset, _value(row, by) or WHOLE, chosen, rejected)


def _texts(row: Row, field: str) -> tuple[str, ...]:
    value = row.values.get(field)
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
        raise row.error(field, "is no list of responses", 'write ["...", ...], one at least')
    return tuple(found)


def _value(row: Row, column: str) -> str | None:
    """A column, or a part of one: `additional_metadata.category`."""
    value: Any = row.values
    for name in column.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, list | Mapping):
        raise row.error(column, "is no text", "name a column of texts with by=")
    return None if value is None else str(value)
