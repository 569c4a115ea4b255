"""The tidy table metrics.csv: one row a method, seed, checkpoint, suite, metric and judge."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from evals.values.csv_rows import six_decimals, write_csv
from evals.values.errors import InputError
from evals.values.whole_file import replacing_file


@dataclass(frozen=True)
class MetricRow:
    """`value` with its standard error and 95 % interval; NaN where nothing was measured.

    `checkpoint` is an update number, "sft" or "mean"; `judge` is "" for capability; `n` counts the scored
    responses (over all checkpoints for "mean"), `n_unscored` the others.
    """

    method: str
    seed: int
    checkpoint: str
    suite: str
    metric: str
    judge: str
    value: float
    stderr: float
    ci_low: float
    ci_high: float
    n: int
    n_unscored: int

    @property
    def key(self) -> tuple[str, int, str, str, str, str]:
        return self.method, self.seed, self.checkpoint, self.suite, self.metric, self.judge


def blank_row(*, method: str, seed: int, suite: str, judge: str) -> MetricRow:
    """A row that measures nothing yet, to be filled by `dataclasses.replace`."""
    nan = math.nan
    return MetricRow(method, seed, "", suite, "", judge, nan, nan, nan, nan, 0, 0)


COLUMNS = tuple(field.name for field in fields(MetricRow))
INTEGERS = ("seed", "n", "n_unscored")
NUMBERS = ("value", "stderr", "ci_low", "ci_high")
FIX = "write the table again with `rbrbench report`, or remove the file"


def write_metrics(path: Path | str, rows: Iterable[MetricRow]) -> None:
    """Write the rows in their own order (by key, checkpoints by number), six decimals: same rows, same bytes.

    The file appears whole or not at all. Raises ValueError when two rows have the same key.
    """
    ordered = sorted(rows, key=_order)
    for before, after in itertools.pairwise(ordered):
        if before.key == after.key:
            raise ValueError(f"two rows of metrics have the same key {after.key}")
    path = Path(path)
    with replacing_file(path) as part:
        write_csv(part, (six_decimals(asdict(row)) for row in ordered), COLUMNS)


def read_metrics(path: Path | str) -> list[MetricRow]:
    """Raises InputError, naming file, line and column, for wrong columns, bad numbers and duplicate keys."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            lines = csv.reader(file)
            _check_header(path, next(lines, []))
            return _unique(path, ((lines.line_num, _parse(path, lines.line_num, cells)) for cells in lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        fix = "check the path and the encoding"
        raise InputError(f"cannot be read ({error})", path=path, fix=fix) from None


def _order(row: MetricRow) -> tuple[object, ...]:
    number = int(row.checkpoint) if row.checkpoint.isdecimal() else math.inf
    return row.method, row.seed, number, row.checkpoint, row.suite, row.metric, row.judge


def _check_header(path: Path | str, header: Sequence[str]) -> None:
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise InputError("the column is missing", path=path, line=1, field=missing[0], fix=FIX)
    if tuple(header) != COLUMNS:
        raise InputError(f"the columns are not {', '.join(COLUMNS)}", path=path, line=1, fix=FIX)


def _parse(path: Path | str, line: int, cells: Sequence[str]) -> MetricRow:
    if len(cells) != len(COLUMNS):
        raise InputError(f"{len(cells)} values for {len(COLUMNS)} columns", path=path, line=line, fix=FIX)
    values: dict[str, str | int | float] = dict(zip(COLUMNS, cells, strict=True))
    for kind, names in ((int, INTEGERS), (float, NUMBERS)):
        for name in names:
            try:
                values[name] = kind(values[name])
            except ValueError:
                problem = f"{values[name]!r} is not a number"
                raise InputError(problem, path=path, line=line, field=name, fix=FIX) from None
    return MetricRow(**values)  # type: ignore[arg-type]


def _unique(path: Path | str, rows: Iterable[tuple[int, MetricRow]]) -> list[MetricRow]:
    first_line: dict[tuple[object, ...], int] = {}
    kept = []
    for line, row in rows:
        if row.key in first_line:
            problem = f"the row has the same key as line {first_line[row.key]}"
            raise InputError(problem, path=path, line=line, fix=FIX)
        first_line[row.key] = line
        kept.append(row)
    return kept
