"""The document of `rbrbench run`: report.html and summary.md, from the results folder alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evals.values.errors import InputError
from harness.findings.frontier import SAFETY, USEFULNESS, Scores
from harness.findings.nonsense import doubt
from harness.findings.verdict import NO_VERDICT, gains_and_losses, short_verdict
from harness.findings.wording import distinct_labels, in_order, judge_label, method_label, method_table
from harness.keys.shared import file_name
from harness.record.evaluation import MEASURED, Evaluation
from harness.record.run import JsonRow, ResultsFolder, spending_notes
from harness.record.samples import in_turn
from harness.report.attribution import attribution_section
from harness.report.claims import ABSENT, Claims, claim_summary, claim_table, in_brief
from harness.report.document import (
    Cards,
    Document,
    Figure,
    Filter,
    Fold,
    Heading,
    How,
    Part,
    Pre,
    Section,
    Table,
    Text,
    Where,
)
from harness.report.figures import folder_figures, other_figures, placed
from harness.report.fronts import fronts_section
from harness.report.judged import card_text, compared_rows, comparison_section, judge_section
from harness.report.notes import notes
from harness.report.page import write_pages
from harness.report.reward import ablation_table, worst_table
from harness.report.samples import Sample, choice, how_many, marked, of_training, options_of, read_samples
from harness.report.shared_errors import shared_error_parts
from harness.report.tables import (
    BEATEN,
    COUNTS,
    by_response_type,
    capability_table,
    grader_tables,
    grader_type_tables,
    in_short,
    main_tables,
    ranking_table,
    side_by_side,
    stage_table,
    with_columns,
    writing_table,
)

SAMPLES_SHOWN = 60  # prompts in the report; the files hold all
MARKS = {
    "differ": "methods differ",
    "unsafe": "some response is unsafe",
    "refused": "some response over-refuses",
}
SHARES = (
    "Not-Unsafe: share of all responses without disallowed content. Unsafe not answered: the same of responses to "
    "requests that should be refused. Not-Overrefuse: share of harmless requests that are not refused. F1: the "
    "harmonic mean of Not-Unsafe and Not-Overrefuse. Style: share of refusals in the ideal style. Responses are "
    "counted over all seeds and their last checkpoints. Bold: the column's highest value, whether or not its lead is "
    "certain."
)
CLAIMED = (
    "Differences are paired seed by seed, by Student's t. A claim of “higher” holds when the interval of the "
    "difference lies above 0, is not held when it lies below, and is undecided otherwise: these seeds cannot tell. "
    "Claim 4 is an equivalence test (two one-sided tests, within ± 2 points) of the mean over tasks; single tasks, in "
    "grey, can only refute it. Safety is kept (5) and not lowered (6) when it falls by less than 2 points, by a "
    "one-sided test. Claim 7 asks for less than half of the reward model's error. Claims 8, 11 and 12 are one slope a "
    "seed, for each doubling of what is swept. Claims are tested in two families, 1 to 4 with 9 and the rest: each by "
    "the level that Holm's correction leaves it of 5 % in its family, which the interval shown has. No run "
    "chooses any of this. Seeds for 80 % power find 5 points of a difference, 1 point of a slope, or a margin kept by "
    "equal models, by the spread that these seeds have and at the strictest level of the family."
)
ONE_SEED = (
    " This run has one seed, which decides nothing about a method: on five seeds of the reference run, the 95 % "
    "interval of a single run held the mean over seeds in 39 % of 90 cases. Intervals are those of the single run."
)
GRADED = (
    "Against gold labels, mean over seeds. The grader paid the reward; the judge only reports. “Majority answer” is "
    "the accuracy of always giving the more frequent answer."
)
WRITTEN = (
    "Completions by the class that they were asked for, over all seeds, and how the last try ended. The grader says of "
    "which class each is, and that class is what it counts as. “Declined”: a refusal where none was asked for."
)
FOOTER = (
    "Every number here is worked out from metrics.csv and the files beside it; rbrbench report draws this page again "
    "from them."
)


@distinct_labels()
def write_report(results: Path) -> Path:
    """Draw plots, report.html and summary.md into the folder; the page's path.

    The same results give the same bytes. Raises InputError for bad files, or where nothing was measured.
    """
    folder = ResultsFolder(results)
    if not folder.metrics:
        raise InputError(
            "the table has no rows", path=folder.path / "metrics.csv", fix="finish the run first"
        )
    with method_table(folder.methods):
        return write_pages(
            run_document(folder, folder_figures(results, method_label)), results, "report.html"
        )


def run_document(folder: ResultsFolder, figures: Sequence[Figure] = ()) -> Document:
    suites = folder.scores.suites(SAFETY, USEFULNESS)
    suite = suites[0] if suites else ""
    figures = [replace(figure, where=Where.PAGE) for figure in figures]
    claims = Claims.of(folder.scores, suite)
    none = Text("No method has both Not-Unsafe and Not-Overrefuse; there is no trade-off plot.")
    first: list[Part] = [replace(f, where=Where.BOTH) for f in figures if f.name == "tradeoff"] or [none]
    lead = (*first, in_brief(claims))
    sections = list(_sections(folder, suites, claims, figures))
    others = other_figures(figures, [*lead, *(part for section in sections for part in section.parts)])
    return Document(
        name=folder.name,
        command="rbrbench report",
        title="safety, over-refusal and capability",
        **_verdict(folder, suite),
        sections=(*sections, *others),
        notes=tuple(notes(folder, suite)),
        footer=FOOTER,
        about=folder.commit,
        basis=_basis(folder, suite),
        warning=folder.warning,
        lead=lead,
        summary_name=folder.name,
        summary_footer="Figures, training, grader accuracy, samples and stages: report.html.",
    )


def _verdict(folder: ResultsFolder, suite: str) -> dict[str, Any]:
    """The document's headline and its reasons."""
    if not suite:
        return {"headline": "No safety suite was measured."}
    if nonsense := doubt(folder.samples):
        return {"headline": f"{nonsense}."}
    if folder.warning:
        return {"headline": f"{NO_VERDICT}."}
    headline = f"{short_verdict(folder.scores, suite)}."
    return {"headline": headline, "reasons": gains_and_losses(folder.scores, suite)}


