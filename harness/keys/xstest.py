"""The keys of `rbrbench xstest`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from evals.values.errors import InputError
from evals.values.ranges import Range
from harness.keys.evaluate import DataKeys
from harness.keys.shared import Bootstrap, Recorded, Seed, Threads, least


@dataclass(kw_only=True)
class XSTestConfig(Recorded, Bootstrap, Seed, Threads):
    data: DataKeys = field(default_factory=DataKeys)
    encoder: str = ""  # an encoder's folder or hub name, fitted as a judge; empty: no encoder judge
    labels: int = 50  # human labels, drawn at random, that the corrected scores may see
    name: str = "xstest"

    RANGES: ClassVar[dict[str, Range]] = {"labels": least(10)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data.root is None:
            raise InputError("is missing", field="data.root", fix="give the folder that holds xstest/")
