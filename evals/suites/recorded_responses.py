"""Responses that a model gave before, read from a CSV or JSONL file and matched to a suite's prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.suites import Suite, suite_source
from evals.values.conversation import Prompt, Response
from evals.values.csv_rows import read_csv
from evals.values.errors import InputError
from evals.values.jsonl_rows import Row, read_jsonl


@dataclass
class ResponseColumns:
    """Names of the columns (CSV) or fields (JSONL). An empty name means that the file has none."""

    id: str = "id"  # of the prompt
    response: str = "response"  # its text
    prompt: str = ""  # compared with the suite's own wording
    sample: str = ""  # several responses to one prompt, numbered
    suite: str = ""  # names each row's suite, in a file of several

    def __post_init__(self) -> None:
        for name in ("id", "response"):
            if not getattr(self, name):
                raise InputError("is empty", field=f"columns.{name}", fix="name the file's column")


@dataclass(frozen=True)
class RecordedResponses:
    """In the order of the suite's prompts, then of samples. `reworded`: ids whose recorded prompt differs."""

    responses: tuple[Response, ...]
    reworded: tuple[str, ...] = ()


def read_responses(
    path: Path | str, suites: Sequence[Suite], columns: ResponseColumns | None = None
) -> dict[str, RecordedResponses]:
    """{suite: its responses} of a file that holds several suites, told by `columns.suite`.

    Raises InputError, naming file, line and field, for a missing column, a duplicate (id, sample), an id that
    the suite does not have, a prompt of a suite without a response, a row of a suite that is not among
    `suites`, and for several suites without that column.
    """
    path, columns = Path(path), columns or ResponseColumns()
    if len(suites) > 1 and not columns.suite:
        raise InputError(
            f"one file of responses for {len(suites)} suites",
            path=path,
            field="columns.suite",
            fix="name the column that names each row's suite, or evaluate one suite a file",
        )
    by_suite: dict[str, list[Row]] = {suite.name: [] for suite in suites}
    for row in _rows(path, columns):
        name = str(row.values[columns.suite]) if columns.suite else suites[0].name
        if name not in by_suite:
            raise row.error(
                columns.suite, f"{name!r} is not among the suites", f"use one of {', '.join(by_suite)}"
            )
        by_suite[name].append(row)
    return {suite.name: _match(path, by_suite[suite.name], suite, columns) for suite in suites}


def _match(path: Path, rows: Sequence[Row], suite: Suite, columns: ResponseColumns) -> RecordedResponses:
    prompts = {prompt.id: prompt for prompt in suite.prompts}
    found: dict[tuple[str, int], tuple[Row, Response]] = {}
    reworded = []
    for row in rows:
        id = _known_id(row, columns, suite, prompts)
        key = id, _sample(row, columns)
        if key in found:
            first = found[key][0].line
            raise row.error(columns.id, f"duplicate {id!r}, first on line {first}", "keep one of the two")
        found[key] = row, Response(prompts[id], str(row.values[columns.response]), key[1])
        if columns.prompt and str(row.values[columns.prompt]).strip() != prompts[id].text.strip():
            reworded.append(id)
    _check_complete(path, columns, suite.prompts, {id for id, _ in found})
    order = {prompt.id: place for place, prompt in enumerate(suite.prompts)}
    keys = sorted(found, key=lambda key: (order[key[0]], key[1]))
    return RecordedResponses(tuple(found[key][1] for key in keys), tuple(dict.fromkeys(reworded)))


def _rows(path: Path, columns: ResponseColumns) -> list[Row]:
    names = (columns.id, columns.response, columns.prompt, columns.sample, columns.suite)
    needed = [name for name in names if name]
    if path.name.endswith((".csv", ".csv.gz")):
        return read_csv(path, needed)
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return read_jsonl(path, lambda row: _check(row, needed, columns.response))
    raise InputError("neither CSV nor JSONL", path=path, fix="name a file that ends in .csv or .jsonl")


def _check(row: Row, needed: Sequence[str], response: str) -> Row:
    for name in needed:
        row.get(name, str if name == response else object)
    return row


def _known_id(row: Row, columns: ResponseColumns, suite: Suite, prompts: dict[str, Prompt]) -> str:
    given = str(row.values[columns.id])
    id = given if given in prompts else suite_source(suite.name).prompt_id(given)
    if id not in prompts:
        raise row.error(
            columns.id,
            f"suite {suite.name!r} has no prompt {given!r}",
            "give responses to this suite's prompts",
        )
    return id


def _sample(row: Row, columns: ResponseColumns) -> int:
    if not columns.sample:
        return 0
    text = str(row.values[columns.sample])
    if not text.isdecimal():
        raise row.error(columns.sample, f"{text!r} is not a number", "number the samples 0, 1, 2, ...")
    return int(text)


def _check_complete(path: Path, columns: ResponseColumns, prompts: Sequence[Prompt], found: set[str]) -> None:
    missing = [prompt.id for prompt in prompts if prompt.id not in found]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(prompts)} prompts have no response, {missing[0]!r} first",
            path=path,
            field=columns.id,
            fix="add their responses, or take a suite of fewer prompts",
        )
