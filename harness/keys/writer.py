"""Who writes the completions that the weights are fitted on, where the data bring none."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from evals.models.server import Budgeted, ServerSettings
from evals.values.errors import InputError
from evals.values.ranges import POSITIVE, Range, check_ranges, whole

MODEL, SERVER = "language_model", "server"


@dataclass
class WriterServer(Budgeted, ServerSettings):
    """Of writer.kind=server. Budgets count what all runs of this name have asked, one after the other."""

    PLACE: ClassVar[str] = "writer.server"


@dataclass
class WriterKeys:
    """Without a kind, for each safety prompt: refusals written for this project, and responses of the given model.

    A chat model of a kind writes for each an ideal completion, `flawed` ones and one of the rulebook's worst class.
    All are graded, and are of the class that the grades say.
    """

    kind: str | None = None  # language_model or server: a chat model writes; null: refusals of this project
    path: str | None = None  # of the model, null: that of the run; of a server: its name of the model
    chat_template: dict[str, Any] = field(default_factory=dict)  # of a model of path: .enable_thinking=false
    server: WriterServer = field(default_factory=WriterServer)  # of writer.kind=server
    prompts: int = 200  # safety prompts that completions are written for, drawn by seed
    flawed: int = 2  # completions with bad traits that a chat model writes to a prompt
    traits: int = 3  # at most of one of these, drawn by seed from the rulebook's bad propositions
    again: int = 3  # times that a chat model is asked again for a completion of another class than asked for
    written: int = 4  # refusals of a prompt, of as many completion classes as they have; without a kind
    samples: int = 2  # responses of the given model; without a kind
    temperature: float = 1.0  # of what a model writes
    max_new_tokens: int = 48  # of what a model writes, its thought included
    batch_size: int = 32  # completions at once, in process; changes speed only

    RANGES: ClassVar[dict[str, Range]] = {
        "prompts max_new_tokens traits batch_size": whole(1),
        "written samples flawed again": whole(0),
        "temperature": POSITIVE,
    }

    def __post_init__(self) -> None:
        check_ranges(self, "writer", self.RANGES)
        if self.kind not in (None, MODEL, SERVER):
            fix = f"use {MODEL} or {SERVER}, or leave it out"
            raise InputError(f"unknown writer {self.kind!r}", field="writer.kind", fix=fix)
        if self.kind is None and (self.path or self.server.url):
            field = "writer.path" if self.path else "writer.server.url"
            raise InputError("is given, and no kind", field=field, fix=f"say writer.kind={MODEL} or {SERVER}")

        if self.chat_template and (self.kind != MODEL or not self.path):
            where = "writer.server.chat_template" if self.kind == SERVER else "model.chat_template"
            problem = "is of a model in a folder of its own, and none is named"
            raise InputError(problem, field="writer.chat_template", fix=f"say {where}, or writer.path=FOLDER")

    @property
    def asked_server(self) -> WriterServer:
        """With its model. Raises InputError where server or model is not named."""
        server = replace(self.server, model=self.path or self.server.model)
        server.require(server.PLACE)
        return server
