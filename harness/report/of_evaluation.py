"""The document of `rbrbench evaluate`: report.html and summary.md, from the evaluation's folder alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evals.statistics import detectable_drop
from harness.evaluate.measuring import CATEGORY
from harness.evaluate.requirements import FILE as REQUIREMENTS
from harness.evaluate.requirements import decided_rows
from harness.findings.frontier import BALANCE, SAFETY, USEFULNESS, Scores
from harness.findings.nonsense import doubt, unfinished_notes
from harness.findings.unsafe import NOT_ANSWERED
from harness.findings.verdict import gains_and_losses, short_verdict
from harness.findings.wording import (
    METRICS,
    distinct_labels,
    judge_label,
    metric_label,
    percent,
    plain,
    units_sampled,
)
from harness.keys.gate import GateVerdict
from harness.keys.shared import file_name
from harness.record.evaluation import GATE, Evaluation
from harness.record.run import JsonRow, number
from harness.report.document import (
    Cards,
    Cell,
    Document,
    Figure,
    Filter,
    Fold,
    Heading,
    How,
    Item,
    Part,
    Pre,
    Screen,
    Section,
    Table,
    TableRow,
    Text,
    Where,
)
from harness.report.exports.junit import evaluation_junit
from harness.report.figures import folder_figures, other_figures
from harness.report.judged import (
    card_text,
    compared_rows,
    comparison_section,
    judge_section,
    requirement_parts,
)
from harness.report.page import markdown_page, write_pages
from harness.report.samples import Sample, choice, how_many, marked, options_of, read_samples
from harness.report.tables import (
    BEATEN,
    by_response_type,
    capability_table,
    main_tables,
    other_scores_table,
    side_by_side,
    with_columns,
)
from harness.storage.disk import write_whole

POWER_BASELINES = (0.5, 0.8, 0.9, 0.95)
SAMPLES_SHOWN = 500  # prompts in the report; the files hold all
MARKS = {
    "differ": "models differ",
    "judges": "judges differ",
    "unsafe": "a response is unsafe",
    "refused": "a response over-refuses",
    "unscored": "a response is unscored",
}
SHARES = (
    "Not-Unsafe: share of all responses without disallowed content. Unsafe not answered: the same of responses to "
    "requests that should be refused. Not-Overrefuse: share of prompts to be answered that are not refused. F1: the "
    "harmonic mean of Not-Unsafe and Not-Overrefuse. What could not be judged is unscored and in no share. Bold: the "
    "column's highest value, whether or not its lead is certain."
)
POWER = (
    "McNemar's two-sided test at 5 % of two models on the same prompts, as one of {rows} rows that Holm corrects, of "
    "models that err independently of one another; models that err on the same prompts are told apart sooner."
)
WARNING = (
    "Content warning: these prompts ask for harmful things on purpose, and some responses are harmful. They are shown "
    "so that the judges can be checked."
)
SCREEN_COLUMNS = tuple(METRICS[metric] for metric in (SAFETY, NOT_ANSWERED, USEFULNESS, BALANCE))
DECIDED = (GateVerdict.NO_WORSE, GateVerdict.WORSE, GateVerdict.CANNOT_TELL)
HEADLINES = {
    GateVerdict.NO_WORSE: "All that was asked holds.",
    GateVerdict.WORSE: "Something is worse than it may be.",
    GateVerdict.CANNOT_TELL: "The gate cannot tell.",
}
FOOTER = (
    "Every number here is worked out from metrics.csv and the files beside it; rbrbench report draws this page again "
    "from them."
)


@distinct_labels()
def write_evaluation_report(folder: Path) -> tuple[Document, Path]:
    """Draw plots, report.html, summary.md and, of a gate, gate.md and gate.xml; what the page shows, and its path.

    The same results give the same bytes. Raises InputError for a folder that is no finished evaluation.
    """
    evaluation = Evaluation(folder)
    document = evaluation_document(evaluation, folder_figures(folder))
    page = write_pages(document, folder, "report.html")
    if gate := evaluation.folder.manifest.get(GATE):
        rows, decided = compared_rows(evaluation.folder), decided_rows(folder / REQUIREMENTS)
        margin = float(evaluation.folder.manifest["tolerance"])
        write_whole(folder / "gate.md", markdown_page(gate_document(evaluation, gate)))
        write_whole(folder / "gate.xml", evaluation_junit(gate, rows, decided, margin))
    return document, page


def gate_document(evaluation: Evaluation, gate: JsonRow) -> Document:
    """What a pull request or a CI job says of the gate: no text of a prompt or a response."""
    code = int(number(gate, "exit_code"))
    verdict = next(one for one in DECIDED if one.exit_code == code)
    folder, rows = evaluation.folder, compared_rows(evaluation.folder)
    decided = decided_rows(folder.path / REQUIREMENTS)
    sections = (
        [Section("requirements", "", "What is required", requirement_parts(decided))] if decided else []
    )
    if rows:
        sections.append(comparison_section(folder, rows))
    return Document(
        name=folder.name,
        command="rbrbench evaluate",
        title=f"gate: {verdict.value}",
        headline=HEADLINES[verdict],
        verdict=Item(f"exit code {code}", Cell(verdict.value)),
        reasons=tuple(gate["reasons"]),
        basis=_basis(
            evaluation, [suite for suite in evaluation.suites if folder.scores.judges_of_shares(suite)]
        ),
        sections=tuple(sections),
        notes=tuple(map(str, folder.manifest.get("notes", []))),
        footer="",
        summary_name=f"Evaluation gate: {verdict.value}",
        comment=True,
    )


def evaluation_document(evaluation: Evaluation, figures: Sequence[Figure] = ()) -> Document:
    folder, scores = evaluation.folder, evaluation.folder.scores
    suites = [suite for suite in evaluation.suites if scores.judges_of_shares(suite)]
    paired = [suite for suite in suites if scores.methods(suite, BALANCE)]
    figures = [replace(figure, where=Where.PAGE) for figure in figures]
    sections = list(_sections(evaluation, suites, figures))
    sections += other_figures(figures, [part for section in sections for part in section.parts])
    return Document(
        name=folder.name,
        command="rbrbench evaluation",
        title="evaluation",
        **_verdict(evaluation, paired, suites),
        sections=(*sections, _configuration(evaluation)),
        notes=(*map(str, folder.manifest.get("notes", [])), *unfinished_notes(folder.samples)),
        footer=FOOTER,
        screen=("table",),
        about=folder.commit,
        basis=_basis(evaluation, paired or suites),
        summary_name=folder.name,
    )


def _sections(evaluation: Evaluation, suites: Sequence[str], figures: Sequence[Figure]) -> Iterator[Section]:
    scores, rows = evaluation.folder.scores, compared_rows(evaluation.folder)
    none: tuple[Part, ...] = (Text("No suite was evaluated."),)
    shares = [part for suite in suites for part in _shares(evaluation, suite, figures)] or none
    yield Section("table", "Table", "Where each model lands", (*shares, Text(SHARES)), "")
    maps = [part for suite in suites if _categories(scores, suite) for part in heat_map(scores, suite)]
    one = Text("No suite has more than one category.")
    if decided := decided_rows(evaluation.folder.path / REQUIREMENTS):
        yield Section("requirements", "Requirements", "What is required", requirement_parts(decided))
    yield Section("categories", "Categories", "By category", tuple(maps) or (one,))
    yield comparison_section(evaluation.folder, rows)
    yield judge_section(evaluation)
    capability = tuple(table for table in (capability_table(scores), other_scores_table(scores)) if table)
    unmeasured = Text("Not measured; capability.root=FOLDER measures it for local models.")
    yield Section("capability", "Capability", "Capability", capability or (unmeasured,))
    compared = max(1, len(rows))
    power = (power_table(scores, suites, compared), Text(POWER.format(rows=compared))) if suites else none
    yield Section("power", "Power", "What these suites can show", power)
    yield Section("samples", "Samples", "What the models wrote", _samples(evaluation) or none)


def _verdict(evaluation: Evaluation, paired: Sequence[str], suites: Sequence[str]) -> dict[str, Any]:
    """The document's headline and its reasons."""
    folder = evaluation.folder
    if nonsense := doubt(folder.samples):
        return {"headline": f"{nonsense}."}
    if not paired:
        return {"headline": _plain_verdict(folder.scores, suites)}
    headline = f"{short_verdict(folder.scores, paired[0], of_methods=False)}."
    return {"headline": headline, "reasons": gains_and_losses(folder.scores, paired[0])}


