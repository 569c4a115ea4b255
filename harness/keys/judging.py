"""What is asked and who judges it: suites, judges and their settings, of `evaluate` and of `run`. Loads no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from evals.judges import judge_types
from evals.judges.jury import KIND as JURY
from evals.judges.labelled import LABELLED
from evals.suites import suite_source
from evals.values.errors import InputError
from evals.values.kinds import check_kind, is_outside
from evals.values.ranges import Range, whole
from harness.keys.members import Members, keys_of
from harness.keys.shared import Bootstrap, Checked, Clusters, Margin, least

TYPED = r"(?:suites|judges|baseline|compare_anyway|cluster)\b"  # what a fault of `JudgingKeys` may name


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


def file_of_suite(settings: dict[str, Any], name: str) -> dict[str, str | None]:
    """`suites.NAME.path` and `.part`, None where they are not set. Raises InputError for any other setting."""
    of_suite = settings.get(name, {})
    known = ("path", "part")
    if not isinstance(of_suite, dict) or not set(of_suite) <= set(known):
        fix = f"give suites.{name}.path= or suites.{name}.part="
        raise InputError("only `path` and `part` can be set", field=f"suites.{name}", fix=fix)
    return {key: None if of_suite.get(key) is None else str(of_suite[key]) for key in known}
