"""An evaluation by several processes that a launcher started: each has its part of the pairs of model and suite.

They meet in the store: the first one joins what all have asked and judged, and does what a dead one has left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from evals.suites import Suite
from evals.values.lock import Holder, held
from harness.evaluate.measuring import Judged
from harness.runtime.place import Place
from harness.storage.digest import digest
from harness.storage.disk import writing
from harness.subjects.model import Model

log = logging.getLogger(__name__)


@dataclass
class Shares:
    """`judge` asks a model for a suite and judges it, or finds that; `shelf` is the folder of the pairs' locks."""

    place: Place
    shelf: Path
    judge: Callable[[Model, Suite], Judged]
    made: dict[tuple[str, str], Judged] = field(default_factory=dict)

    def work(self, models: Sequence[Model], suites: Sequence[Suite]) -> None:
        """This process's part: as many pairs as the others have, those of one model one after another."""
        pairs = [(model, suite) for model in models for suite in suites]
        first, last = (
            rank * len(pairs) // self.place.count for rank in (self.place.rank, self.place.rank + 1)
        )
        for _, of_model in groupby(pairs[first:last], key=lambda pair: pair[0].name):
            for model, suite in of_model:
                self.judged(model, suite)
            if hasattr(model, "unload"):
                model.unload()

    def judged(self, model: Model, suite: Suite) -> Judged:
        """One pair; waits where another process is at it, and finds what that has made."""
        pair = model.name, suite.name
        if pair not in self.made:
            with writing(self.shelf):
                self.shelf.mkdir(parents=True, exist_ok=True)
            key = digest([dict(model.identity), dict(model.decoding), suite.name, suite.version])

            def waiting(holder: Holder | None) -> None:
                by = f" ({holder})" if holder is not None else ""
                log.warning("another process is at %s on %s%s; waiting for it", *pair, by)

            with held(self.shelf / f".lock-{key}", waiting=waiting):
                self.made[pair] = self.judge(model, suite)
        return self.made[pair]
