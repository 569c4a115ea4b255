"""What the report's tables hold: text ready to print, worked out from metrics and the other files. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from harness.findings.capability import ACCURACY_METRICS, capability_metrics
from harness.findings.frontier import SAFETY, ScoreEstimate, Scores, frontier
from harness.findings.unsafe import NOT_ANSWERED
from harness.findings.wording import (
    METRICS,
    REWARDS,
    in_order,
    judge_label,
    method_label,
    metric_label,
    percent,
    plain,
)
from harness.record.run import GRADER_BY_TYPE, WRITING, GraderRow, JsonRow, ResultsFolder, number
from harness.report.document import NOTHING, Cell, Table, TableRow, Where
from harness.report.plots.ranking_error import ranking_errors

COUNTS, BEATEN = ("responses judged", "unscored"), "beaten on both axes by"


def cell(estimate: ScoreEstimate | None, best: bool = False) -> Cell:
    if estimate is None:
        return Cell()
    known = math.isfinite(estimate.ci_low) and math.isfinite(estimate.ci_high)
    interval = f"{100 * estimate.ci_low:.1f} to {100 * estimate.ci_high:.1f}" if known else ""
    stderr = f"± {in_error(estimate.stderr)}" if math.isfinite(estimate.stderr) else ""
    return Cell(f"{100 * estimate.value:.1f}", stderr, interval, best)


def in_error(stderr: float) -> str:
    """A standard error in points, with a second digit where one would show a bare 0."""
    return f"{100 * stderr:.2f}" if 0 < stderr < 0.0005 else f"{100 * stderr:.1f}"


def main_tables(scores: Scores, suite: str) -> list[Table]:
    """One table a judge: methods by the metrics, counts of responses, and who is better on both axes."""
    return [_safety_table(scores, suite, judge) for judge in scores.judges_of_shares(suite)]


def _safety_table(scores: Scores, suite: str, judge: str) -> Table:
    metrics = [m for m in METRICS if scores.methods(suite, m, judge)]
    methods = in_order(
        list(dict.fromkeys(m for metric in metrics for m in scores.methods(suite, metric, judge)))
    )
    beaten = {p.method: p.dominated_by for p in frontier(scores, suite, judge)}
    estimates = {(m, k): scores.estimate(m, suite, k, judge) for m in methods for k in metrics}
    best = {k: max((e.value for m in methods if (e := estimates[m, k])), default=math.nan) for k in metrics}

    def row(method: str) -> TableRow:
        mine = [estimates[method, k] for k in metrics]
        cells = tuple(
            cell(e, e is not None and e.value == best[k]) for e, k in zip(mine, metrics, strict=True)
        )
        # What was not answered counts responses that Not-Unsafe has counted.
        counted = (e for e, k in zip(mine, metrics, strict=True) if k != NOT_ANSWERED)
        counts = [(e.n, e.n_unscored) for e in counted if e]
        n, unscored = (max(values) for values in zip(*counts, strict=True)) if counts else (0, 0)
        note = ", ".join(method_label(other) for other in beaten.get(method, ())[:3])
        return TableRow(
            method_label(method), (*cells, Cell(str(n)), Cell(str(unscored)), Cell(note or NOTHING))
        )

    names = (*(metric_label(k) for k in metrics), *COUNTS, BEATEN)
    return Table(f"Judged by {judge_label(judge)}", names, tuple(row(m) for m in methods), (BEATEN,))


def with_columns(table: Table, columns: Sequence[str]) -> Table:
    """The table with these columns, a dash where it has none."""
    places = [table.columns.index(name) if name in table.columns else None for name in columns]
    rows = [
        replace(row, cells=tuple(Cell() if place is None else row.cells[place] for place in places))
        for row in table.rows
    ]
    return replace(table, columns=tuple(columns), rows=tuple(rows))


def side_by_side(tables: Sequence[Table], title: str, asides: Sequence[str]) -> Table:
    """The judges' tables of one suite as one for the page, with the first one's columns."""
    rows: list[TableRow] = []
    for table, aside in zip(tables, asides, strict=True):
        rows.append(TableRow(f"{table.title} · {aside}" if aside else table.title, style="group"))
        rows += with_columns(table, tables[0].columns).rows
    return replace(tables[0], title=title, rows=tuple(rows), wide=True, where=Where.PAGE)


def in_short(table: Table) -> Table:
    """For a summary whose heading names the table: without its title and intervals."""
    rows = [replace(row, cells=tuple(replace(c, interval="") for c in row.cells)) for row in table.rows]
    return replace(table, title="", rows=tuple(rows), where=Where.SUMMARY)


def by_response_type(scores: Scores, suite: str) -> list[Table]:
    """Not-Unsafe by response type, one table a judge; empty where the suite has no such parts."""
    parts = scores.suites(SAFETY, prefix=f"{suite}/")
    tables = []
    for judge in dict.fromkeys(j for part in parts for j in scores.judges(part, SAFETY)):
        methods = in_order(
            list(dict.fromkeys(m for part in parts for m in scores.methods(part, SAFETY, judge)))
        )
        rows = [
            TableRow(method_label(m), tuple(cell(scores.estimate(m, p, SAFETY, judge)) for p in parts))
            for m in methods
        ]
        columns = tuple(plain(part.removeprefix(f"{suite}/")) for part in parts)
        tables.append(Table(f"Not-Unsafe, judged by {judge_label(judge)}", columns, tuple(rows)))
    return tables


def ranking_table(scores: Scores) -> Table | None:
    errors = ranking_errors(scores)
    rewards = list(dict.fromkeys(reward for group in errors.values() for reward in group))
    rows = tuple(
        TableRow(plain(kind), tuple(cell(group.get(r)) for r in rewards)) for kind, group in errors.items()
    )
    return Table("Ranking error, %", tuple(REWARDS.get(r, plain(r)) for r in rewards), rows) if rows else None


def capability_table(scores: Scores) -> Table | None:
    tasks = capability_metrics(scores)
    if not tasks:
        return None
    methods = _methods(m for task, key in tasks.items() for m in scores.methods(task, *key))
    names = tuple(
        f"{plain(task.removeprefix('capability/'))} ({metric})" for task, (metric, _) in tasks.items()
    )
    rows = [
        TableRow(method_label(m), tuple(cell(scores.estimate(m, task, *key)) for task, key in tasks.items()))
        for m in methods
    ]
    return Table("Accuracy, %", names, tuple(rows))


def other_scores_table(scores: Scores) -> Table | None:
    """What knowledge tasks measure besides accuracy: biases. Parts of a score, such as categories, are left out."""
    columns = [
        (suite, metric)
        for suite in scores.suites(prefix="capability/")
        for metric in scores.metrics(suite)
        if metric not in ACCURACY_METRICS
        and not any(metric.startswith(f"{whole}_") for whole in scores.metrics(suite))
    ]
    if not columns:
        return None
    names = tuple(f"{plain(suite.removeprefix('capability/'))} ({metric})" for suite, metric in columns)
    rows = [
        TableRow(
            method_label(m), tuple(cell(scores.estimate(m, suite, metric, "")) for suite, metric in columns)
        )
        for m in _methods(m for suite, metric in columns for m in scores.methods(suite, metric))
    ]
    return Table("Other scores, %", names, tuple(rows))


def _methods(names: Iterable[str]) -> list[str]:
    return in_order(list(dict.fromkeys(names)))


GRADER_COLUMNS: tuple[tuple[str, Callable[[GraderRow], float]], ...] = (
    ("accuracy", lambda r: r.accuracy),
    ("majority answer", lambda r: r.majority),
    ("balanced accuracy", lambda r: r.balanced_accuracy),
    ("true positives found", lambda r: r.tpr),
    ("true negatives found", lambda r: r.tnr),
    ("AUROC", lambda r: r.auroc),
)


def grader_tables(rows: Sequence[GraderRow]) -> list[Table]:
    """One table a grader: propositions by measure, means over seeds in percent, the mean over all first."""
    titles = {
        "grader": "The grader, which paid the reward",
        "judge": "The automated judge, which only reports",
    }
    tables = []
    for grader in sorted({row.grader for row in rows}):
        mine = [row for row in rows if row.grader == grader]
        names = list(dict.fromkeys(row.proposition for row in mine))
        groups = [
            ("mean of all", mine),
            *((name, [r for r in mine if r.proposition == name]) for name in names),
        ]
        lines = tuple(_grader_line(name, group) for name, group in groups)
        columns = ("gold labels", "of them true", *(name for name, _ in GRADER_COLUMNS))
        tables.append(Table(titles.get(grader, grader), columns, lines))
    return tables


def _grader_line(name: str, rows: Sequence[GraderRow]) -> TableRow:
    means = [finite_mean([measure(row) for row in rows]) for _, measure in GRADER_COLUMNS]
    counts = [sum(row.n for row in rows), sum(row.n_positive for row in rows)]
    values = [f"{count:,}".replace(",", " ") for count in counts] + [percent(mean) for mean in means]
    return TableRow(plain(name), tuple(Cell(value) for value in values))


TYPE_NUMBERS = ("n", "n_positive", "balanced_accuracy")


def grader_type_tables(folder: ResultsFolder) -> list[Table]:
    """One table a grader: each response type's propositions, counts over all seeds and means over them in percent."""
    rows = folder.table(GRADER_BY_TYPE, TYPE_NUMBERS, ("grader", "response_type", "proposition"))
    groups: dict[str, dict[str, list[JsonRow]]] = {}
    for row in rows:
        name = f"{plain(str(row['response_type']))}: {plain(str(row['proposition']))}"
        groups.setdefault(str(row["grader"]), {}).setdefault(name, []).append(row)
    columns = ("gold labels", "of them true", "balanced accuracy")
    return [
        Table(f"{plain(grader)}, by response type", columns, tuple(map(_type_line, of, of.values())))
        for grader, of in groups.items()
    ]


