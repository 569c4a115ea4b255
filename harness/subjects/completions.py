"""The frozen completions: the fixed truth by which both rewards are judged.

What a completion is (its class, and so its place in the ranking) is read once, from the labels stored
with it. An edited rulebook may sort completions otherwise; that shows in the classes by grades, and
never moves the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conf import CONF
from evals.rules.rulebook import Rulebook, load_rulebook
from evals.values.clusters import PLURAL, cluster_kind, clusters_of
from evals.values.conversation import (
    LabelledResponse,
    Response,
    ResponseType,
    messages_as_json,
    types_in_order,
)
from evals.values.errors import InputError
from evals.values.jsonl_rows import labels_as_json, read_jsonl, read_labelled
from harness.storage.digest import digest
from harness.storage.whole_folder import check_file

SETS = CONF / "gate"
COMPLETIONS, RULEBOOK = "completions.jsonl.gz", "rulebook.yaml"


@dataclass(frozen=True)
class CountedUnits:
    """`kind` is PROMPT, CATEGORY or TOPIC; `ids` names the one of each completion."""

    kind: str
    ids: tuple[str, ...]

    @property
    def plural(self) -> str:
        return PLURAL[self.kind]


@dataclass(frozen=True)
class CompletionSet:
    """Labelled completions with a response type; every sequence runs over completions.

    `digest` names the content: prompts, texts and labels. `left_out` counts rows without a response type.
    """

    path: Path
    name: str
    digest: str
    labelled: tuple[LabelledResponse, ...]
    classes: tuple[str, ...]
    rank: np.ndarray  # [completions] place of the class in the order, 0 is best
    class_order: tuple[str, ...]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.labelled)

    @property
    def responses(self) -> list[Response]:
        return [item.response for item in self.labelled]

    @property
    def prompts(self) -> list[str]:
        return [item.response.prompt.id for item in self.labelled]

    @property
    def types(self) -> list[ResponseType]:
        return [t for item in self.labelled if (t := item.response.prompt.response_type) is not None]

    def counted(self, cluster: str) -> CountedUnits:
        """What tests and intervals count as one. Raises InputError where the prompts do not tell it."""
        prompts = [item.response.prompt for item in self.labelled]
        found = clusters_of(prompts, cluster, f"set {self.name!r}")
        ids = self.prompts if found is None else [found[id] for id in self.prompts]
        return CountedUnits(cluster_kind(prompts, cluster), tuple(ids))

    def rows(self, response_type: ResponseType) -> np.ndarray:
        """Indices of the type's completions."""
        return np.flatnonzero([t is response_type for t in self.types])

    @property
    def response_types(self) -> list[ResponseType]:
        return types_in_order(self.types)


@dataclass(frozen=True)
class CompletionFile:
    """Where the rows lie, and the rulebook that is frozen with them, if any."""

    path: Path
    rulebook: Path | None


def find_completions(on: str) -> CompletionFile:
    """A file, or a set of conf/gate by name. Raises InputError for neither."""
    packaged = SETS / on
    if (packaged / COMPLETIONS).is_file():
        return CompletionFile(packaged / COMPLETIONS, packaged / RULEBOOK)
    if Path(on).is_file():
        return CompletionFile(Path(on), None)
    known = ", ".join(sorted(p.parent.name for p in SETS.glob(f"*/{COMPLETIONS}"))) or "none"
    raise InputError(
        "no such file", path=on, field="on", fix=f"give a labelled .jsonl file, or a set: {known}"
    )


def read_completions(
    file: CompletionFile, rulebook: Rulebook, types: Sequence[ResponseType] = ()
) -> CompletionSet:
    """Read and check the completions; `rulebook` gives the classes' order and reads rows without a class.

    `types` keeps these response types only. Raises InputError, naming file and row, for a malformed
    row, an unknown response type or class, labels that decide no class, two prompts under one id, and
    where nothing is left.
    """
    check_file(file.path)
    everything = read_labelled(file.path, levels=rulebook.levels)
    _check_ids(everything, file.path)
    safety = [item for item in everything if item.response.prompt.response_type is not None]
    kept = [item for item in safety if not types or item.response.prompt.response_type in types]
    if not kept:
        wanted = ", ".join(t.value for t in types) or "any response type"
        raise InputError(
            f"no completion has {wanted}",
            path=file.path,
            field="response_type",
            fix="give labelled completions",
        )
    classes = tuple(_true_class(item, rulebook, file.path) for item in kept)
    return CompletionSet(
        path=file.path,
        name=_name(file.path),
        digest=digest([_content(item, name) for item, name in zip(kept, classes, strict=True)]),
        labelled=tuple(kept),
        classes=classes,
        rank=np.array([rulebook.class_order.index(name) for name in classes]),
        class_order=rulebook.class_order,
        left_out=len(everything) - len(safety),
    )


def set_rulebook(file: CompletionFile) -> Rulebook | None:
    """The rulebook that is frozen with a packaged set."""
    return load_rulebook(file.rulebook) if file.rulebook is not None else None


def has_classes(file: CompletionFile) -> bool:
    """Whether every row of a response type carries its class."""
    rows = read_jsonl(file.path, lambda row: row.values)
    return all(row.get("completion_class") for row in rows if row.get("response_type"))


def _name(path: Path) -> str:
    """The set's own name where its rows carry one (`"set": "sandbox-3"`), else the file's."""
    first = read_jsonl(path, lambda row: row.values)[0]
    return str(first.get("set", path.name))


def _content(item: LabelledResponse, name: str) -> list[object]:
    prompt = item.response.prompt
    kind = prompt.response_type.value if prompt.response_type else None
    return [
        messages_as_json(prompt.messages),
        kind,
        item.response.text,
        name,
        labels_as_json(item.propositions),
    ]


def _true_class(item: LabelledResponse, rulebook: Rulebook, path: Path) -> str:
    response_type, name = item.response.prompt.response_type, item.completion_class
    assert response_type is not None
    prompt = item.response.prompt.id
    if name is None:
        try:
            return rulebook.class_of(response_type, item.propositions)
        except InputError as error:
            fix = "label the completion's class, or give the labels' own rulebook with rulebook="
            raise InputError(f"prompt {prompt!r}: {error}", path=path, fix=fix) from None
    if name not in rulebook.class_order:
        known = ", ".join(rulebook.class_order)
        raise InputError(
            f"unknown class {name!r} of prompt {prompt!r}",
            path=path,
            field="completion_class",
            fix=f"use {known}",
        )
    return name


def _check_ids(items: Sequence[LabelledResponse], path: Path) -> None:
    """One id, one prompt: pairs are made within an id, and tests draw ids."""
    seen: dict[str, object] = {}
    for item in items:
        prompt = item.response.prompt
        if seen.setdefault(prompt.id, prompt) != prompt:
            raise InputError(
                f"id {prompt.id!r} has two different prompts, response types or categories",
                path=path,
                field="id",
                fix="give each prompt its own id",
            )
