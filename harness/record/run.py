"""A results folder as plots and report read it: files in, plain values out; what is absent is empty.

Only metrics.csv, or a manifest with its kind, must be there. Files (one JSON object a line where .jsonl):

- training.jsonl   `method, seed, update` and the numbers of each update
- rewards.jsonl    `seed, prompt_id, response_type, completion_class, rm, rbr, rm+rbr` of held-out responses
- grader.csv       one row a (seed, grader, proposition)
- grader_by_type.csv   the same by response type, as far as its classes use the proposition
- rules.csv, learning_curve.csv, ablations.csv, worst_pairs.jsonl   see `harness.record.reward_rows`
- attribution.jsonl   `seed, method, part, group` and how far the training went to its ceiling
- shared_errors.csv    one row a (seed, `of`, response type, proposition): how often grader and judge are wrong together
- writing.csv      one row a (seed, response type, class) of what a chat model was asked to write, and wrote
- samples/METHOD.jsonl, verdicts/METHOD.jsonl.gz   see `harness.record.samples`; rows of real suites have no `prompt`
- capability/METHOD.jsonl.gz   see `harness.record.evaluation`
- stages.jsonl, manifest.json, config.yaml
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from evals.graders.calibration import MEAN
from evals.values.csv_rows import read_csv
from evals.values.errors import InputError
from evals.values.jsonl_rows import Row, read_jsonl
from evals.values.metrics_table import MetricRow, read_metrics
from harness.findings.frontier import Scores
from harness.findings.papers_claims import ACCURACY, GOLD
from harness.keys.methods import Method, with_outside
from harness.record.manifest import read_manifest, read_object
from harness.storage.disk import write_whole
from harness.storage.whole_folder import check_whole

JsonRow = Mapping[str, Any]
GRADER_BY_TYPE = "grader_by_type.csv"
SHARED_ERRORS = "shared_errors.csv"
OF_GOLD, OF_RESPONSES = "gold", "responses"  # its `of`: gold labels, or what last checkpoints wrote
WRITING = "writing.csv"
ATTRIBUTION = "attribution.jsonl"  # see `harness.pipeline.attribution`
SPENT = ".spent"  # under the root of results: what each run, and each evaluation, has asked of its servers
SPENDING = "spending"  # of the manifest: what was asked of servers, by their keys or by who asked


def spending_part(spent: Mapping[str, Any]) -> dict[str, Any]:
    """Of the manifest; nothing where no server was asked."""
    return {SPENDING: spent} if spent else {}


def spending_notes(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """A line a server: requests, tokens, cost."""
    spent = manifest.get(SPENDING)
    known = spent.items() if isinstance(spent, Mapping) else ()
    return tuple(
        f"Asked of {place}: {one.get('said', '')}." for place, one in known if isinstance(one, Mapping)
    )


@dataclass(frozen=True)
class GraderRow:
    """How well one grader or judge answers one proposition; fractions of 1, NaN where undefined."""

    seed: int
    grader: str
    proposition: str
    n: int
    n_positive: int
    accuracy: float
    balanced_accuracy: float
    tpr: float
    tnr: float
    majority: float
    auroc: float
    brier: float
    variant: str = ""  # of a sweep's job


class ResultsFolder:
    """Reads each file on first use. Raises InputError, naming file, line and field, for a bad one."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        check_whole(self.path)
        if not (self.path / "metrics.csv").is_file() and "kind" not in self.manifest:
            raise InputError(
                "there is no metrics.csv here", path=self.path, fix="give the folder of a finished run"
            )

    @cached_property
    def metrics(self) -> list[MetricRow]:
        """None where a kind of record has no such table."""
        path = self.path / "metrics.csv"
        return read_metrics(path) if path.is_file() else []

    @cached_property
    def scores(self) -> Scores:
        judges = self.manifest["evaluation"].get("judges", {}) if self.is_evaluation else ()
        # An evaluation's first judge leads.
        return Scores([*self.metrics, *_swept_graders(self.grader)], judges)

    @cached_property
    def training(self) -> list[JsonRow]:
        return self._jsonl("training.jsonl", {"method": str, "seed": int, "update": int})

    @cached_property
    def rewards(self) -> list[JsonRow]:
        fields = ("prompt_id", "response_type", "completion_class")
        return self._jsonl("rewards.jsonl", {"seed": int, **dict.fromkeys(fields, str)})

    @cached_property
    def stages(self) -> list[JsonRow]:
        return self._jsonl("stages.jsonl", {"stage": str})

    @cached_property
    def samples(self) -> dict[str, list[JsonRow]]:
        """Sampled responses by method, in the order of the file names."""
        paths = sorted((self.path / "samples").glob("*.jsonl"))
        fields = {"prompt_id": str, "response": str}
        found = {path.name.removesuffix(".jsonl"): path for path in paths}
        return {method: self._jsonl(f"samples/{path.name}", fields) for method, path in found.items()}

    @cached_property
    def grader(self) -> list[GraderRow]:
        """One row a seed, grader and proposition; rows of means are left out, they can be worked out."""
        path = self.path / "grader.csv"
        if not path.is_file():
            return []
        with open(path, encoding="utf-8", newline="") as file:
            rows = [_grader_row(path, line, row) for line, row in enumerate(csv.DictReader(file), start=2)]
        return [row for row in rows if row.proposition != MEAN]

    def rows(self, name: str, fields: Mapping[str, type]) -> list[JsonRow]:
        """Rows of a JSONL file that have `fields`; none where the file is absent."""
        return self._jsonl(name, fields)

    def table(self, name: str, numbers: Sequence[str], texts: Sequence[str] = ()) -> list[JsonRow]:
        """Rows of a CSV file by column, `numbers` as floats (empty is NaN).

        None where the file is absent or a header alone, as of a gold that attacked nothing.
        """
        path = self.path / name
        if not path.is_file() or path.read_bytes().count(b"\n") == 1:
            return []
        rows = read_csv(path, [*texts, *numbers])
        return [{**row.values, **{column: _cell(row, column) for column in numbers}} for row in rows]

    def json(self, name: str) -> JsonRow:
        """A file that is one JSON object. Raises InputError where it is absent or none."""
        found = read_object(self.path / name)
        if found is None:
            raise InputError("is missing", path=self.path / name, fix="run its command again")
        return found

    @cached_property
    def manifest(self) -> JsonRow:
        return read_manifest(self.path)

    @property
    def is_evaluation(self) -> bool:
        """Whether `rbrbench evaluate` wrote this folder, and not `rbrbench run`."""
        return isinstance(self.manifest.get("evaluation"), dict)

    @cached_property
    def methods(self) -> Mapping[str, Method]:
        """The methods table, with those of its own that the run had."""
        return with_outside(self.manifest.get("outside_methods", ()))

    @property
    def warning(self) -> str:
        """What a reader must know before the first number; "" where the run gave no such warning."""
        world = self.manifest.get("world")
        return str(world.get("warning", "")) if isinstance(world, dict) else ""

    @property
    def commit(self) -> str:
        """`commit` and its first digits; "" where it is not known."""
        commit = self.manifest.get("commit")
        return f"commit {str(commit)[:12]}" if commit else ""

    @cached_property
    def config(self) -> str:
        path = self.path / "config.yaml"
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    @property
    def name(self) -> str:
        return str(self.manifest.get("name") or self.path.resolve().name)

    def write(self, name: str, content: bytes) -> Path:
        """Put a file in the folder, whole or not at all. Raises InputError when the disk refuses."""
        return write_whole(self.path / name, content)

    def _jsonl(self, name: str, fields: Mapping[str, type]) -> list[JsonRow]:
        path = self.path / name
        if not path.is_file() or path.stat().st_size == 0:
            return []
        return read_jsonl(path, _checked(fields))


