"""The document of `rbrbench xstest`: what real models do on XSTest, and what each judge makes of it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from evals.judges.correction import CORRECTED
from evals.judges.recorded import LABELS
from evals.values.metrics_table import MetricRow
from harness.findings.wording import distinct_labels, metric_label
from harness.keys.xstest import XSTestConfig
from harness.record.evaluation import read_cards
from harness.record.run import JsonRow, ResultsFolder
from harness.report.document import (
    Cell,
    Document,
    Figure,
    Item,
    Items,
    Part,
    Screen,
    Section,
    Table,
    TableRow,
    Text,
    Where,
)
from harness.report.figures import folder_figures, other_figures
from harness.report.page import write_pages
from harness.report.plots.xstest import HUMAN, SUITE, judges_of

METRICS = ("not_unsafe", "not_overrefuse", "f1")
BALANCED = "balanced_accuracy"
BASIS = (
    "Recorded completions of the released files; people's labels are the truth. Full and partial refusals both "
    "count as refusals."
)
ALT = "Where each judge puts each model between safety and usefulness, and where people put it, with 95 % intervals"
FITTED = (
    "The encoder judges each model by a fit to the other models' labels alone. Its settings were chosen without "
    "that model too, by leaving each of the others out in turn{}."
)
FOOTER = (
    "Figures in full precision: metrics.csv, labels.csv, agreement.csv, judges.json; every verdict, without texts: "
    "verdicts/."
)


@distinct_labels()
def write_xstest_report(folder: Path) -> tuple[Document, Path]:
    """Draw plots/tradeoff, summary.md and xstest.html into the folder; the document and the page's path.

    The same results give the same bytes. Raises InputError for bad files.
    """
    document = xstest_document(ResultsFolder(folder))
    return document, write_pages(document, folder, "xstest.html")


def xstest_document(folder: ResultsFolder) -> Document:
    agreement = folder.table("agreement.csv", (BALANCED,), ("model", "judge"))
    judges = judges_of(folder)
    figures = folder_figures(folder.path)
    drawn = tuple(replace(figure, alt=ALT) for figure in figures if figure.name == "tradeoff")
    return Document(
        name=folder.name,
        command="rbrbench xstest",
        title="real models on XSTest",
        headline=_headline(agreement, judges),
        basis=BASIS,
        sections=(*_sections(folder, agreement, judges, drawn), *other_figures(figures, drawn)),
        notes=tuple(folder.manifest.get("notes", ())),
        footer=FOOTER,
        screen=("labels", "scores", "agreement"),
        summary_name="Real models on XSTest",
    )


def _sections(
    folder: ResultsFolder, agreement: list[JsonRow], judges: list[str], drawn: tuple[Figure, ...]
) -> Iterator[Section]:
    yield Section("plot", "Trade-off", "Where each judge puts each model", drawn, "")
    labels = folder.table("labels.csv", LABELS, ("model", "prompts"))
    yield Section(
        "labels", "Labels", "What the models do, by people's labels, percent", (_label_table(labels),)
    )
    corrected = (
        f"{CORRECTED}: corrected for the judge's errors with {_labels(folder)} human labels drawn at random."
    )
    scores = _score_table(folder.metrics, judges)
    yield Section(
        "scores",
        "Scores",
        "Scores by judge, percent (95 % interval)",
        (Text(corrected, Where.BOTH), scores),
    )
    title = "Each judge against people: balanced accuracy of refusal against compliance"
    cards = tuple(Item(f"{name}: {card.text}") for name, card in read_cards(folder.path).items())
    fitted = (Text(FITTED.format(_fits(folder)), Where.BOTH),) if "encoder" in judges else ()
    parts: tuple[Part, ...] = (_agreement_table(agreement, judges), Items(cards), *fitted)
    yield Section("agreement", "Judges", title, parts)


def _headline(agreement: list[JsonRow], judges: list[str]) -> str:
    """The judges by their mean over models."""
    known = [(mean, judge) for judge in judges if not math.isnan(mean := _mean(agreement, judge))]
    if not known:
        return "No judge's agreement with people can be told"
    (best, name), *others = sorted(known, reverse=True)
    rest = "".join(f", {judge} {mean:.3f}" for mean, judge in others)
    return f"{name} agrees most with people: mean balanced accuracy {best:.3f}{rest}"


def _labels(folder: ResultsFolder) -> int:
    """Labels that the correction saw; an older record says it in its command, where it was not the default."""
    told = re.search(r"\blabels=(\d+)", str(folder.manifest.get("command", "")))
    return int(folder.manifest.get("labels", told[1] if told else XSTestConfig.labels))


def _fits(folder: ResultsFolder) -> str:
    """The settings chosen for each model, which older records did not keep."""
    fits = folder.manifest.get("fits", {})
    chosen = [f"{name}: {fit['sentences']} sentences, l2 {fit['l2']:g}" for name, fit in fits.items()]
    return f" ({'; '.join(chosen)})" if chosen else ""


def _label_table(rows: list[JsonRow]) -> Table:
    """XSTest's own table: shares of the three labels."""
    columns = ("prompts", *(label.split("_", 1)[1].replace("_", " ") for label in LABELS))
    lines = [
        TableRow(str(row["model"]), (Cell(str(row["prompts"])), *(_percent(row[label]) for label in LABELS)))
        for row in rows
    ]
    return Table("model", columns, tuple(lines), words=("prompts",))


def _score_table(rows: list[MetricRow], judges: list[str]) -> Table:
    found = {(r.method, r.judge, r.metric): r for r in rows if r.suite == SUITE}
    models = dict.fromkeys(method for method, *_ in found)
    names = (HUMAN, *judges, *(name + CORRECTED for name in judges))
    lines = [
        TableRow(model, (Cell(judge), *(_score(found.get((model, judge, metric))) for metric in METRICS)))
        for model in models
        for judge in names
        if any((model, judge, metric) in found for metric in METRICS)
    ]
    columns = ("judge", *map(metric_label, METRICS))
    return Table("model", columns, tuple(lines), words=("judge",), screen=Screen(intervals=False))


def _percent(fraction: float) -> Cell:
    return Cell(f"{100 * fraction:.1f}")


def _score(row: MetricRow | None) -> Cell:
    if row is None or math.isnan(row.value):
        return Cell()
    interval = f"{100 * row.ci_low:.1f} to {100 * row.ci_high:.1f}"
    return Cell(f"{100 * row.value:.1f}", interval=interval)


def _agreement_table(rows: list[JsonRow], judges: list[str]) -> Table:
    found = {(row["model"], row["judge"]): row[BALANCED] for row in rows}
    models = dict.fromkeys(str(row["model"]) for row in rows)
    lines = [
        TableRow(model, tuple(_share(found.get((model, judge))) for judge in judges)) for model in models
    ]
    means = (_share(_mean(rows, judge)) for judge in judges)
    return Table("model", tuple(judges), (*lines, TableRow("mean", tuple(means))))


def _share(value: float | None) -> Cell:
    return Cell() if value is None or math.isnan(value) else Cell(f"{value:.3f}")


def _mean(rows: list[JsonRow], judge: str) -> float:
    """Over the models that it judged."""
    values = [row[BALANCED] for row in rows if row["judge"] == judge and not math.isnan(row[BALANCED])]
    return sum(values) / len(values) if values else math.nan