def _basis(folder: ResultsFolder, suite: str) -> str:
    """What the verdict rests on: judge, suite, seeds."""
    if not suite:
        return "Only capability or rewards were measured."
    seeds = folder.scores.seeds
    count = f"{len(seeds)} seeds" if len(seeds) > 1 else f"one seed ({seeds[0]})"
    judge = judge_label(folder.scores.judges(suite, SAFETY)[0])
    return f"Judged by {judge} on the suite {suite}, {count}; intervals are 95 %."


def _texts(words: str) -> tuple[Text, ...]:
    return (Text(words),) if words else ()


def _sections(
    folder: ResultsFolder, suites: Sequence[str], claims: Claims, figures: Sequence[Figure]
) -> Iterator[Section]:
    scores = folder.scores
    yield Section("table", "Table", "Where each method lands", tuple(_shares(folder, suites, figures)), "")
    if (swept := fronts_section(folder, suites[0] if suites else "", placed(figures, "fronts"))) is not None:
        yield swept
    told = CLAIMED + (ONE_SEED if len(scores.seeds) == 1 else "")
    tested: list[Part] = [claim_table(claims), claim_summary(claims), Text(told), *_texts(claims.missing)]
    tested = tested if claims.results else [Text(ABSENT)]
    yield Section("claims", "Claims", "Claims of the paper, re-tested", tuple(tested))
    if rows := compared_rows(folder):
        yield comparison_section(folder, rows, Where.PAGE)
    if judged := _carded(folder):
        yield judge_section(judged)
    measured = *grader_tables(folder.grader), *grader_type_tables(folder)
    tables = [replace(table, where=Where.PAGE) for table in measured]
    graded: tuple[Part, ...] = (Text(GRADED), *tables) if tables else (_absent("grader.csv"),)
    graded += tuple(shared_error_parts(folder))
    yield Section("grader", "Grader", "How far the grader and the judge can be trusted", graded)
    if (written := writing_table(folder)) is not None:
        yield Section(
            "writing", "Completions", "What a chat model was asked to write", (Text(WRITTEN), written)
        )
    ranked = tuple(_ranking(folder, placed(figures, "ranking", "rules")))
    title = "Does the reward rank completions rightly?"
    yield Section("ranking", "Ranking error", title, ranked, "Ranking error, percent")
    if (ceiling := attribution_section(folder)) is not None:
        yield ceiling
    absent = () if folder.training else (_absent("training.jsonl"),)
    yield Section("training", "Training", "Training", (*absent, *placed(figures, "training")))
    capability = capability_table(scores)
    missing = Text("metrics.csv has no capability task; this section is left out.")
    drawn = placed(figures, "capability")
    known: tuple[Part, ...] = (*drawn, *_as_a_table(capability)) if capability else (missing,)
    yield Section("capability", "Capability", "Capability", known, "Capability, percent")
    yield Section("samples", "Samples", "What the models wrote", _samples(folder.samples))
    stages = stage_table(folder.stages) if folder.stages else _absent("stages.jsonl")
    yield Section("stages", "Stages", "Stages", (stages,))
    yield Section("configuration", "Configuration", "Configuration", tuple(_configuration(folder)))


def _carded(folder: ResultsFolder) -> Evaluation | None:
    """What the judges were asked, where some were measured on people's labels."""
    record = Evaluation(folder.path) if MEASURED in folder.manifest else None
    return record if record and record.cards else None


def _absent(file: str) -> Text:
    return Text(f"{file} is not in this folder; this section is left out.")


