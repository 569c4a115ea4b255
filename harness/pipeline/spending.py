"""What a run asks of servers, and may: counted beside the store by the name of the run, shown, and recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.graders import Grader
from evals.judges import Judge, judge_types
from evals.judges.jury import KIND as JURY
from evals.models.server import ServerSettings
from evals.models.spending import Meter, Spending
from evals.rules.propositions import Proposition
from evals.values.conversation import Response
from evals.values.errors import UndecidableError
from evals.values.grades import Grades
from evals.values.settings import as_type
from harness.evaluate.judging import asked_judge, asked_judges
from harness.evaluate.spending import asked_meters
from harness.keys.run import RunConfig
from harness.keys.shared import file_name
from harness.record.run import SPENT

INTERVAL = 15.0  # seconds between two lines about what was spent


def meter_of(config: RunConfig, settings: ServerSettings) -> Meter:
    """The meter of one of the run's servers."""
    place = settings.PLACE
    name = f"{file_name(config.name)}.{place.partition('.')[0]}.jsonl"
    return Meter(settings, Path(config.results) / SPENT / name, place)


def judges_asked(config: RunConfig) -> dict[str, Judge]:
    """The judges that the keys name; what their servers are asked is counted as the run's. Raises InputError."""
    judges = asked_judges(config.evaluation)
    _keep_judges(config, judges)
    return judges


def judge_asked(config: RunConfig, name: str) -> Judge:
    """One of them alone, counted likewise. Raises InputError."""
    judge = asked_judge(config.evaluation, name)
    _keep_judges(config, {name: judge})
    return judge


def _keep_judges(config: RunConfig, judges: Mapping[str, Judge]) -> None:
    for place, meter in asked_meters((), judges).items():
        meter.keep_in(_file_of_judge(config, f"{config.evaluation.PLACE}{place}.server"))


def _file_of_judge(config: RunConfig, place: str) -> Path:
    return Path(config.results) / SPENT / f"{file_name(f'{config.name}.{place}')}.jsonl"


def _meters_of_judges(config: RunConfig) -> Iterator[Meter]:
    """One for each server of a judge, or of a juror; makes no judge."""
    keys = config.evaluation
    named = {judge: keys.settings_of_judge(judge) for judge in keys.judges}
    juries = [settings for judge, settings in named.items() if settings.get("kind", judge) == JURY]
    for name in dict.fromkeys([*named, *(juror for jury in juries for juror in jury["members"])]):
        settings, place = keys.settings_of_judge(name), f"{keys.PLACE}judges.{name}.server"
        if settings.get("server"):
            known = judge_types(str(settings.get("kind", name))).get("server")
            server = as_type(known, settings["server"], place)
            yield Meter(server, _file_of_judge(config, place), place)


def meters_of(config: RunConfig) -> Iterator[Meter]:
    """One for each server that the run asks."""
    renewal = config.renewal.grader
    for kind, settings in (
        (config.grader.kind, config.grader.server),
        (config.writer.kind, config.writer.server),
        (renewal.teacher.kind if renewal.is_asked else "", renewal.teacher.server),
    ):
        if kind == "server":
            yield meter_of(config, settings)
    yield from _meters_of_judges(config)


def check_budget(meter: Meter) -> None:
    """Raises UndecidableError where a request was not sent for a budget's sake."""
    if not meter.refused:
        return
    named = {"tokens": "max_tokens", "requests": "max_requests"}
    keys = f"{meter.place}.{next((key for word, key in named.items() if word in meter.refused), 'max_cost')}"
    raise UndecidableError(
        f"{meter.place}: {meter.refused} ({meter.said}); what was answered is kept, and the same command with "
        f"another {keys}= goes on from there"
    )


def spending_record(config: RunConfig) -> dict[str, dict[str, Any]]:
    """By group of keys, for the manifest."""
    return {meter.place: meter.as_json() for meter in meters_of(config)}


@dataclass
class Spender:
    """Says what was spent, where it is more than at the last time; `clock` in seconds."""

    config: RunConfig
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    _said: dict[str, Spending] = field(default_factory=dict)
    _last: float = 0.0

    def tell(self, least: float = 0.0) -> None:
        """One line a server, but not within `least` seconds of the last ones."""
        if self.clock() - self._last < least:
            return
        for meter in meters_of(self.config):
            spent = meter.spending
            if spent != self._said.get(meter.place, Spending()):
                self._said[meter.place] = spent
                self._last = self.clock()
                self.say(f"{meter.place}: {meter.said}")


class PaidGrader:
    """A server's grader: says what was spent on the way, and raises UndecidableError once a budget is.

    What was answered before is kept by the cache that it stands before.
    """

    def __init__(self, grader: Grader, meter: Meter, spender: Spender) -> None:
        self.name = grader.name
        self.identity = getattr(grader, "identity", "")
        self.prompt = getattr(grader, "prompt", None)
        self.expect = getattr(grader, "expect", None)
        self._grader, self._meter, self._spender = grader, meter, spender

    def grade(self, responses: Sequence[Response], propositions: Sequence[Proposition]) -> Grades:
        grades = self._grader.grade(responses, propositions)
        self._spender.tell(INTERVAL)
        check_budget(self._meter)
        return grades
