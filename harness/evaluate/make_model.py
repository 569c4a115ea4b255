"""The model of a source: a folder or hub name, a server, or a file of recorded responses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evals.errors import InputError
from evals.suites import Suite
from harness.evaluate.config import DecodingKeys, SourceKeys
from harness.evaluate.model import Model


def make_model(
    name: str, source: SourceKeys, decoding: DecodingKeys, seed: int, suites: Sequence[Suite], threads: int
) -> Model:
    """The model of one source. Its files are read and checked here; weights are loaded when they are needed."""
    if source.responses:
        from harness.evaluate.recorded_model import RecordedModel

        return RecordedModel.read(name, Path(source.responses), source.columns, suites)
    if source.server.url:
        from harness.evaluate.server_model import ServerModel

        return ServerModel(name, source.server, decoding, seed)
    from harness.evaluate.local_model import LocalModel

    if source.model.path is None:
        raise InputError("no model is named", field="model.path", fix="give model.path=FOLDER")
    return LocalModel(name, source.model, decoding, seed, threads)
