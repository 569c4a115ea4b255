"""The keys of `rbrbench evaluate`: plain dataclasses, composed by Hydra and checked once. Loads no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

from evals.judges import judge_types
from evals.judges.jury import KIND as JURY
from evals.judges.labelled import LABELLED
from evals.models.server import SAID, WHICH, BudgetedServer, as_before
from evals.models.thoughts import AUTO, pairs_of
from evals.suites import suite_source
from evals.suites.recorded_responses import ResponseColumns
from evals.values.clusters import PROMPT
from evals.values.errors import InputError
from evals.values.kinds import check_kind, is_outside
from evals.values.ranges import Range, whole
from harness.keys.compose import compose_command
from harness.keys.members import Members, keys_of
from harness.keys.shared import (
    Bootstrap,
    Checked,
    Clusters,
    Margin,
    Recorded,
    Seed,
    Threads,
    UnscoredLimit,
    file_name,
    least,
)
from harness.keys.typed import escaped

PRECISIONS = ("float32", "bfloat16")
# What may change between two runs of one evaluation: none of them changes a response or a judgement.
AFTERWARDS = ("baseline", "margin", "compare_anyway", "max_unscored", "require", "show_prompts", "to_label")

LONGEST_MODEL = 200  # of a name that stands in files' names, which end at 255
SUFFIXES = r"(\.(csv|tsv|json|jsonl|txt|gz))+$"  # of a file of responses: llama-3.1.jsonl.gz is llama-3.1's
TYPED = r"(?:suites|judges|baseline|compare_anyway|cluster)\b"  # what a fault of `JudgingKeys` may name


@dataclass
class LocalKeys:
    """A model in Hugging Face format. Its weights must be safetensors; its own chat template is used."""

    path: str | None = None  # a folder or a hub name
    precision: str = "float32"  # or bfloat16
    chat_template: dict[str, Any] = field(default_factory=dict)  # its keys: .enable_thinking=false

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(
                f"is {self.precision!r}", field="subject.precision", fix=f"use {' or '.join(PRECISIONS)}"
            )


def asked_server() -> BudgetedServer:
    """The server of a model that writes whole responses, which take longer than a grade."""
    return BudgetedServer(timeout=120.0)


@dataclass
class SourceKeys:
    """Where one model's responses come from: exactly one of subject.path, server.url, responses and run."""

    subject: LocalKeys = field(default_factory=LocalKeys)
    server: BudgetedServer = field(default_factory=asked_server)
    responses: str | None = None
    columns: ResponseColumns = field(default_factory=ResponseColumns)
    run: str | None = None  # a model that a run trained: results/NAME:METHOD:SEED

    def check(self, place: str) -> None:
        """Raises InputError unless exactly one source is named, wholly."""
        given = [x for x in (self.subject.path, self.server.url, self.responses, self.run) if x]
        if len(given) != 1:
            raise InputError(
                "no model is named" if not given else "more than one source is named",
                field=place or "subject.path, server.url, responses",
                fix="give one of subject.path=FOLDER, server.url=URL with server.model=NAME, responses=FILE, "
                "run=results/NAME:METHOD:SEED",
            )
        if self.server.url:
            self.server.require(f"{place}server")

    @property
    def label(self) -> str:
        """A name for tables and files where none is given."""
        if self.responses:
            return file_name(re.sub(SUFFIXES, "", Path(self.responses).name)) or "responses"
        if self.run:
            return file_name(Path(self.run).name) or "run"
        return file_name(Path(self.server.model or self.subject.path or "").name) or "model"


