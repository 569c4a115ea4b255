"""Judges that are no third party: the model under test itself, and the grader that paid its reward.

Both are told by their places: the folder or hub name of a model, the address and name of one behind a server. A copy of
a folder is known by its weights, an address by the machine and port that it names, and a hub name wherever it is said,
by a server too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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
LOOPBACK = ("localhost", "127.0.0.1", "::1", "0.0.0.0")
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
READ = 1 << 20  # bytes at each end of a file of weights


def places(settings: Mapping[str, Any]) -> set[str]:
    """Of a judge's, a grader's or a model's settings, in the words that two of them can be compared by."""
    said = [settings[key] for key in ("model", "path") if isinstance(settings.get(key), str)]
    found = {place for path in said for place in (_folder(path), _hub_name(path), _weights(path))}
    server = settings.get("server")
    if isinstance(server, Mapping) and server.get("url"):
        name = str(server.get("model") or settings.get("path") or "")
        found |= {f"{_address(str(server['url']))} {name}", _hub_name(name)}
    return found - {""}


def _folder(path: str) -> str:
    place = Path(path).expanduser()
    return str(place.resolve()) if path and place.exists() else path


def _address(url: str) -> str:
    """The machine and port, whatever each is called: a loopback's names are one, and `/v1` is an API's."""
    parts = urlsplit(url)
    host = "localhost" if parts.hostname in LOOPBACK else parts.hostname
    port = parts.port or {"https": 443}.get(parts.scheme, 80)
    return f"{host}:{port}{parts.path.rstrip('/').removesuffix('/v1')}"


def _hub_name(name: str) -> str:
    """`org/name` in small letters; "" for anything else, a folder's path too."""
    return name.lower() if HUB_NAME.fullmatch(name) and not Path(name).exists() else ""


def _weights(path: str) -> str:
    """A digest of the sizes, headers and ends of a folder's weights; "" where there are none, or none can be read."""
    digest = hashlib.sha256()
    try:
        files = sorted(Path(path).expanduser().glob("*.safetensors")) if path else []
        for file in files:
            size = file.stat().st_size
            with file.open("rb") as weights:
                digest.update(f"{size} ".encode() + weights.read(READ))
                weights.seek(max(0, size - READ))
                digest.update(weights.read(READ))
    except OSError:
        return ""
    return f"weights {digest.hexdigest()[:16]}" if files else ""


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
