"""What a command asks of servers, each time that it is given: budgets count it, its record and its page say it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.judges import Judge
from evals.judges.jury import Jury
from evals.models.spending import Meter
from harness.keys.shared import file_name
from harness.record.run import SPENT
from harness.storage.digest import digest
from harness.subjects.model import Model


def asked_meters(models: Sequence[Model], judges: Mapping[str, Judge]) -> dict[str, Meter]:
    """Those of servers: a model's by its name, a judge's and that of a jury's member as `judges.NAME`."""
    return meters_of({model.name: model for model in models} | dict(_judges(judges)))


def meters_of(named: Mapping[str, object]) -> dict[str, Meter]:
    """Those of what asks a server, by its name; a meter that several share stands under the first one's."""
    found: dict[str, Meter] = {}
    for name, one in named.items():
        meter = getattr(one, "meter", None)
        if isinstance(meter, Meter) and all(meter is not other for other in found.values()):
            found[name] = meter
    return found


def _judges(judges: Mapping[str, Judge]) -> Iterator[tuple[str, Judge]]:
    for name, judge in judges.items():
        yield f"judges.{name}", judge
        if isinstance(judge, Jury):
            yield from _judges(judge.members)


def keep_spending(meters: Mapping[str, Meter], results: Path, name: str, owner: str) -> None:
    """Have them go on from what the evaluation or set of this `name`, of the digest `owner`, has asked before."""
    for one, meter in meters.items():
        meter.keep_in(results / SPENT / f"{file_name(name)}.{owner[:12]}.{file_name(one)}.jsonl")


def spending_record(meters: Mapping[str, Meter]) -> dict[str, Any]:
    """Of those that were asked, for the manifest."""
    return {name: meter.as_json() for name, meter in meters.items() if meter.spending.requests}


def keep_graders(
    graders: Mapping[str, object], command: str, results: str, name: str, about: object
) -> dict[str, Meter]:
    """The meters of graders' servers, which go on from what the same `command` with this `name` has asked before.

    `about` are the keys that tell it from others of its name.
    """
    meters = meters_of(graders)
    keep_spending(meters, Path(results), name, digest({command: about}))
    return meters