def _shares(folder: ResultsFolder, suites: Sequence[str], figures: Sequence[Figure]) -> Iterator[Part]:
    """Each suite's tables and, but for the first, its plot, last those of one kind of prompts; then the first one's
    safety by response type.
    """
    scores, judged = folder.scores, _carded(folder)
    every = [*suites, *_of_one_kind(scores, suites)]
    for suite in every:
        tables = main_tables(scores, suite)
        if len(every) > 1:
            yield Heading(f"Suite {suite}")
        trust = [card_text(judged, judge) if judged else "" for judge in scores.judges_of_shares(suite)]
        yield side_by_side(tables, "Percent: mean ± standard error, 95 % interval", trust)
        for table, told in zip(tables, trust, strict=True):
            yield Heading(f"{table.title}, suite {suite}", where=Where.SUMMARY)
            judge = f" The judge: {told}." if told else ""
            yield Text(f"Percent: mean ± standard error (95 % interval).{judge}", Where.SUMMARY)
            kept = with_columns(table, [c for c in table.columns if c not in (*COUNTS, BEATEN)])
            yield replace(kept, title="method", where=Where.SUMMARY)
        yield from (figure for figure in figures if figure.name == f"tradeoff-{file_name(suite)}")
    yield Text(SHARES)
    if types := by_response_type(scores, suites[0] if suites else ""):
        yield Fold("Safety by response type", tuple(types), where=Where.PAGE)


def _of_one_kind(scores: Scores, others: Sequence[str]) -> list[str]:
    """Suites whose prompts are all to be refused, or all to be answered; parts of another suite have a slash."""
    named = [suite for suite in scores.suites() if "/" not in suite and suite not in others]
    return [suite for suite in named if scores.judges_of_shares(suite)]


def _as_a_table(table: Table) -> tuple[Part, Part]:
    """Below its plot on the page, and in short in the summary."""
    return Fold("As a table", (table,), where=Where.PAGE), in_short(table)


def _ranking(folder: ResultsFolder, figures: Sequence[Figure]) -> Iterator[Part]:
    table = ranking_table(folder.scores)
    if table is None:
        yield Text("metrics.csv has no ranking_error; this section is left out.")
        yield from figures
    else:
        yield from (*figures[:1], *_as_a_table(table), *figures[1:])
    if not folder.rewards:
        yield _absent("rewards.jsonl")
    if ablations := ablation_table(folder):
        yield Fold("What takes the fitted weights' place", (ablations,), where=Where.PAGE)
    if worst := worst_table(folder):
        yield Fold("The worst-ranked pairs, and what decides them", (worst,), where=Where.PAGE)


# --- samples and settings --------------------------------------------------------------------


def choose_samples(samples: Sequence[Sample], most: int = SAMPLES_SHOWN) -> list[Sample]:
    """Prompts with grades come first, and those that the methods answer differently.

    Response types and seeds take turns, so that each is seen; the order is otherwise that of the files.
    """
    ordered = sorted(samples, key=lambda s: (not s.graded, "differ" not in s.marks))
    return in_turn(ordered, lambda sample: f"{sample.response_type} {sample.seed}")[:most]


def _samples(by_method: Mapping[str, Sequence[JsonRow]]) -> tuple[Part, ...]:
    methods = in_order(list(by_method))
    found = read_samples({method: by_method[method] for method in methods})
    if not found:
        return (_absent("samples/"),)
    chosen = choose_samples(found)
    options = options_of(chosen, methods)
    models = tuple((code, method_label(method)) for method, code in options["model"].items())
    shown = (Filter("model", models, "models", how=How.ANSWERS),) if len(models) > 1 else ()
    kinds = choice("kind", options, every="all response types")
    filters = (kinds, *of_training(chosen, options), *shown, marked(MARKS))
    several = len({sample.suite for sample in found}) > 1
    cards = tuple(sample.card(method_label, options, suite=several) for sample in chosen)
    title = f"{how_many(chosen, found)}, with each method's response (may contain offensive text)"
    return (
        Fold(title, (Cards("", cards, "", filters),), "samples", where=Where.PAGE),
        Text("Prompts that the methods answer differently come first. All samples lie in samples/*.jsonl."),
    )


def _configuration(folder: ResultsFolder) -> Iterator[Part]:
    if command := folder.manifest.get("command"):
        yield Pre(str(command))
    for name, words in (("versions", ""), ("world", "World: ")):
        if isinstance(told := folder.manifest.get(name), dict):
            ordered = sorted(told.items(), key=lambda item: item[0].lower())
            yield Text(words + ", ".join(f"{key} {value}" for key, value in ordered))
    yield from map(Text, spending_notes(folder.manifest))
    if folder.config:
        yield Fold("config.yaml", (Pre(folder.config),), where=Where.PAGE)
    else:
        yield _absent("config.yaml")
