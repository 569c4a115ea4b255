"""What a run's checkpoints are asked and who judges them: the keys below `evaluation.` and `capability.`"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from evals.values.clusters import AUTO as TOLD
from evals.values.errors import InputError
from evals.values.ranges import Range, whole
from harness.keys.data import DataSource
from harness.keys.judging import CardKeys, CorrectionKeys, JudgingKeys
from harness.keys.shared import Margin

WORDS = "words"  # who reads refusals where no better judge is named
RECORDED = ("recorded", "human")  # kinds of judges that know what was judged before


@dataclass
class RunCardKeys(CardKeys):
    """As evaluate's, and by default no judge is measured."""

    PLACE: ClassVar[str] = "evaluation.card."
    labels: str = "none"  # xstest, gptfuzz, rbr_gold, polyguard, none, or package.module:attribute


@dataclass
class RunCorrectionKeys(CorrectionKeys):
    """As evaluate's: one of the run's own judges may be named too."""

    PLACE: ClassVar[str] = "evaluation.correction."


@dataclass(kw_only=True)
class EvaluationConfig(JudgingKeys):
    """What every checkpoint is asked beside the run's own suite, and who judges beside the run's own judges."""

    PLACE: ClassVar[str] = "evaluation."

    card: RunCardKeys = field(default_factory=RunCardKeys)
    correction: RunCorrectionKeys = field(default_factory=RunCorrectionKeys)
    cluster: str = TOLD
    comparisons: bool = False  # of every two methods, in comparisons.csv; with a baseline, of each with that
    monitored_by: str | None = None  # judge of held-out looks: one of judges, words; null: own
    graded_samples: int = 60  # prompts whose responses are kept with the grades and rewards they get; 0: none
    ceiling_samples: int = 0  # responses a prompt by which each training is held against its ceiling; 0: none
    ceiling_prompts: int = 100  # of the training, and as many of the suite, that are asked for it; 0: all
    max_new_tokens: int = 40  # limit of a response
    batch_size: int = 128  # responses at once; changes speed only

    RANGES: ClassVar[dict[str, Range]] = {
        "graded_samples": whole(0),
        "ceiling_samples ceiling_prompts": whole(0),
        "max_new_tokens batch_size": whole(1),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        name, place = self.monitored_by, "evaluation.monitored_by"
        if name is None:
            return
        if name not in (WORDS, *self.judges):
            known = ", ".join(dict.fromkeys((WORDS, *self.judges)))
            fix = f"use one of {known}, or name it in evaluation.judges=[...] too"
            raise InputError(f"{name!r} is no judge of this run", field=place, fix=fix)
        if self.settings_of_judge(name).get("kind", name) in RECORDED:
            problem = f"{name!r} knows recorded responses alone, and these are new"
            raise InputError(problem, field=place, fix="name a judge that reads any response")


# What a run measures in any case.
EVALUATION = "evaluation"
OWN_SUITE = {DataSource.SANDBOX: "sandbox", DataSource.REAL: "xstest", DataSource.FILES: EVALUATION}
ORACLE, AUTO = "oracle", "auto"
OWN_JUDGES = {
    DataSource.SANDBOX: (ORACLE, AUTO),
    DataSource.REAL: (WORDS, AUTO),
    DataSource.FILES: (WORDS,),
}
SANDBOX_TASKS = ("mmlu", "hellaswag", "lambada", "gpqa")


@dataclass(kw_only=True)
class CapabilityConfig(Margin):
    tasks: list[str] = field(default_factory=lambda: list(SANDBOX_TASKS))  # []: none is measured
    root: str | None = None  # folder with the real tasks' files; null: the sandbox's own tasks
    limit: int = 400  # items a task
    batch_size: int = 128  # requests at once; changes speed only

    PLACE: ClassVar[str] = "capability."
    RANGES: ClassVar[dict[str, Range]] = {"limit batch_size": whole(1)}