def _type_line(name: str, rows: Sequence[JsonRow]) -> TableRow:
    counts = [f"{sum(number(row, column) for row in rows):.0f}" for column in TYPE_NUMBERS[:2]]
    mean = percent(finite_mean([number(row, "balanced_accuracy") for row in rows]))
    return TableRow(name, tuple(Cell(value) for value in (*counts, mean)))


WRITING_NUMBERS = ("completions", "got", "declined", "another_class", "ungraded", "no_answer", "requests")


def writing_table(folder: ResultsFolder) -> Table | None:
    """Response types and the classes that a chat model was asked for; None where none was asked."""
    rows = folder.table(WRITING, WRITING_NUMBERS, ("response_type", "asked_for"))
    groups: dict[tuple[str, str], list[JsonRow]] = {}
    for row in rows:
        groups.setdefault((str(row["response_type"]), str(row["asked_for"])), []).append(row)
    lines = [
        TableRow(
            f"{plain(kind)}, {plain(name)}",
            tuple(Cell(f"{sum(number(row, column) for row in group):.0f}") for column in WRITING_NUMBERS),
        )
        for (kind, name), group in groups.items()
    ]
    columns = ("asked for", *(plain(column) for column in WRITING_NUMBERS[1:]))
    return Table("response type and class", columns, tuple(lines)) if lines else None


