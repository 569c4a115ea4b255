"""The keys of `rbrbench export`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from evals.suites import suite_source
from evals.values.errors import InputError
from harness.keys.evaluate import DataKeys
from harness.keys.judging import SUITES
from harness.keys.members import Members


@dataclass
class ExportCapabilityKeys:
    root: str | None = None  # folder of the tasks' released files
    tasks: list[str] = field(default_factory=list)  # those to export; []: all of this project's own prompts


@dataclass
class ExportConfig:
    out: str = "lm_eval_tasks"  # the folder that is written
    suites: list[str] = field(default_factory=list)  # names of suites
    suite_paths: dict[str, Any] = field(default_factory=dict)  # written as suites.NAME.path=FILE, .part=PART
    data: DataKeys = field(default_factory=DataKeys)
    capability: ExportCapabilityKeys = field(default_factory=ExportCapabilityKeys)
    knowledge: str | None = None  # a sandbox world's folder of knowledge tasks
    max_new_tokens: int = 256  # limit of a response

    MEMBERS: ClassVar[dict[str, Members]] = {"suites": SUITES}

    def __post_init__(self) -> None:
        if not (self.suites or self.capability.root or self.knowledge):
            fix = "give suites=[xstest,...], capability.root= or knowledge="
            raise InputError("nothing is to be exported", field="suites", fix=fix)
        if self.max_new_tokens < 1:
            raise InputError(f"is {self.max_new_tokens}", field="max_new_tokens", fix="give at least 1")
        for name in self.suites:
            suite_source(name)
        for name in self.suite_paths:
            if name not in self.suites:
                raise InputError("is not in suites=[...]", field=f"suites.{name}", fix="add it")
