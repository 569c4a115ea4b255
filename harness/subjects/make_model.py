"""The model of a source: a folder or hub name, a server, or a file of recorded responses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evals.suites import Suite
from evals.values.errors import InputError
from harness.keys.subject import DecodingKeys, SourceKeys
from harness.subjects.local_model import LocalModel
from harness.subjects.model import Model
from harness.subjects.recorded_model import RecordedModel
from harness.subjects.server_model import ServerModel


def make_model(
    name: str,
    source: SourceKeys,
    decoding: DecodingKeys,
    seed: int,
    suites: Sequence[Suite],
    threads: int,
) -> Model:
    """The model of one source. Its files are read and checked here; weights are loaded when they are needed."""
    if source.responses:
        return RecordedModel.read(name, Path(source.responses), source.columns, suites, decoding.thoughts)
    if source.server.url:
        return ServerModel(name, source.server, decoding, seed)
    if source.subject.path is None:
        raise InputError("no model is named", field="subject.path", fix="give subject.path=FOLDER")
    return LocalModel(name, source.subject, decoding, seed, threads)
