"""An evaluation by several processes that a launcher started: each has its part of the pairs of model and suite.

They meet in the store: the first one joins what all have asked and judged, and does what a dead one has left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
    """`judge` asks a model for a suite and judges it, or finds that, and `measure` measures a model's capability.

    `shelf` is the folder of the pairs' locks.
    """

    place: Place
    shelf: Path
    judge: Callable[[Model, Suite], Judged]
    measure: Callable[[Model], object]
    made: dict[tuple[str, str], Judged] = field(default_factory=dict)

    def work(self, models: Sequence[Model], suites: Sequence[Suite]) -> None:
        """This process's part: as many pairs as the others have, model by model, and some of the models."""
        pairs = [(model, suite) for model in models for suite in suites]
        rank, count = self.place.rank, self.place.count
        mine = pairs[rank * len(pairs) // count : (rank + 1) * len(pairs) // count]
        measured = {model.name for model in models[rank::count]}
        for model in models:
            for suite in (suite for one, suite in mine if one is model):
                self.judged(model, suite)
            if model.name in measured:
                self.measure(model)
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
