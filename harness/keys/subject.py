"""The model that is asked and how it writes: a folder, a server, recorded responses, a run's model. Loads no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evals.models.server import BudgetedServer
from evals.models.thoughts import AUTO, pairs_of
from evals.suites.recorded_responses import ResponseColumns
from evals.values.errors import InputError
from harness.keys.shared import file_name
from harness.keys.typed import escaped

PRECISIONS = ("float32", "bfloat16")
SUFFIXES = r"(\.(csv|tsv|json|jsonl|txt|gz))+$"  # of a file of responses: llama-3.1.jsonl.gz is llama-3.1's


@dataclass
class LocalKeys:
    """A model in Hugging Face format. Its weights must be safetensors; its own chat template is used."""

    path: str | None = None  # a folder or a hub name
    precision: str = "float32"  # or bfloat16
    chat_template: dict[str, Any] = field(default_factory=dict)  # its keys: .enable_thinking=false

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(
                f"is {self.precision!r}", field="subject.precision", fix=f"use {' or '.join(PRECISIONS)}"
            )


def asked_server() -> BudgetedServer:
    """The server of a model that writes whole responses, which take longer than a grade."""
    return BudgetedServer(timeout=120.0)


@dataclass
class SourceKeys:
    """Where one model's responses come from: exactly one of subject.path, server.url, responses and run."""

    subject: LocalKeys = field(default_factory=LocalKeys)
    server: BudgetedServer = field(default_factory=asked_server)
    responses: str | None = None
    columns: ResponseColumns = field(default_factory=ResponseColumns)
    run: str | None = None  # a model that a run trained: results/NAME:METHOD:SEED

    def check(self, place: str) -> None:
        """Raises InputError unless exactly one source is named, wholly."""
        given = [x for x in (self.subject.path, self.server.url, self.responses, self.run) if x]
        if len(given) != 1:
            raise InputError(
                "no model is named" if not given else "more than one source is named",
                field=place or "subject.path, server.url, responses",
                fix="give one of subject.path=FOLDER, server.url=URL with server.model=NAME, responses=FILE, "
                "run=results/NAME:METHOD:SEED",
            )
        if self.server.url:
            self.server.require(f"{place}server")

    @property
    def label(self) -> str:
        """A name for tables and files where none is given."""
        if self.responses:
            return file_name(re.sub(SUFFIXES, "", Path(self.responses).name)) or "responses"
        if self.run:
            return file_name(Path(self.run).name) or "run"
        return file_name(Path(self.server.model or self.subject.path or "").name) or "model"


@dataclass
class DecodingKeys:
    max_new_tokens: int = 256  # limit of a response, its thought included
    temperature: float = 0.0  # 0: greedy
    samples: int = 1  # responses to each prompt; more than one needs a temperature
    batch_size: int = 32  # responses at once; changes speed only
    thoughts: str = AUTO  # how they are marked: auto; none; or the two marks, "<think> </think>"

    def __post_init__(self) -> None:
        pairs_of(self.thoughts, ())
        for name in ("max_new_tokens", "samples", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"is {getattr(self, name)}", field=f"decoding.{name}", fix="give at least 1")
        if not self.temperature >= 0:
            raise InputError(
                f"is {self.temperature}", field="decoding.temperature", fix="give 0 (greedy) or more"
            )
        if self.samples > 1 and self.temperature == 0:
            raise InputError(
                f"{self.samples} greedy samples of a prompt are all the same",
                field="decoding.samples",
                fix="set decoding.temperature above 0, or take one sample",
            )

    def identity(self, seed: int) -> dict[str, Any]:
        """What responses depend on; the seed only where it is drawn from."""
        greedy = self.temperature == 0
        drawn = {} if greedy else {"samples": self.samples, "seed": seed}
        marked = {} if self.thoughts == AUTO else {"thoughts": self.thoughts}
        return {"max_new_tokens": self.max_new_tokens, "temperature": self.temperature} | drawn | marked


def source_of(name: str, keys: object) -> SourceKeys:
    """`models.NAME` as a source. Raises InputError for a key that a source does not have."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        merged = OmegaConf.merge(OmegaConf.structured(SourceKeys), OmegaConf.create({"": escaped(keys)})[""])
        source = OmegaConf.to_object(merged)
    except InputError:
        raise
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        problem = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            problem,
            field=f"models.{name}",
            fix="give subject.path=, server.url=, responses= or run= under it",
        ) from None
    assert isinstance(source, SourceKeys)
    return source


def with_defaults(source: SourceKeys, shared: SourceKeys) -> SourceKeys:
    """With the server and column settings of `shared` where the source has none of its own."""
    columns = shared.columns if source.columns == ResponseColumns() else source.columns
    server = source.server
    if server == replace(asked_server(), url=server.url, model=server.model, revision=server.revision):
        server = replace(shared.server, url=server.url, model=server.model, revision=server.revision)
    return SourceKeys(source.subject, server, source.responses, columns, source.run)