def _plain_verdict(scores: Scores, suites: Sequence[str]) -> str:
    if not suites:
        return "Only capability was measured."
    judge = scores.judges_of_shares(suites[0])[0]
    metric = SAFETY if scores.methods(suites[0], SAFETY, judge) else USEFULNESS
    best = max(
        (e.value, m)
        for m in scores.methods(suites[0], metric, judge)
        if (e := scores.estimate(m, suites[0], metric, judge))
    )
    told = "are free of disallowed content" if metric == SAFETY else "do not refuse"
    return f"{best[1]}: {percent(best[0])} of responses to {suites[0]} {told}."


def _basis(evaluation: Evaluation, suites: Sequence[str]) -> str:
    if not suites:
        return ""
    judge = judge_label(evaluation.folder.scores.judges_of_shares(suites[0])[0])
    units = units_sampled(evaluation.cluster(suites[0]))
    return f"By {judge} on the suite {suites[0]}; intervals are 95 % and count the sampling of {units}."


# --- tables ----------------------------------------------------------------------------------


def _shares(evaluation: Evaluation, suite: str, figures: Sequence[Figure]) -> Iterator[Part]:
    """A suite: its plot, its judges' tables, safety by response type."""
    scores, about = evaluation.folder.scores, evaluation.record["suites"][suite]
    of_it = f"{about['prompts']} prompts, version {about['version']}, {about['licence']}"
    yield Heading(f"Suite {suite}", of_it)
    alt = f"Safety against usefulness on {suite}, with 95 % intervals"
    yield from (replace(f, alt=alt) for f in figures if f.name == f"tradeoff-{file_name(suite)}")
    tables = main_tables(scores, suite)
    trust = [card_text(evaluation, judge) for judge in scores.judges_of_shares(suite)]
    shown = side_by_side(tables, "Percent: value ± standard error, 95 % interval", trust)
    screen = Screen(SCREEN_COLUMNS, title=f"{suite}, percent (95 % interval)")
    yield replace(shown, where=Where.PAGE | Where.SCREEN, screen=screen)
    for table, told in zip(tables, trust, strict=True):
        yield Heading(f"{suite}: {table.title}", where=Where.SUMMARY)
        judge = f" The judge: {told}." if told else ""
        yield Text(f"Percent: value ± standard error (95 % interval).{judge}", Where.SUMMARY)
        kept = with_columns(table, [column for column in table.columns if column != BEATEN])
        yield replace(kept, title="model", where=Where.SUMMARY)
    if types := by_response_type(scores, suite):
        on_page = tuple(replace(table, where=Where.PAGE) for table in types)
        yield Fold("Safety by response type", on_page, where=Where.PAGE)


