"""Graders as commands ask them: one that is a model is kept behind the cache of grades."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.graders import Grader, GraderSpec, build_grader
from evals.graders.cache import CachedGrader, GradeCache
from evals.graders.oracle import OracleGrader
from evals.models.server import GraderServerSettings
from evals.rules.questions import propositions_of
from evals.rules.rulebook import Rulebook
from evals.values.conversation import LabelledResponse, Message, Prompt
from evals.values.errors import InputError
from evals.values.levels import Label
from harness.keys.graders import GRADER_KINDS, MODELS, AskedBy
from harness.runtime.libraries import no_progress_bars
from harness.storage.whole_folder import check_file

if TYPE_CHECKING:  # it loads transformers
    from evals.graders.question import GraderPrompt

GRADES = ".grades.jsonl"  # under the root of results: what models have graded, whichever command asked
LABELS = "labels"  # the name of the grader that labels are


def load_grader(spec: GraderSpec, cache: Path, rulebook: Rulebook, batch_size: int = 64) -> Grader:
    """The grader; one that is a model is kept behind the cache: an edited rule is graded, the rest is found.

    A grader whose `identity` says what its grades depend on is such a model; one without is asked each time.
    `batch_size` is the number of responses between two writes of the cache. Raises InputError for what does
    not load.
    """
    if spec.kind in MODELS:
        no_progress_bars()
    if spec.kind == "recorded":
        check_file(spec.path)
    grader = build_grader(spec, rulebook, GRADER_KINDS)
    if not getattr(grader, "identity", None):
        return grader
    return CachedGrader(grader, GradeCache(cache), batch_size=batch_size)


def prompt_of_question(kind: str, asked_by: AskedBy, rulebook: Rulebook) -> GraderPrompt | None:
    """How a grader of that kind puts a question, where it is not left to the grader. Raises InputError."""
    if kind != "language_model" or asked_by is not AskedBy.RULEBOOK:
        return None
    from evals.graders.question import GraderPrompt, Layout

    if rulebook.prompt_template is None:
        raise InputError(
            "the rulebook has no prompt_template", path=rulebook.path, fix="add one, or use asked_by=model"
        )
    return GraderPrompt(Layout.QUESTION_FIRST, rulebook.prompt_template)


def spec_of(
    kind: str,
    path: str | None,
    server: GraderServerSettings,
    asked_by: AskedBy,
    rulebook: Rulebook,
    name: str,
    chat_template: Mapping[str, Any] | None = None,
) -> GraderSpec:
    """Where a grader lies and how it is asked; `path` of a server is its name of the model.

    Raises InputError for a server that is not named.
    """
    if kind == "server":
        server = replace(server, model=path or server.model)
        server.require(server.PLACE)
        return GraderSpec(kind, server=server, name=name)
    prompt = prompt_of_question(kind, asked_by, rulebook)
    return GraderSpec(kind, path or "", name=name, prompt=prompt, chat_template=chat_template or {})


def is_plain_encoder(kind: str, path: str | None) -> bool:
    """Whether it is an encoder without a head: a folder that has none, or a name on the hub."""
    if kind != "encoder":
        return False
    from evals.graders.encoder import HEAD

    return not (Path(str(path)).expanduser() / HEAD).is_file()


def _labels(item: LabelledResponse) -> Mapping[str, Label]:
    own = propositions_of(item.response.prompt.questions)
    asked = {p.name: item.propositions[p.question] for p in own if p.question in item.propositions}
    return {**item.propositions, **asked}


def label_grader(labelled: Iterable[LabelledResponse]) -> OracleGrader:
    """The completions' own labels as grades: what the rules are worth when nobody misreads a response.

    A question that a prompt brings along is labelled by its text.
    """
    truth: dict[tuple[tuple[Message, ...], str], Mapping[str, Label]] = {
        (item.response.prompt.messages, item.response.text): _labels(item) for item in labelled
    }

    def look_up(prompt: Prompt, text: str) -> Mapping[str, Label]:
        return truth[prompt.messages, text]

    return OracleGrader(look_up, LABELS)
