"""The keys of `rbrbench evaluate`: plain dataclasses, composed by Hydra and checked once. Loads no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, get_type_hints

from evals.models.server import SAID, WHICH, BudgetedServer, as_before
from evals.models.thoughts import AUTO
from evals.suites.recorded_responses import ResponseColumns
from evals.values.clusters import PROMPT
from evals.values.errors import InputError
from evals.values.ranges import Range, whole
from harness.keys.compose import compose_command
from harness.keys.judging import JudgingKeys
from harness.keys.members import Members, keys_of
from harness.keys.shared import Margin, Recorded, Seed, Threads, UnscoredLimit
from harness.keys.subject import DecodingKeys, LocalKeys, SourceKeys, asked_server, source_of, with_defaults

# What may change between two runs of one evaluation: none of them changes a response or a judgement.
AFTERWARDS = ("baseline", "margin", "compare_anyway", "max_unscored", "require", "show_prompts", "to_label")

LONGEST_MODEL = 200  # of a name that stands in files' names, which end at 255


@dataclass(kw_only=True)
class CapabilityKeys(Margin):
    """Knowledge tasks through lm-eval, of models at hand and of servers that say how likely given texts are."""

    root: str | None = None  # folder of the tasks' released files; null: by lm-eval's names, from the hub
    tasks: list[str] = field(default_factory=list)  # those to take; []: all with a file in root
    num_fewshot: dict[str, int] = field(default_factory=dict)  # .TASK=5: examples before each question
    limit: int = 400  # items a task
    batch_size: int = 32  # requests at once; changes speed only

    PLACE: ClassVar[str] = "capability."
    RANGES: ClassVar[dict[str, Range]] = {"limit batch_size": whole(1)}

    @property
    def wanted(self) -> bool:
        return self.root is not None or bool(self.tasks)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, examples in self.num_fewshot.items():
            place = f"capability.num_fewshot.{name}"
            if examples < 0:
                raise InputError(f"is {examples}", field=place, fix="give 0 or more")
            if self.tasks and name not in self.tasks:
                raise InputError(
                    "is not in capability.tasks=[...]", field=place, fix="add it, or remove this"
                )


@dataclass
class DataKeys:
    root: str | None = None  # folder that holds the suites' folders


@dataclass(kw_only=True)
class EvaluateConfig(Recorded, JudgingKeys, Seed, Threads, UnscoredLimit):
    judges: list[str] = field(default_factory=lambda: ["words"])  # who reports, the first leads
    name: str = "evaluation"
    subject: LocalKeys = field(default_factory=LocalKeys)
    server: BudgetedServer = field(default_factory=asked_server)
    responses: str | None = None  # recorded responses, CSV or JSONL
    columns: ResponseColumns = field(default_factory=ResponseColumns)
    run: str | None = None  # a model that a run trained: results/NAME, with :METHOD:SEED where it has several
    models: dict[str, Any] = field(default_factory=dict)  # several: models.NAME.subject.path=FOLDER, ...
    data: DataKeys = field(default_factory=DataKeys)
    decoding: DecodingKeys = field(default_factory=DecodingKeys)
    capability: CapabilityKeys = field(default_factory=CapabilityKeys)
    max_unscored: float = 0.1
    require: str | None = None  # a file of thresholds that models must keep: docs/evaluate.md
    show_prompts: bool = True  # write the suites' prompts beside the responses; false: their ids only

    MEMBERS: ClassVar[dict[str, Members]] = JudgingKeys.MEMBERS | {
        "models": Members("models", keys_of(get_type_hints(SourceKeys)), closed=True)
    }
    RENAMED: ClassVar[dict[str, str]] = {
        "unscored_limit": "max_unscored",
        "tolerance": "margin",
        "model": "subject",
        "models.*.model": "models.*.subject",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_lists()
        for name, source in self.sources().items():
            source.check(f"models.{name}." if self.models else "")

    def _check_lists(self) -> None:
        if not self.suites and not self.capability.wanted:
            raise InputError(
                "nothing is to be measured",
                field="suites",
                fix="give suites=[xstest,...], capability.root= or capability.tasks=",
            )
        self.check_judging()
        if self.suites and not self.judges:
            raise InputError("no judge is named", field="judges", fix="give judges=[words]")
        for name in self.models:
            if not re.fullmatch(r"\w[\w.+-]*", name) or len(name.encode()) > LONGEST_MODEL:
                fix = f"use letters, digits, '-', '_', '.', '+', at most {LONGEST_MODEL} bytes of them"
                raise InputError(f"{name!r} cannot name a file", field="models", fix=fix)

    def sources(self) -> dict[str, SourceKeys]:
        """{name: source} of every model. Raises InputError where one model and several are both named."""
        single = SourceKeys(self.subject, self.server, self.responses, self.columns, self.run)
        if not self.models:
            return {single.label: single}
        if single.subject.path or single.server.url or single.responses or single.run:
            raise InputError(
                "one model and several are both named", field="models", fix="name every model under models."
            )
        # Server and column settings outside `models` are the defaults of those inside.
        return {name: with_defaults(source_of(name, keys), single) for name, keys in self.models.items()}

    def identity(self) -> dict[str, Any]:
        """What decides the results; speed, budget and retries do not."""
        settings = asdict(self)
        for key in ("results", "threads", *AFTERWARDS):
            del settings[key]
        if self.cluster == PROMPT:  # results from before there was such a key keep their owner
            del settings["cluster"]
        settings["models"] = {name: asdict(source) for name, source in self.sources().items()}
        for group in (settings, *settings["models"].values()):
            group["model"] = group.pop("subject")
            told = {key: group["server"][key] for key in SAID if group["server"][key]}
            group["server"] = {key: group["server"][key] for key in WHICH} | told
            if group["run"] is None:  # results from before there was such a key keep their owner
                del group["run"]
        settings["judge_settings"] = {n: as_before(self.settings_of_judge(n)) for n in self.judge_settings}
        for group in ("decoding", "capability"):
            del settings[group]["batch_size"]
        if self.decoding.thoughts == AUTO:  # as before there was such a key
            del settings["decoding"]["thoughts"]
        return settings


def compose_evaluate(overrides: Sequence[str]) -> EvaluateConfig:
    """Compose and check the keys of one command line. Raises InputError, one line, for what does not fit."""
    return compose_command("evaluate", EvaluateConfig, overrides)
