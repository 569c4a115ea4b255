"""Graders by kind and place, for every command that asks one; what needs torch is imported where it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.graders import Grader
from evals.graders.cache import CachedGrader, GradeCache
from evals.graders.recorded import RecordedGrader
from evals.rules.rulebook import Rulebook
from harness.runtime.libraries import no_progress_bars

if TYPE_CHECKING:  # it loads transformers
    from evals.graders.question import GraderPrompt

GRADES = ".grades.jsonl"  # under the root of results: what models have graded, whichever command asked


@dataclass(frozen=True)
class GraderSpec:
    """A grader that is not loaded yet: its kind, where it lies, and its other keys (of a server: ServerConfig's).

    `name` is for tables and files; empty: the kind. `prompt` is how a language model is asked; None: as it
    was trained, else after the response.
    """

    kind: str
    path: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    prompt: GraderPrompt | None = None


def load_grader(spec: GraderSpec, cache: Path, rulebook: Rulebook, batch_size: int = 64) -> Grader:
    """The grader; one that is a model is kept behind the cache: an edited rule is graded, the rest is found.

    `batch_size` is the number of responses between two writes of the cache. Raises InputError for what does
    not load.
    """
    if spec.kind == "recorded":
        return RecordedGrader(spec.path, spec.name or None, rulebook.prompt_template)
    if spec.kind == "oracle":
        from harness.worlds.sandbox.oracle import oracle_grader

        return oracle_grader(Path(spec.path), spec.name or spec.kind)
    loaders = {"language_model": _language_model, "encoder": _encoder, "server": _server}
    return CachedGrader(loaders[spec.kind](spec), GradeCache(cache), batch_size=batch_size)


def _language_model(spec: GraderSpec) -> Grader:
    from evals.graders.language_model import LanguageModelGrader
    from evals.models.load import load_causal_lm, load_tokenizer

    no_progress_bars()
    model, tokenizer = load_causal_lm(spec.path), load_tokenizer(spec.path)
    return LanguageModelGrader(model, tokenizer, spec.name or spec.kind, spec.prompt)


def _encoder(spec: GraderSpec) -> Grader:
    from evals.graders.encoder import EncoderGrader

    no_progress_bars()
    return EncoderGrader.load(spec.path, spec.name or spec.kind)


def _server(spec: GraderSpec) -> Grader:
    from evals.graders.server import ServerConfig, ServerGrader

    return ServerGrader(ServerConfig(**spec.options), spec.name or spec.kind)