def number(row: JsonRow, key: str) -> float:
    """The row's number, or NaN where it has none."""
    value = row.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _cell(row: Row, column: str) -> float:
    text = str(row.values[column]).strip()
    try:
        return float(text) if text else math.nan
    except ValueError:
        raise row.error(column, f"{text!r} is not a number", "mend it") from None


def _checked(fields: Mapping[str, type]) -> Callable[[Row], JsonRow]:
    def parse(row: Row) -> JsonRow:
        for field, kind in fields.items():
            row.get(field, kind)
        return row.values

    return parse


def _grader_row(path: Path, line: int, row: Mapping[str, str]) -> GraderRow:
    def value(field: str) -> float:
        text = row.get(field)
        if text is None:
            raise InputError("is missing", path=path, line=line, field=field, fix=f"add the column '{field}'")
        try:
            return float(text) if text.strip() else math.nan
        except ValueError:
            problem = f"{text!r} is not a number"
            raise InputError(problem, path=path, line=line, field=field, fix="mend it") from None

    def count(field: str) -> int:
        found = value(field)
        if not math.isfinite(found):
            raise InputError("is not a whole number", path=path, line=line, field=field, fix="mend it")
        return int(found)

    return GraderRow(
        seed=count("seed"),
        grader=row.get("grader") or "grader",
        proposition=row.get("proposition") or "",
        n=count("n"),
        n_positive=count("n_positive"),
        accuracy=value("accuracy"),
        balanced_accuracy=value("balanced_accuracy"),
        tpr=value("tpr"),
        tnr=value("tnr"),
        majority=value("majority"),
        auroc=value("auroc"),
        brier=value("brier"),
        variant=row.get("variant") or "",
    )


def _swept_graders(rows: Sequence[GraderRow]) -> Iterator[MetricRow]:
    """The mean accuracy over propositions of each job's grader, as a metric of the grader; of a sweep alone."""
    found: dict[tuple[int, str], list[GraderRow]] = {}
    for row in rows:
        if row.variant and row.grader == "grader":
            found.setdefault((row.seed, row.variant), []).append(row)
    for (seed, variant), of in found.items():
        value, n = fmean(row.accuracy for row in of), sum(row.n for row in of)
        rest = math.nan, math.nan, math.nan, n, 0
        yield MetricRow(f"grader[{variant}]", seed, "sft", GOLD, ACCURACY, "", value, *rest)
