"""Finished runs and evaluations as one table, paired by seed, and prompt by prompt where both have verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from evals.values.errors import InputError
from evals.values.metrics_table import MetricRow, write_metrics
from harness.evaluate.comparable import ModelSide, obstacles
from harness.evaluate.comparing import COMPARISONS, compare, write_comparisons
from harness.keys.side_by_side import CompareConfig
from harness.record.evaluation import Evaluation
from harness.record.manifest import Kind, kind_of, recording
from harness.record.run import ResultsFolder
from harness.storage.ownership import PLAN

COMPARED = (Kind.RUN, Kind.EVALUATION)


@dataclass(frozen=True)
class Side:
    """One folder of results; `record` is None where it kept no verdict of every response."""

    name: str
    folder: ResultsFolder
    record: Evaluation | None

    @property
    def rows(self) -> list[MetricRow]:
        return [replace(row, method=within(row.method, self.name)) for row in self.folder.metrics]


def within(method: str, name: str) -> str:
    """`rbr_ppo[x=1]` of the results `name` is rbr_ppo[name,x=1]."""
    base, bracket, variant = method.partition("[")
    return f"{base}[{name},{variant}" if bracket else f"{base}[{name}]"


def compare_results(places: Sequence[str], config: CompareConfig, command: Sequence[str]) -> Path:
    """Write the record of a comparison, and draw nothing; the folder.

    Raises InputError for fewer than two folders, and for one that no `run` or `evaluate` has finished.
    """
    if len(places) < 2:
        raise InputError(
            "two folders of results are needed", fix="write rbrbench compare results/A results/B"
        )
    sides = [_side(name, Path(place)) for name, place in zip(_names(places), places, strict=True)]
    pairs = list(_pairs(sides))
    rows = compare(pairs, margin=config.margin, equivalent=config.equivalent)
    about: dict[str, Any] = {
        "tolerance": config.margin,
        "margin": config.equivalent,
        "compared": {side.name: str(place) for side, place in zip(sides, places, strict=True)},
        "outside_methods": [m for side in sides for m in side.folder.manifest.get("outside_methods", [])],
    }
    folder = Path(config.results) / config.name
    with recording(folder, Kind.COMPARISON, config.name, command, list(_notes(sides, pairs)), **about) as new:
        write_metrics(new / "metrics.csv", [row for side in sides for row in side.rows])
        write_comparisons(new / COMPARISONS, rows)
    return folder


def _names(places: Sequence[str]) -> list[str]:
    """The folders' names, with as many of their parents' as tell them apart. Raises InputError for one named twice."""
    paths = [Path(place).resolve().parts for place in places]
    for parts in range(1, max(map(len, paths)) + 1):
        names = ["-".join(path[-parts:]) for path in paths]
        if len({*names}) == len(names):
            return names
    twice = next(place for place, path in zip(places, paths, strict=True) if paths.count(path) > 1)
    raise InputError("is named twice", path=twice, fix="name each folder once")


def _side(name: str, place: Path) -> Side:
    if not place.is_dir():
        raise InputError("no such folder", path=place, fix="name folders of results, results/NAME")
    if kind_of(place) not in COMPARED:
        fix = "name folders that `rbrbench run` or `rbrbench evaluate` has finished"
        if (place / PLAN).is_file():
            fix = f"`rbrbench report {place}` first draws what the jobs of its sweep have made"
        raise InputError("no finished run or evaluation lies here", path=place, fix=fix)
    folder = ResultsFolder(place)
    try:
        return Side(name, folder, Evaluation(place, every_checkpoint=True))
    except InputError:
        return Side(name, folder, None)


def _pairs(sides: Sequence[Side]) -> Iterator[tuple[ModelSide, ModelSide]]:
    """Models of two folders by the same method and seed; an evaluated model, which has neither, with each."""
    for one, other in combinations(sides, 2):
        for a in _models(one):
            for b in _models(other):
                if _asked(a) == _asked(b) or None in (_asked(a), _asked(b)):
                    yield a, b


def _models(side: Side) -> list[ModelSide]:
    if side.record is None:
        return []
    return [ModelSide(side.record, model, f"{model} ({side.name})") for model in side.record.models]


def _asked(side: ModelSide) -> tuple[object, object] | None:
    """Method, with its variant, and seed of a run's model."""
    about = side.evaluation.record["models"][side.model]
    return (about["method"], about["seed"]) if "method" in about else None


def _notes(sides: Sequence[Side], pairs: Sequence[tuple[ModelSide, ModelSide]]) -> Iterator[str]:
    for side in sides:
        if side.record is None:
            yield f"{side.name} kept no verdict of every response: it is compared by its metrics alone."
        yield from (f"{side.name}: {note}" for note in side.folder.manifest.get("notes", []))
    if not pairs:
        yield "No two models have method and seed in common: nothing is compared prompt by prompt."
    found = {"; ".join(told) for a, b in pairs if (told := obstacles(a, b))}
    yield from (f"Some pairs differ in more than the model: {told}." for told in sorted(found))
