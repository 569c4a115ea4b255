"""The keys of `rbrbench gold`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from evals.models.server import GraderServerSettings
from evals.values.choice import Choice
from evals.values.errors import InputError
from evals.values.ranges import Range
from harness.keys.graders import RENAMED, AskedBy, GraderKeys, check_grader, check_template_keys
from harness.keys.shared import Bootstrap, Recorded, Seed, Threads, UnscoredLimit, check_name, least, nameable
from trainers.supervised.encoder_config import EncoderFitConfig

RECORDED = "recorded"
FILES = (RECORDED, "oracle")  # graders that are a file, and no model


class ThresholdMetric(Choice):
    BALANCED_ACCURACY = "balanced_accuracy"
    ACCURACY = "accuracy"


@dataclass
class GoldLabels:
    """Labelled completions (.jsonl), as in the released gold files of the paper."""

    train: str | None = None  # to fit the encoder on, and to tune thresholds on
    test: str | None = None  # to judge on; without it: gold.train, each prompt judged by the others' labels


@dataclass
class HostileKeys:
    """Responses that try to talk to their grader."""

    responses: int = 20  # of the judged ones, drawn by seed; each is graded under every attack; 0: none

    def __post_init__(self) -> None:
        if self.responses < 0:
            raise InputError(f"is {self.responses}", field="hostile.responses", fix="give 0 or more")


@dataclass
class GoldServer(GraderServerSettings):
    """Of grader.kind=server, and of every server among `graders`; with prices the table says what grades cost."""


@dataclass
class GraderChoice:
    """One of `graders`."""

    kind: str = ""  # as grader.kind
    path: str | None = None  # as grader.path; of a server: its name of the model
    chat_template: dict[str, Any] = field(default_factory=dict)  # as grader.chat_template
    name: str = ""  # in tables and files; empty: the last part of the path
    prompt_price: float = 0.0  # as server.prompt_price, of this one; 0: that of `server`
    completion_price: float = 0.0  # as server.completion_price, of this one; 0: that of `server`

    def __post_init__(self) -> None:
        check_grader(self.kind, self.path, "grader")
        check_template_keys(self.kind, self.chat_template, "grader")
        self.name = self.name or nameable(self._last_part()) or self.kind
        check_name(self.name, "graders.name")

    def _last_part(self) -> str:
        """A file loses its suffix. A model keeps what looks like one: Qwen2.5-1.5B-Instruct."""
        if self.path is None or self.kind == "server":
            return self.kind.rpartition(":")[2]
        name = Path(self.path).name
        return Path(name.removesuffix(".gz")).stem if self.kind in FILES else name


@dataclass
class TeacherKeys:
    """Another grader, which a plain encoder is fitted to in place of the labels of gold.train (distillation)."""

    kind: str = ""  # as grader.kind; empty: people teach
    path: str | None = None  # as grader.path; of a server: its name of the model
    on: str | None = None  # completions that it grades (.jsonl: prompt and completion); they need no labels

    def __post_init__(self) -> None:
        if not self.kind:
            given = next((key for key in ("path", "on") if getattr(self, key) is not None), None)
            if given is not None:
                fix = "say who teaches: teacher.kind=KIND"
                raise InputError("is given, and no teacher is named", field=f"teacher.{given}", fix=fix)
            return
        check_grader(self.kind, self.path, "teacher")
        if self.on is None:
            raise InputError(
                "is not set",
                field="teacher.on",
                fix="give completions for the teacher to grade: teacher.on=FILE.jsonl",
            )

    @property
    def choice(self) -> GraderChoice:
        return GraderChoice(self.kind, self.path)


@dataclass(kw_only=True)
class GoldConfig(Recorded, Bootstrap, Seed, Threads, UnscoredLimit):
    grader: GraderKeys = field(default_factory=GraderKeys)
    graders: list[GraderChoice] = field(default_factory=list)  # several: [{kind: KIND, path: PATH}, ...]
    rulebook: str = "sandbox"  # a YAML file, or the name of one in conf/rulebooks
    gold: GoldLabels = field(default_factory=GoldLabels)
    asked_by: AskedBy = AskedBy.MODEL  # as trained, else after the response; rulebook: in its template
    metric: ThresholdMetric = ThresholdMetric.BALANCED_ACCURACY  # of the tuned thresholds; or accuracy
    folds: int = 5  # of the prompts of gold.train
    few: int = 10  # fewer prompts with either label: too few to learn from, or to judge
    draws: int = 1000
    batch_size: int = 8  # responses between two writes of the grade cache; changes speed only
    hostile: HostileKeys = field(default_factory=HostileKeys)
    server: GoldServer = field(default_factory=GoldServer)  # of grader.kind=server
    encoder: EncoderFitConfig = field(default_factory=EncoderFitConfig)
    teacher: TeacherKeys = field(default_factory=TeacherKeys)
    name: str = "gold"

    RENAMED: ClassVar[dict[str, str]] = {"teacher.grader": "teacher.kind", **RENAMED}
    RANGES: ClassVar[dict[str, Range]] = {"folds": least(2), "few batch_size": least(1)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.teacher.kind:
            self.encoder.for_grades()
        if self.gold.train is None and self.gold.test is None:
            raise InputError("no labels", field="gold.test", fix="give labelled completions: gold.test=FILE")
        names = [choice.name for choice in self.choices]
        if len(set(names)) < len(names):
            raise InputError("two graders have one name", field="graders", fix="give each a name of its own")

    @property
    def choices(self) -> list[GraderChoice]:
        """The graders to judge: those of `graders`, else the one of `grader`."""
        return list(self.graders) or [
            GraderChoice(self.grader.kind, self.grader.path, self.grader.chat_template)
        ]