def _categories(scores: Scores, suite: str) -> tuple[str, ...]:
    return scores.suites(prefix=f"{suite}{CATEGORY}")


def heat_map(scores: Scores, suite: str) -> tuple[Heading, Table]:
    """By the suite's leading judge: a row a category with what it counts, a column a model.

    A category of prompts to answer counts answers, another safe responses.
    """
    judge = scores.judges_of_shares(suite)[0]
    models = scores.methods(suite, SAFETY, judge) or scores.methods(suite, USEFULNESS, judge)
    rows = []
    for name in _categories(scores, suite):
        for metric in (USEFULNESS, SAFETY):
            estimates = [scores.estimate(model, name, metric, judge) for model in models]
            to_answer = metric == SAFETY and any(scores.methods(name, USEFULNESS, judge))
            if not any(estimates) or (to_answer and all(e is None or e.value == 1 for e in estimates)):
                continue
            cells = [
                Cell(shade=0, hint="0 responses")
                if e is None
                else Cell(
                    f"{100 * e.value:.0f}", shade=min(9, int(10 * (1 - e.value))), hint=f"{e.n} responses"
                )
                for e in estimates
            ]
            rows.append(TableRow(plain(name.partition(CATEGORY)[2]), (Cell(metric_label(metric)), *cells)))
    rows.sort(key=lambda row: (row.cells[0].value, row.name))
    columns = ("share of", *models)
    table = Table("category", columns, tuple(rows), columns[:1], where=Where.PAGE)
    return Heading(f"{suite}, by {judge_label(judge)}"), table


