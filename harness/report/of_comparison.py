"""The document of `rbrbench compare`: several folders of results in one table, seed by seed and prompt by prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from harness.findings.frontier import SAFETY, USEFULNESS
from harness.findings.wording import (
    distinct_labels,
    judge_label,
    method_label,
    method_table,
    metric_label,
    points,
)
from harness.record.run import ResultsFolder
from harness.report.document import Cell, Document, Figure, Heading, Part, Section, Table, TableRow, Text
from harness.report.figures import folder_figures, placed
from harness.report.judged import compared_rows, comparison_section
from harness.report.page import write_pages
from harness.report.tables import capability_table, in_error, main_tables

SHARES = (
    "Percent: mean ± standard error, 95 % interval, over each one's own seeds and their last checkpoints."
)
SEEDS = (
    "The same method in two results, paired by the seeds that both have: Student's t over these; with one seed, the "
    "intervals of the two runs joined. Not corrected for their number."
)
NONE = "No method with a metric in common has a seed in common in two of the results."
FOOTER = "Every number here is worked out from metrics.csv and comparisons.csv; rbrbench report draws this page again."


@distinct_labels()
def write_comparison_report(results: Path) -> tuple[Document, Path]:
    """Draw plots, report.html and summary.md into the folder. Raises InputError for bad files."""
    folder = ResultsFolder(results)
    with method_table(folder.methods):
        document = comparison_document(folder, folder_figures(results, method_label))
        return document, write_pages(document, results, "report.html")


def comparison_document(folder: ResultsFolder, figures: Sequence[Figure] = ()) -> Document:
    compared = folder.manifest.get("compared", {})
    tables = tuple(_tables(folder, figures))
    seeds = _seed_table(folder)
    parts: tuple[Part, ...] = (seeds, Text(SEEDS)) if seeds.rows else (Text(NONE),)
    return Document(
        name=folder.name,
        command="rbrbench compare",
        title="results side by side",
        headline=f"{len(compared)} results: {', '.join(compared)}.",
        sections=(
            Section("table", "Table", "Where each lands", tables),
            Section("seeds", "By seed", "Paired by seed", parts),
            comparison_section(folder, compared_rows(folder)),
        ),
        notes=tuple(str(note) for note in folder.manifest.get("notes", [])),
        footer=FOOTER,
        screen=("seeds", "table"),
        about=folder.commit,
    )


def _tables(folder: ResultsFolder, figures: Sequence[Figure]) -> Iterator[Part]:
    scores = folder.scores
    yield from placed(figures, "table")
    for suite in scores.suites(SAFETY) + tuple(
        s for s in scores.suites(USEFULNESS) if s not in scores.suites(SAFETY)
    ):
        yield Heading(f"Suite {suite}")
        yield from main_tables(scores, suite)
    yield Text(SHARES)
    if (capability := capability_table(scores)) is not None:
        yield Heading("Capability")
        yield capability


def _seed_table(folder: ResultsFolder) -> Table:
    """The same method of two results, by every metric of safety and usefulness that both have."""
    scores, lines = folder.scores, []
    for suite in scores.suites():
        for metric in scores.metrics(suite):
            for judge in scores.judges(suite, metric):
                methods = scores.methods(suite, metric, judge)
                for first, second in combinations(methods, 2):
                    if _base(first) != _base(second):
                        continue
                    found = scores.difference(first, second, suite, metric, judge)
                    if found is None:
                        continue
                    name = f"{method_label(first)} − {method_label(second)}"
                    of = f"{suite}: {metric_label(metric)}"
                    interval = f"{points(found.ci_low)} to {points(found.ci_high)}"
                    texts = (of, judge_label(judge) if judge else "–", points(found.value))
                    numbers = (in_error(found.stderr), interval, str(len(found.by_seed)))
                    lines.append(TableRow(name, tuple(map(Cell, (*texts, *numbers)))))
    words = ("of", "judge")
    columns = (*words, "difference, points", "SE", "95 % interval", "seeds")
    return Table("Comparison", columns, tuple(lines), words, wide=True)


def _base(method: str) -> tuple[str, str]:
    """The method and its variant, without the results that it is of: `rbr_ppo[A,x=1]`."""
    base, _, variant = method.partition("[")
    return base, variant.rstrip("]").partition(",")[2]
