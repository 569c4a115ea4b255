"""The keys of `rbrbench rank`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from evals.values.conversation import ResponseType
from evals.values.errors import InputError
from evals.values.ranges import Range
from harness.keys.shared import Bootstrap, Recorded, Seed, Threads, UnscoredLimit, least, response_type_of


@dataclass
class TypeChoice:
    """One of `types`."""

    of: str = ""  # a value of the column `by`
    type: str = ""  # the response type of its rows

    def __post_init__(self) -> None:
        if not self.of or not self.type:
            fix = "write types=[{of: Safety, type: hard_refuse}]"
            raise InputError("an entry lacks `of` or `type`", field="types", fix=fix)


@dataclass(kw_only=True)
class RankConfig(Recorded, Bootstrap, Seed, Threads, UnscoredLimit):
    """A reward is a description, a fit, a run (results/RUN:METHOD:SEED), recorded rewards, or the folder or hub name of
    a one-output classifier."""

    rewards: list[str] = field(default_factory=list)  # those that are measured, each against the first
    on: str = ""  # RewardBench 2's file or folder (Parquet or JSONL), or another with its columns
    subsets: list[str] = field(default_factory=list)  # only these, as Safety; empty: all
    by: str = "subset"  # the column whose values are counted apart, as additional_metadata.category
    types: list[TypeChoice] = field(default_factory=list)  # of rows without one: [{of: Safety, type: TYPE}]
    worst: int = 20  # wrongly ranked prompts kept by id, for each reward
    name: str = "rank"

    RANGES: ClassVar[dict[str, Range]] = {"worst": least(0)}

    def __post_init__(self) -> None:
        if not self.rewards:
            fix = "give rewards=[A,B]: descriptions, results folders, recorded rewards or classifiers"
            raise InputError("is empty", field="rewards", fix=fix)
        if len(set(self.rewards)) < len(self.rewards):
            raise InputError("names one reward twice", field="rewards", fix="name each once")
        if not self.on:
            fix = "give RewardBench 2's file, or another with prompt, chosen and rejected: on=FILE"
            raise InputError("is not set", field="on", fix=fix)
        super().__post_init__()
        self.response_types  # noqa: B018  an unknown response type is refused at once

    @property
    def response_types(self) -> dict[str, ResponseType]:
        return {one.of: response_type_of(one.type, "types") for one in self.types}
