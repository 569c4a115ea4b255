"""The keys of `rbrbench xstest`."""

from __future__ import annotations

from dataclasses import dataclass, field

from evals.values.errors import InputError
from harness.keys.evaluate import DataKeys
from harness.keys.shared import check_least, check_name


@dataclass
class XSTestConfig:
    data: DataKeys = field(default_factory=DataKeys)
    encoder: str = ""  # an encoder's folder or hub name, fitted as a judge; empty: no encoder judge
    labels: int = 50  # human labels, drawn at random, that the corrected scores may see
    draws: int = 2000  # bootstrap draws of an interval
    seed: int = 0  # of the labels drawn
    threads: int = 2  # processor threads
    name: str = "xstest"  # results/NAME
    results: str = "results"  # root folder of results

    def __post_init__(self) -> None:
        check_least(self, labels=10, draws=100, threads=1, seed=0)
        if self.data.root is None:
            raise InputError("is missing", field="data.root", fix="give the folder that holds xstest/")
        check_name(self.name)
