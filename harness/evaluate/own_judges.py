"""Judges that are no third party: the model under test itself, and the grader that paid its reward.

Both are told by their places: the folder or hub name of a model, the address and name of one behind a server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evals.judges.jury import KIND as JURY
from evals.values.errors import InputError
from evals.values.located_yaml import load_located_yaml
from harness.keys.judging import JudgingKeys
from harness.keys.subject import SourceKeys
from harness.record.finished_run import RunAddress

ITSELF = (
    "{judge} is the model that wrote the responses of {model}: a model finds its own responses good too often"
)
PAID = (
    "{judge} asks the grader that paid the reward of {model}: a model that was trained to please it looks better by it "
    "than it is"
)
SOURCE = "{judge} is the model that {model} were trained from, which tends to find their responses good"
CONFIG = "config.yaml"


def places(settings: Mapping[str, Any]) -> set[str]:
    """Of a judge's, a grader's or a model's settings, in the words that two of them can be compared by."""
    found = {_folder(settings[key]) for key in ("model", "path") if isinstance(settings.get(key), str)}
    server = settings.get("server")
    if isinstance(server, Mapping) and server.get("url"):
        found.add(f"{str(server['url']).rstrip('/')} {server.get('model') or settings.get('path') or ''}")
    return found - {""}


def _folder(path: str) -> str:
    place = Path(path).expanduser()
    return str(place.resolve()) if path and place.exists() else path


def judges_places(keys: JudgingKeys, judge: str) -> set[str]:
    """A jury's are those of all its members."""
    settings = keys.settings_of_judge(judge)
    if settings.get("kind", judge) == JURY:
        return {place for member in settings.get("members", ()) for place in judges_places(keys, str(member))}
    return places(settings)


def source_notes(keys: JudgingKeys, judges: Iterable[str], sources: Mapping[str, SourceKeys]) -> list[str]:
    """What a reader must know of judges of an evaluation's models."""
    return list(dict.fromkeys(_source_notes(keys, list(judges), sources)))


def _source_notes(keys: JudgingKeys, judges: list[str], sources: Mapping[str, SourceKeys]) -> Iterator[str]:
    for model, source in sources.items():
        server = {"url": source.server.url, "model": source.server.model}
        itself, paid = places({"path": source.subject.path, "server": server}), _paid_by(source.run)
        for judge in judges:
            asked = judges_places(keys, judge)
            if asked & itself:
                yield f"{ITSELF.format(judge=judge, model=model)}."
            if asked & paid:
                yield f"{PAID.format(judge=judge, model=model)} ({source.run})."


def _paid_by(run: str | None) -> set[str]:
    """The grader of the run that trained a model, as its record says."""
    if not run:
        return set()
    try:
        settings = load_located_yaml(RunAddress.parse(run).folder / CONFIG)
    except InputError:
        return set()
    grader = settings.get("grader")
    return places(grader) if isinstance(grader, Mapping) else set()


def run_notes(
    keys: JudgingKeys, judges: Iterable[str], model: str | None, grader: Mapping[str, Any]
) -> list[str]:
    """The same of a run, whose models were trained from `model` and paid by `grader`."""
    source, paid, told = places({"path": model}), places(grader), "this run's models"
    notes = []
    for judge in judges:
        asked = judges_places(keys, judge)
        if asked & paid:
            notes.append(f"{PAID.format(judge=judge, model=told)}.")
        if asked & source:
            notes.append(f"{SOURCE.format(judge=judge, model=told)}.")
    return notes