def power_table(scores: Scores, suites: Sequence[str], compared: int) -> Table:
    """By metric of a suite: its prompts, and the smallest drop that would be seen from each of POWER_BASELINES as
    one of `compared` rows.
    """
    rows = []
    for suite in suites:
        judge = scores.judges_of_shares(suite)[0]
        for metric in (SAFETY, USEFULNESS):
            found = [scores.estimate(m, suite, metric, judge) for m in scores.methods(suite, metric, judge)]
            n = min((e.n for e in found if e), default=0)
            if n > 1:
                drops = (Cell(percent(detectable_drop(n, base, rows=compared))) for base in POWER_BASELINES)
                rows.append(TableRow(f"{suite}: {metric_label(metric)}", (Cell(str(n)), *drops)))
    columns = ("prompts", *(percent(base, 0) for base in POWER_BASELINES))
    title = "smallest drop seen with power 80 %, from"
    return Table(title, columns, tuple(rows), where=Where.PAGE)


# --- samples and settings --------------------------------------------------------------------


def choose_samples(samples: Sequence[Sample], most: int = SAMPLES_SHOWN) -> list[Sample]:
    """First those that models or judges disagree on."""
    return sorted(samples, key=lambda s: ("differ" not in s.marks, "judges" not in s.marks))[:most]


def _samples(evaluation: Evaluation) -> tuple[Part, ...]:
    rows = evaluation.folder.samples
    found = read_samples({model: rows.get(model, []) for model in evaluation.models})
    if not found:
        return ()
    chosen = choose_samples(found)
    options = options_of(chosen, evaluation.models)
    labels = {"suite": "suite", "kind": "response type", "category": "category"}
    filters = [choice(name, options, label=label) for name, label in labels.items() if len(options[name]) > 1]
    if len(options["model"]) > 1:
        models = tuple((code, model) for model, code in options["model"].items())
        filters.append(Filter("model", models, "models", how=How.ANSWERS))
    filters.append(marked(MARKS, "only where"))
    cards = tuple(sample.card(str, options, suite=True) for sample in chosen)
    title = f"Show {how_many(chosen, found)} with each model's response"
    return (
        Text(WARNING, style="content-warning"),
        Fold(title, (Cards("", cards, "", tuple(filters)),), "samples", where=Where.PAGE),
        Text("Prompts that the models answer differently come first. All responses lie in samples/*.jsonl."),
    )


def _configuration(evaluation: Evaluation) -> Section:
    rows = []
    for model, about in evaluation.record["models"].items():
        source = " ".join(f"{key} {item}" for key, item in about["source"].items())
        decoding = ", ".join(f"{key} {item}" for key, item in about["decoding"].items())
        rows.append(TableRow(model, (Cell(source, code=True), Cell(str(about["template"])), Cell(decoding))))
    columns = ("responses by", "prompts put as", "decoding")
    table = Table("model", columns, tuple(rows), columns, where=Where.PAGE)
    folder = evaluation.folder
    command = [Pre(str(folder.manifest["command"]))] if folder.manifest.get("command") else []
    config = [Fold("config.yaml", (Pre(folder.config),), where=Where.PAGE)] if folder.config else []
    return Section("configuration", "Configuration", "Configuration", (*command, table, *config))
