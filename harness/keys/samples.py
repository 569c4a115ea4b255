"""The keys of `rbrbench samples`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, ClassVar

from evals.models.server import BudgetedServer
from evals.suites.recorded_responses import ResponseColumns
from evals.values.errors import InputError
from evals.values.ranges import Range
from harness.keys.judging import JUDGES, JudgingKeys
from harness.keys.members import Members
from harness.keys.shared import Checked, Seed, Threads, check_name, least
from harness.keys.subject import DecodingKeys, LocalKeys, SourceKeys, asked_server


class PromptPart(str, Enum):
    """Which prompts of a run's own."""

    EVALUATION = "evaluation"  # those that it is measured on
    TRAINING = "training"  # the safety prompts of its reinforcement learning


def sampled() -> DecodingKeys:
    return DecodingKeys(temperature=1.0, samples=16)


def server_of(place: str, like: BudgetedServer) -> BudgetedServer | None:
    """The server of another model, written MODEL@URL, asked as `like` is; None for a folder, a hub name or a run.

    Raises InputError for what can be no server's address.
    """
    model, at, url = place.rpartition("@")
    return replace(like, url=url, model=model) if at and model and "://" in url else None


@dataclass(kw_only=True)
class SamplesConfig(Seed, Threads, Checked):
    out: str = ""  # folder of the set
    set: str = ""  # its name; a set is never changed
    subject: LocalKeys = field(default_factory=LocalKeys)
    server: BudgetedServer = field(default_factory=asked_server)
    responses: str | None = None  # recorded responses, CSV or JSONL
    columns: ResponseColumns = field(default_factory=ResponseColumns)
    run: str | None = None  # a model that a run trained, results/NAME:METHOD:SEED: its SFT model, as a rule
    prompts: str | None = None  # prompts with response types, JSONL; null: those of the run
    part: PromptPart = PromptPart.EVALUATION  # which prompts of the run
    limit: int = 300  # prompts, drawn at random, each response type by its share; 0: all
    reward: str | None = None  # whose grades and scores are kept, as for ceiling; null: the run's
    judges: list[str] = field(default_factory=list)  # the first leads; of a sandbox run: its oracle
    judge_settings: dict[str, Any] = field(default_factory=dict)  # written as judges.NAME.KEY=VALUE
    decoding: DecodingKeys = field(default_factory=sampled)
    temperatures: list[float] = field(default_factory=list)  # further samples, hotter; reweighted
    others: list[str] = field(default_factory=list)  # further ones of a folder, run or MODEL@URL; reweighted
    results: str = "results"  # root folder of results: what was answered, graded and judged is kept there

    MEMBERS: ClassVar[dict[str, Members]] = {"judges": JUDGES}
    RANGES: ClassVar[dict[str, Range]] = {"limit": least(0)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.out:
            raise InputError("is not set", field="out", fix="give the set's folder: out=FOLDER")
        check_name(self.set, "set")
        self.source.check("")
        if self.prompts is None and not self.run:
            raise InputError("is not set", field="prompts", fix="give a JSONL file of prompts")
        if not self.judges and not self.run:
            raise InputError("no judge is named", field="judges", fix="give judges=[NAME]")
        if not self.decoding.temperature:
            raise InputError(
                "is 0: samples are drawn", field="decoding.temperature", fix="give the training's, 1"
            )
        if not all(value > 0 for value in self.temperatures):
            raise InputError("holds one that is not above 0", field="temperatures", fix="give temperatures")
        if (self.temperatures or self.others) and self.responses:
            problem = (
                "proposals are reweighted by how likely each writes any response, which no recorded ones say"
            )
            raise InputError(problem, field="temperatures, others", fix="give a model or a server")
        for place in self.others:
            server_of(place, self.server)

    @property
    def source(self) -> SourceKeys:
        return SourceKeys(self.subject, self.server, self.responses, self.columns, self.run)

    @property
    def judging(self) -> JudgingKeys:
        return JudgingKeys(judges=self.judges, judge_settings=self.judge_settings)
