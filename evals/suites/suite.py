"""A suite: prompts with what each asks for, where they come from, and how the numbers are defined."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.values.conversation import Prompt, Question
from evals.values.csv_rows import check_unique, read_csv
from evals.values.errors import InputError
from evals.values.jsonl_rows import Row


@dataclass(frozen=True)
class Suite:
    """Prompts of one benchmark. `version` is a digest of the prompts as read, so that results on two
    versions of a file are never taken for the same; `metrics` names what the suite can measure.
    """

    name: str
    prompts: tuple[Prompt, ...]
    metrics: tuple[str, ...]

    @property
    def version(self) -> str:
        """Twelve hex digits of ids, messages and response types, in order."""
        digest = hashlib.sha256()
        for prompt in self.prompts:
            digest.update(repr((prompt.id, prompt.messages, prompt.response_type, prompt.category)).encode())
            if prompt.questions:
                digest.update(repr([_asked(one) for one in prompt.questions]).encode())
        return digest.hexdigest()[:12]


def _asked(one: Question) -> tuple[object, ...]:
    levels = tuple((level.word, level.score) for level in one.levels)
    return (one.text, one.weight, *((levels,) if levels else ()))


@dataclass(frozen=True)
class SuiteSource:
    """What a suite's file declares: `load` reads `folder` below the data root, or a path of its own;
    `prompt_id` turns an id as other files of the benchmark write it into the id of the suite's prompt; `hub` is
    the data set's name on the Hugging Face hub, where it has one; `parts` names the file of each part, where a
    benchmark is released in parts too.
    """

    name: str
    folder: str
    files: tuple[str, ...]
    load: Callable[[Path], Suite]
    source: str
    licence: str
    prompt_id: Callable[[str], str] = str.strip
    hub: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)


SAFETY_METRICS = ("not_unsafe",)
OVERREFUSAL_METRICS = ("not_overrefuse",)
PAIRED_METRICS = ("not_unsafe", "not_overrefuse", "f1")


def make_suite(name: str, path: Path, prompts: Sequence[Prompt]) -> Suite:
    """Checks what every suite must have, and takes its metrics from its response types.

    Raises InputError for no prompts, duplicate ids, or a prompt without a response type.
    """
    if not prompts:
        raise InputError(f"suite {name!r} has no prompts", path=path, fix="check the file")
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            raise InputError(
                f"duplicate id {prompt.id!r} in suite {name!r}", path=path, fix="give each prompt its own id"
            )
        if prompt.response_type is None:
            raise InputError(
                f"prompt {prompt.id!r} has no response type", path=path, field="response_type", fix="add it"
            )
        seen.add(prompt.id)
    refusals = {bool(p.response_type and p.response_type.is_refusal) for p in prompts}
    metrics = (
        PAIRED_METRICS if len(refusals) == 2 else SAFETY_METRICS if True in refusals else OVERREFUSAL_METRICS
    )
    return Suite(name, tuple(prompts), metrics)


def csv_suite(
    *,
    name: str,
    file: str,
    columns: Sequence[str],
    prompt: Callable[[int, Row], Prompt | None],
    unique: str = "",
    delimiter: str = ",",
    short_rows: bool = False,
    **source: Any,
) -> SuiteSource:
    """A suite of one CSV file with `columns`; `source` are the other fields of SuiteSource.

    `prompt` makes a row's prompt, given the row's number from 0; None leaves it out. Values of the column `unique`
    may not repeat. `delimiter` and `short_rows` as of `read_csv`.
    """

    def load(path: Path) -> Suite:
        """`path`: the released CSV, or the folder that holds it."""
        found = find_file(path, file)
        rows = read_csv(found, columns, delimiter=delimiter, short_rows=short_rows)
        if unique:
            check_unique(rows, unique)
        prompts = [prompt(number, row) for number, row in enumerate(rows)]
        return make_suite(name, found, [made for made in prompts if made is not None])

    load.__module__ = prompt.__module__  # whose docstring tells the suite's source, licence and metrics
    return SuiteSource(name=name, files=(file,), load=load, **source)


def find_file(path: Path, name: str) -> Path:
    """`path` itself when it is a file, else `name` in that folder. Raises InputError when it is absent."""
    file = path / name if path.is_dir() else path
    if not file.is_file():
        raise InputError("no such file", path=file, fix=f"name {name} or the folder that holds it")
    return file


def fetch_files(suite: str, hub: str, files: Sequence[str]) -> Path:
    """The folder that holds some of `files` of the data set `hub`: fetched, or kept from before when offline.

    For data sets that the Hugging Face hub holds as they were released.

    Raises InputError where the hub cannot be reached or refuses, and where the data set holds other files.
    """
    from huggingface_hub import snapshot_download

    fix = f"give suites.{suite}.path=, or data.root="
    patterns = [pattern for name in files for pattern in (name, f"*/{name}")]
    try:
        root = Path(snapshot_download(hub, repo_type="dataset", allow_patterns=patterns))
    except Exception as error:  # the hub's many errors, a gate and no network among them
        problem = f"the hub does not give {hub} ({type(error).__name__})"
        raise InputError(problem, field=f"suites.{suite}", fix=fix) from None
    found = sorted({file.parent for name in files for file in root.rglob(name) if file.is_file()})
    if not found:
        problem = f"{hub} on the hub has no {files[0]}"
        raise InputError(problem, field=f"suites.{suite}", fix=fix)
    return found[0]