@dataclass
class DecodingKeys:
    max_new_tokens: int = 256  # limit of a response, its thought included
    temperature: float = 0.0  # 0: greedy
    samples: int = 1  # responses to each prompt; more than one needs a temperature
    batch_size: int = 32  # responses at once; changes speed only
    thoughts: str = AUTO  # how they are marked: auto; none; or the two marks, "<think> </think>"

    def __post_init__(self) -> None:
        pairs_of(self.thoughts, ())
        for name in ("max_new_tokens", "samples", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"is {getattr(self, name)}", field=f"decoding.{name}", fix="give at least 1")
        if not self.temperature >= 0:
            raise InputError(
                f"is {self.temperature}", field="decoding.temperature", fix="give 0 (greedy) or more"
            )
        if self.samples > 1 and self.temperature == 0:
            raise InputError(
                f"{self.samples} greedy samples of a prompt are all the same",
                field="decoding.samples",
                fix="set decoding.temperature above 0, or take one sample",
            )

    def identity(self, seed: int) -> dict[str, Any]:
        """What responses depend on; the seed only where it is drawn from."""
        greedy = self.temperature == 0
        drawn = {} if greedy else {"samples": self.samples, "seed": seed}
        marked = {} if self.thoughts == AUTO else {"thoughts": self.thoughts}
        return {"max_new_tokens": self.max_new_tokens, "temperature": self.temperature} | drawn | marked


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
class CardKeys(Checked):
    """Each judge is measured on people's labels before it is used; the card stands beside its scores."""

    PLACE: ClassVar[str] = "card."
    RANGES: ClassVar[dict[str, Range]] = {"limit": whole(1)}

    labels: str = "xstest"  # xstest, gptfuzz, rbr_gold, polyguard, none, or package.module:attribute
    path: str | None = None  # their folder or file; else they are searched below data.root
    limit: int = 300  # responses that a judge reads for it, drawn at random

    def __post_init__(self) -> None:
        check_kind("labels", self.labels, ("none", *LABELLED), f"{self.PLACE}labels")
        if is_outside(self.labels) and self.path is None:
            fix = f"say where they lie: {self.PLACE}path=PATH"
            raise InputError("labels of your own have no folder", field=f"{self.PLACE}path", fix=fix)
        super().__post_init__()


@dataclass
class CorrectionKeys(Checked):
    """Scores corrected for a judge's mistakes by people's labels on a random few of the same responses."""

    PLACE: ClassVar[str] = "correction."
    RANGES: ClassVar[dict[str, Range]] = {"labels": least(0)}

    by: str | None = None  # the judge whose verdicts are those labels, one of judges=[...]
    labels: int = 0  # how many of them are used, drawn at random; 0: all


@dataclass
class DataKeys:
    root: str | None = None  # folder that holds the suites' folders


def _of_judge(kind: str) -> dict[str, Any]:
    """{setting: type} of a kind of judge; none where there is no such kind, which its builder says."""
    try:
        return keys_of(judge_types(kind))
    except InputError:
        return {}


# `suites=[xstest] suites.xstest.path=FILE`: a list and its members' settings share a name on the command
# line, which Hydra cannot hold in one node. The settings are kept under these fields.
SUITES, JUDGES = Members("suite_paths", {"path": str, "part": str}), Members("judge_settings", _of_judge)


