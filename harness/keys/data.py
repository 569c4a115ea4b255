"""The keys of a run's data: the sandbox, the five sets of `data.source=real`, or sources of one's own by part."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from evals.values.choice import Choice
from evals.values.errors import InputError
from evals.values.ranges import Range, check_ranges, whole
from harness.worlds.mixture.parts import PARTS, given_parts, sources_of


class DataSource(Choice):
    SANDBOX = "sandbox"
    REAL = "real"
    FILES = "files"


class TooLong(Choice):
    """What is done with prompts that leave no room for a response."""

    REFUSE = "refuse"
    DROP = "drop"


@dataclass
class DataConfig:
    """A list of sources is `[FILE, NAME_IN_CONF_SOURCES, {path: PATH, columns: {prompt: question}, limit: 100}]`."""

    source: DataSource = DataSource.SANDBOX  # sandbox, real, or files: taken where a part below is given
    root: str | None = None  # folder of the real data sets
    helpful_demonstrations: list[Any] = field(default_factory=list)  # sources of what SFT learns in any case
    safety_demonstrations: list[Any] = field(default_factory=list)  # sources: people's, for Human-SFT
    helpful_comparisons: list[Any] = field(default_factory=list)  # sources: for every reward model
    safety_comparisons: list[Any] = field(default_factory=list)  # sources: people's, for Human-PPO
    helpful_prompts: list[Any] = field(default_factory=list)  # sources: PPO's, paid by the reward model alone
    safety_prompts: list[Any] = field(default_factory=list)  # sources, with response types: paid by rules too
    gold: list[Any] = field(default_factory=list)  # sources: labels of propositions that test the grader
    completions: list[Any] = field(default_factory=list)  # sources: labelled ones that weights are fitted on
    evaluation: list[Any] = field(default_factory=list)  # sources: prompts that every checkpoint is judged on
    held_out: int = 48  # safety prompts, and helpful ones, that are asked on the way and not trained on
    test_share: float = 0.3  # of the completions' prompts: held out to check the fitted reward
    too_long: TooLong = TooLong.REFUSE  # prompts without room for a response: refuse, or drop and count them

    RANGES: ClassVar[dict[str, Range]] = {"held_out": whole(0)}

    def __post_init__(self) -> None:
        parts = given_parts(self)
        if parts and self.source is DataSource.SANDBOX:
            self.source = DataSource.FILES
        if parts and self.source is DataSource.REAL:
            fix = (
                "leave data.source=real out, or name all parts: its five sets are sources of conf/sources too"
            )
            raise InputError("is given beside data.source=real", field=f"data.{parts[0]}", fix=fix)
        if self.source is DataSource.FILES and not parts:
            fix = f"give some of {', '.join(f'data.{name}=[FILE]' for name in PARTS)}"
            raise InputError("no data are named", field="data", fix=fix)
        if self.source is DataSource.REAL and self.root is None:
            raise InputError(
                "is not set", field="data.root", fix="give the folder of the data sets: data.root=PATH"
            )
        if self.root is not None and not Path(self.root).is_dir():
            raise InputError(
                "no such folder", path=self.root, field="data.root", fix="give an existing folder"
            )
        check_ranges(self, "data", self.RANGES)
        if not 0 < self.test_share < 1:
            raise InputError(
                f"is {self.test_share}", field="data.test_share", fix="give a share between 0 and 1"
            )
        for part in parts:
            sources_of(self, part)
