"""The grader that pays the reward of a run: trained there, or chosen. It loads torch, with the trainers' settings."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from evals.models.server import GraderServerSettings
from evals.values.errors import InputError
from evals.values.ranges import SHARE, Range, check_ranges, whole
from harness.keys.graders import GRADER_KINDS, AskedBy, check_grader, check_template_keys
from trainers.supervised.encoder_config import EncoderFitConfig
from trainers.supervised.grader_config import GraderTrainingConfig

TRAINED = "trained"


@dataclass
class PayingServer(GraderServerSettings):
    """Of grader.kind=server. Budgets count what all runs of this name have asked, one after the other."""

    PLACE: ClassVar[str] = "grader.server"


@dataclass
class PayingEncoder(EncoderFitConfig):
    """Of a plain encoder, which is fitted to data.gold."""

    PLACE: ClassVar[str] = "grader.encoder"


@dataclass
class PayerKeys(GraderTrainingConfig):
    """`kind` trained: a copy of the base model, fine-tuned on the world's labels as the other settings say."""

    kind: str = TRAINED  # trained, language_model, granite_guardian, server, encoder, recorded, or own
    path: str | None = None  # of a chosen one: folder or hub id; of a server: its name of the model
    asked_by: AskedBy = AskedBy.MODEL  # a language model: as trained; rulebook: in its template
    chat_template: dict[str, Any] = field(default_factory=dict)  # its keys: .enable_thinking=false
    server: PayingServer = field(default_factory=PayingServer)  # of grader.kind=server
    encoder: PayingEncoder = field(default_factory=PayingEncoder)  # of a plain one, fitted to data.gold
    width: int | None = None  # of a trained one's own base; null: the run's base
    least_balanced_accuracy: float = 0.6  # mean on the gold labels, below which nothing is trained (exit 3)
    few: int = 10  # fewer gold labels of either value: a proposition counts as unmeasured
    anyway: bool = False  # train although the grader is below

    PAYER_RANGES: ClassVar[dict[str, Range]] = {"least_balanced_accuracy": SHARE, "few": whole(1)}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, "grader", self.PAYER_RANGES)
        if self.width is not None:
            check_ranges(self, "grader", {"width": whole(1)})
            if self.kind != TRAINED:
                fix = "leave it out, or grader.kind"
                raise InputError("is given, and a chosen grader has its size", field="grader.width", fix=fix)
        if self.kind != TRAINED:
            check_grader(self.kind, self.path, "grader")
        elif self.path is not None:
            known = ", ".join(GRADER_KINDS)
            raise InputError("is given, and no kind", field="grader.path", fix=f"say grader.kind={known}")
        check_template_keys(self.kind, self.chat_template, "grader")

    @property
    def is_trained(self) -> bool:
        return self.kind == TRAINED

    @property
    def training(self) -> GraderTrainingConfig:
        """What a trained one depends on."""
        return GraderTrainingConfig(**{f.name: getattr(self, f.name) for f in fields(GraderTrainingConfig)})
