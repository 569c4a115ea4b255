"""The keys of renewals during a training: of the reward model, and of the grader that pays."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from evals.models.server import GraderServerSettings
from evals.values.errors import InputError
from harness.keys.graders import AskedBy, check_grader
from trainers.rl.renewal_config import GraderRenewalConfig, RenewalConfig

LEARNING = ("trained", "encoder")  # kinds of graders that learn from labels


@dataclass
class TeacherServer(GraderServerSettings):
    """Of renewal.grader.teacher.kind=server."""

    PLACE: ClassVar[str] = "renewal.grader.teacher.server"


@dataclass
class GraderTeacherKeys:
    """Another grader than the one that pays, whose verdicts are the labels."""

    kind: str = ""  # as grader.kind; empty: people label, or the sandbox's do
    path: str | None = None  # as grader.path; of a server: its name of the model
    asked_by: AskedBy = AskedBy.MODEL  # as grader.asked_by
    server: TeacherServer = field(default_factory=TeacherServer)  # of kind server

    def __post_init__(self) -> None:
        if self.kind:
            check_grader(self.kind, self.path, "renewal.grader.teacher")
        elif self.path is not None:
            fix = "say what it is: renewal.grader.teacher.kind=KIND"
            raise InputError("is given, and no kind", field="renewal.grader.teacher.path", fix=fix)


@dataclass
class GraderRenewalKeys(GraderRenewalConfig):
    """When the grader that pays is trained anew on labelled responses of the policy."""

    teacher: GraderTeacherKeys = field(default_factory=GraderTeacherKeys)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels is not None and self.teacher.kind:
            fix = "leave one of the two out"
            raise InputError("is given, and so is a teacher", field="renewal.grader.labels", fix=fix)

    def check_asked(self, grader_kind: str, *, is_sandbox: bool) -> None:
        """Raises InputError where the grader cannot learn, or nobody labels."""
        if not self.is_asked:
            return
        if grader_kind not in LEARNING:
            raise InputError(
                f"a grader of kind {grader_kind} learns nothing from labels",
                field="renewal.grader",
                fix=f"take grader.kind={' or '.join(LEARNING)}, or leave it out",
            )
        if self.labels is None and not self.teacher.kind and not is_sandbox:
            raise InputError(
                "nobody labels the policy's responses",
                field="renewal.grader.labels",
                fix="give the folder that people write labels-UPDATE.jsonl into, or renewal.grader.teacher.kind",
            )


@dataclass
class RenewalKeys(RenewalConfig):
    """When the reward model is trained anew, and by whose comparisons."""

    grader: GraderRenewalKeys = field(default_factory=GraderRenewalKeys)

    @property
    def of_reward_model(self) -> dict[str, Any]:
        """What a renewal of the reward model depends on."""
        return {name: value for name, value in asdict(self).items() if name != "grader"}