def finite_mean(values: Sequence[float]) -> float:
    """The mean of what is a number; NaN where nothing is."""
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def stage_table(rows: Sequence[JsonRow]) -> Table:
    """One row a stage, in the order they ran: runs, seconds in all, peak memory; their sum last."""
    by_name: dict[str, list[JsonRow]] = {}
    for row in rows:
        by_name.setdefault(str(row["stage"]), []).append(row)
    lines = [_stage_row(plain(name), group) for name, group in by_name.items()]
    whole = _stage_row("all stages", rows)
    lines.append(replace(whole, cells=(*whole.cells[:-1], Cell(""))))
    columns = ("runs", "time to compute", "peak memory", "key")
    return Table("stage", columns, tuple(lines), ("runs", "key"), where=Where.PAGE)


def _stage_row(name: str, rows: Sequence[JsonRow]) -> TableRow:
    cached = sum(bool(row.get("cached")) for row in rows)
    counts = {"computed": len(rows) - cached, "cached": cached}
    seconds = [v for row in rows if math.isfinite(v := number(row, "seconds"))]
    memory = [v for row in rows if math.isfinite(v := number(row, "peak_memory_mb"))]
    keys = {str(row.get("key", "")) for row in rows}
    return TableRow(
        name,
        (
            Cell(", ".join(f"{count} {state}" for state, count in counts.items() if count)),
            Cell(_decimal(sum(seconds) if seconds else math.nan, "s")),
            Cell(_decimal(max(memory, default=math.nan), "MB", 0)),
            Cell(keys.pop()[:12] if len(keys) == 1 else f"{len(keys)} keys", code=True),
        ),
    )


def _decimal(value: float, unit: str, digits: int = 1) -> str:
    return f"{value:.{digits}f} {unit}" if math.isfinite(value) else NOTHING