@dataclass(kw_only=True)
class JudgingKeys(Bootstrap, Clusters, Margin):
    """What is asked and who judges it: of `evaluate`, and of `run` below `evaluation.`"""

    suites: list[str] = field(default_factory=list)  # names of suites
    suite_paths: dict[str, Any] = field(default_factory=dict)  # written as suites.NAME.path=FILE, .part=PART
    judges: list[str] = field(default_factory=list)  # who reports, the first leads
    judge_settings: dict[str, Any] = field(default_factory=dict)  # written as judges.NAME.KEY=VALUE
    card: CardKeys = field(default_factory=CardKeys)
    correction: CorrectionKeys = field(default_factory=CorrectionKeys)
    baseline: str | None = None  # a finished evaluation or run to compare with: results/NAME[:METHOD:SEED]
    compare_anyway: bool = False  # compare although judge, suite, template or decoding differ
    to_label: int = 0  # responses of each model on each suite, drawn into to_label.csv for people; 0: none

    MEMBERS: ClassVar[dict[str, Members]] = {"suites": SUITES, "judges": JUDGES}
    RANGES: ClassVar[dict[str, Range]] = {"to_label": least(0)}

    @contextmanager
    def as_typed(self) -> Iterator[None]:
        """Around what knows these keys by their own names: a fault says the key as a person types it."""
        try:
            yield
        except InputError as error:
            known = self.PLACE and re.match(TYPED, error.field or "")
            raise (
                error.inside(self.PLACE.rstrip("."), fix=self._typed(error.fix)) if known else error
            ) from None

    def _typed(self, fix: str) -> str:
        return re.sub(rf"(?<![\w.])(?={TYPED}[.=])", self.PLACE, fix)

    def check_judging(self, own_suites: Sequence[str] = (), own_judges: Sequence[str] = ()) -> None:
        """Raises InputError for names and settings that do not fit; a run's own suite and judges need no asking."""
        with self.as_typed():
            for name in self.suites:
                suite_source(name)
            self._check_members("suites", self.suites, own_suites)
            self._check_members("judges", self.judges, own_judges)
        by, known = self.correction.by, [*own_judges, *self.judges]
        field, judges = f"{self.PLACE}correction.by", f"{self.PLACE}judges=[...]"
        if by is not None and by not in known:
            raise InputError(f"{by!r} is not in {judges}", field=field, fix="add it")
        if by is not None and len(known) < 2:
            fix = f"name the judge that is to be corrected in {judges} too"
            raise InputError("there is no other judge to correct", field=field, fix=fix)

    def _check_members(self, kind: str, names: Sequence[str], own: Sequence[str]) -> None:
        if len(set(names)) != len(names):
            raise InputError("a name stands twice", field=kind, fix="name each once")
        if taken := [name for name in names if name in own]:
            fix = "leave it out" + (
                ", or give another name and judges.NAME.kind=" if kind == "judges" else ""
            )
            raise InputError(f"a run has {taken[0]!r} in any case", field=kind, fix=fix)
        known = {*names, *self._seated()} if kind == "judges" else {*names}
        if others := sorted(set(getattr(self, self.MEMBERS[kind].field)) - known):
            raise InputError(
                f"settings for {others[0]!r}, which is not in {self.PLACE}{kind}=[...]",
                field=f"{kind}.{others[0]}",
                fix=f"add it to {kind}=[...], or remove the setting",
            )

    def _seated(self) -> list[str]:
        """The members of the juries among the judges, whose settings stand with the judges'."""
        juries = [self.settings_of_judge(name) | {"name": name} for name in self.judges]
        members = [of.get("members") for of in juries if of.get("kind", of["name"]) == JURY]
        return [str(member) for of in members if isinstance(of, list) for member in of]

    def suite_path(self, name: str) -> str | None:
        return self.suite_file(name)["path"]

    def suite_file(self, name: str) -> dict[str, str | None]:
        return file_of_suite(self.suite_paths, name)

    def settings_of_judge(self, name: str) -> dict[str, Any]:
        settings = self.judge_settings.get(name, {})
        if not isinstance(settings, dict):
            raise InputError("is not a group", field=f"judges.{name}", fix=f"give judges.{name}.KEY=VALUE")
        return settings


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
        return {name: _with_defaults(_source(name, keys), single) for name, keys in self.models.items()}

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


def file_of_suite(settings: dict[str, Any], name: str) -> dict[str, str | None]:
    """`suites.NAME.path` and `.part`, None where they are not set. Raises InputError for any other setting."""
    of_suite = settings.get(name, {})
    known = ("path", "part")
    if not isinstance(of_suite, dict) or not set(of_suite) <= set(known):
        fix = f"give suites.{name}.path= or suites.{name}.part="
        raise InputError("only `path` and `part` can be set", field=f"suites.{name}", fix=fix)
    return {key: None if of_suite.get(key) is None else str(of_suite[key]) for key in known}


def _source(name: str, keys: object) -> SourceKeys:
    """`models.NAME` as a source. Raises InputError for a key that a source does not have."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        merged = OmegaConf.merge(OmegaConf.structured(SourceKeys), OmegaConf.create({"": escaped(keys)})[""])
        source = OmegaConf.to_object(merged)
    except InputError:
        raise
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        problem = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            problem,
            field=f"models.{name}",
            fix="give subject.path=, server.url=, responses= or run= under it",
        ) from None
    assert isinstance(source, SourceKeys)
    return source


def _with_defaults(source: SourceKeys, shared: SourceKeys) -> SourceKeys:
    columns = shared.columns if source.columns == ResponseColumns() else source.columns
    server = source.server
    if server == replace(asked_server(), url=server.url, model=server.model, revision=server.revision):
        server = replace(shared.server, url=server.url, model=server.model, revision=server.revision)
    return SourceKeys(source.subject, server, source.responses, columns, source.run)


def compose_evaluate(overrides: Sequence[str]) -> EvaluateConfig:
    """Compose and check the keys of one command line. Raises InputError, one line, for what does not fit."""
    return compose_command("evaluate", EvaluateConfig, overrides)
