"""What judges made of models, as every record of judged models shows it: how far the judges are to be trusted, and
models compared prompt by prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from evals.judges.card import JudgeCard, Rate
from evals.judges.correction import CORRECTED
from evals.statistics import krippendorffs_alpha
from evals.values.clusters import PLURAL, PROMPT
from harness.evaluate.comparing import COMPARISONS, MetricComparison, read_comparisons
from harness.evaluate.requirements import CANNOT_TELL, MET, MISSED, Decided
from harness.evaluate.trust import PEOPLE
from harness.findings.frontier import SAFETY, USEFULNESS
from harness.findings.wording import judge_label, metric_label, percent, points
from harness.record.evaluation import Evaluation, clusters_counted
from harness.record.run import ResultsFolder
from harness.report.document import NOTHING, Cell, Part, Section, Table, TableRow, Text, Where
from harness.report.tables import in_error

SIGNS = {"win": "▲", "lose": "▼", "tie": "=", "undecided": "?"}
REQUIREMENT_SIGNS = {MET: ("▲", "win"), MISSED: ("▼", "lose"), CANNOT_TELL: ("?", "undecided")}
REQUIRED = (
    "A requirement is met where the whole 95 % interval lies on its right side of the bound, missed where the whole "
    "interval lies on the other side, and else cannot be told: more prompts, or samples, narrow it."
)

CONDITION = "corrected; right where the labels are a random draw by response type and verdict"
JUDGED = (
    "Against people's labels of real models' responses, with 95 % intervals: a judge's accuracy on other models, "
    "prompts and languages may differ. A balanced accuracy of 50 % is that of a judge that always says the same. "
    "Cohen's kappa and Krippendorff's alpha, of the judge and the people: 1 where they always agree, 0 where no more "
    "than chance has it."
)


AMONG = (
    "Krippendorff's alpha of the judges' own verdicts here, every model's responses together. Judges that agree may "
    "all be wrong."
)


def compared_rows(folder: ResultsFolder) -> list[MetricComparison]:
    path = folder.path / COMPARISONS
    return read_comparisons(str(path)) if path.is_file() else []


def comparison_section(
    folder: ResultsFolder, rows: Sequence[MetricComparison], where: Where = Where.ALL
) -> Section:
    """`where` the table is shown; a run has hundreds of rows."""
    parts = _comparisons(folder, rows, where)
    return Section("comparisons", "Comparisons", "Paired comparisons", parts)


def _comparisons(folder: ResultsFolder, rows: Sequence[MetricComparison], where: Where) -> tuple[Part, ...]:
    manifest = folder.manifest
    if not rows:
        return (Text("One model and no baseline: nothing to compare."),)
    tolerance, margin = (percent(float(manifest.get(name, math.nan))) for name in ("tolerance", "margin"))
    how = (
        "Prompt by prompt: McNemar's test of shares, F1 by the paired intervals of its two shares, paired t test where "
        f"a prompt has several samples{_by_cluster(folder)}; Holm's correction over all rows. Win, lose: significant "
        f"after correction and more than {tolerance} apart. Tie: the interval lies within ± {tolerance}. Equivalence: "
        f"two one-sided tests within ± {margin}."
    )
    return replace(comparison_table(rows), where=where), Text(how)


def _by_cluster(folder: ResultsFolder) -> str:
    """What takes the place of these where a suite counts what errs together."""
    counted = {s: PLURAL[kind] for s, kind in clusters_counted(folder).items() if kind != PROMPT}
    units = " or ".join(dict.fromkeys(counted.values()))
    return f", and a t test over {units} of {', '.join(counted)}" if counted else ""


def comparison_table(rows: Sequence[MetricComparison]) -> Table:
    """One row a metric; those that are decided first."""
    order = {"lose": 0, "win": 1, "undecided": 2, "tie": 3}
    ranked = sorted(rows, key=lambda row: order.get(row.verdict, 4))
    words = ("of", "judge", "verdict")
    numbers = ("difference, points", "SE", "95 % interval", "p", "p, Holm", "p of equivalence", "pairs")
    lines = tuple(TableRow(f"{row.first} − {row.second}", _compared(row)) for row in ranked)
    return Table("Comparison", (*words, *numbers), lines, words, wide=True)


def _compared(row: MetricComparison) -> tuple[Cell, ...]:
    sign = SIGNS.get(row.verdict, "")
    return (
        Cell(f"{row.suite}: {metric_label(row.metric)}"),
        Cell(judge_label(row.judge) if row.judge else NOTHING),
        Cell(f"{sign} {row.verdict}", chip=row.verdict if sign else "undecided"),
        Cell(points(row.difference)),
        Cell(in_error(row.stderr)),
        Cell(f"{points(row.ci_low)} to {points(row.ci_high)}"),
        *(Cell(_p_value(p)) for p in (row.p_value, row.p_adjusted, row.p_equivalent)),
        Cell(str(row.n)),
    )


def _p_value(value: float) -> str:
    return "–" if math.isnan(value) else "< .001" if value < 0.001 else f"{value:.3f}".lstrip("0") or "0"


def judge_section(record: Evaluation) -> Section:
    judges = judge_table(record)
    told: tuple[Part, ...] = (judges, Text(JUDGED)) if judges.rows else (Text("Nothing was judged."),)
    among = among_judges(record)
    return Section("judges", "Judges", "The judges", (*told, among, Text(AMONG)) if among.rows else told)


def among_judges(record: Evaluation) -> Table:
    """How far those that were asked agree on each suite, whoever is right; a jury says what its members do."""
    judges = [
        name
        for name, about in record.record["judges"].items()
        if not str(about["identity"]).startswith("jury:")
    ]
    if any("method" in about for about in record.record["models"].values()):
        judges = []  # a run has the verdicts of all its checkpoints
    rows = []
    for suite in record.suites if len(judges) > 1 else ():
        for what, told in (("refused", "refuses"), ("disallowed", "is disallowed")):
            said = record.verdicts(suite, what, judges)
            telling = [judge for judge, of in zip(judges, said, strict=True) if any(v == v for v in of)]
            if len(telling) > 1:
                alpha = krippendorffs_alpha(said)
                cells = (", ".join(telling), NOTHING if math.isnan(alpha) else f"{alpha:.2f}")
                rows.append(TableRow(f"{suite}: {told}", tuple(map(Cell, cells))))
    return Table("among themselves", ("judges", "alpha"), tuple(rows), ("judges",))


def card_text(record: Evaluation, judge: str) -> str:
    """What stands beside a judge's scores; "" for people. Corrected ones say what they rest on."""
    if judge.endswith(CORRECTED):
        return CONDITION
    cards = list(_cards(record, judge).values())
    if cards:
        return cards[0].text if len(cards) == 1 else f"one a run: {len(cards)} cards below"
    return "" if judge == PEOPLE or judge not in record.judges else "not measured on people's labels"


def _cards(record: Evaluation, judge: str) -> dict[str, JudgeCard]:
    """Several where each run of a sweep has trained its own."""
    return {name: card for name, card in record.cards.items() if card.judge == judge}


def judge_table(record: Evaluation) -> Table:
    """A judge a row: what it is, how it agrees with people, what it left unscored here."""
    # A run's rows of single checkpoints, which are numbers, are in those of their mean.
    whole = [r for r in record.folder.metrics if r.suite in record.suites and not r.checkpoint.isdecimal()]
    safety = {(row.suite, row.judge) for row in whole if row.metric == SAFETY}
    rows = []
    for judge, about in record.record["judges"].items():
        counted = {suite: SAFETY if (suite, judge) in safety else USEFULNESS for suite in record.suites}
        mine = [row for row in whole if row.judge == judge and row.metric == counted[row.suite]]
        unscored, total = sum(r.n_unscored for r in mine), sum(r.n + r.n_unscored for r in mine)
        cards = _cards(record, judge)
        for name, card in cards.items() or [(judge, None)]:
            identity = Cell(str(card.identity if card else about["identity"]), code=True)
            told = (*_card_cells(card), Cell(f"{unscored} of {total}"))
            rows.append(TableRow(judge_label(judge) if len(cards) < 2 else name, (identity, *told)))
    words = ("identity", "people's labels")
    rates = ("balanced accuracy, %", "positives found, %", "negatives found, %")
    beyond = ("kappa", "alpha")
    return Table("judge", (*words, "responses", *rates, *beyond, "unscored here"), tuple(rows), words)


def _card_cells(card: JudgeCard | None) -> tuple[Cell, ...]:
    if card is None:
        return (Cell(),) * 7
    n = f"{card.n}, {card.n_unscored} unscored" if card.n_unscored else f"{card.n}"
    rates = (card.balanced_accuracy, card.recall, card.specificity)
    beyond_chance = (Cell(_coefficient(rate)) for rate in (card.kappa, card.alpha))
    return (
        Cell(f"{card.labels}, {card.verdict}"),
        Cell(n),
        *(Cell(_rate(rate)) for rate in rates),
        *beyond_chance,
    )


def _rate(rate: Rate) -> str:
    if math.isnan(rate.value):
        return NOTHING
    return f"{100 * rate.value:.1f} ({100 * rate.low:.1f} to {100 * rate.high:.1f})"


def _coefficient(rate: Rate) -> str:
    if math.isnan(rate.value):
        return NOTHING
    return f"{rate.value:.2f} ({rate.low:.2f} to {rate.high:.2f})"


def requirement_parts(decided: Sequence[Decided]) -> tuple[Part, ...]:
    """Each requirement of each model, the missed ones first."""
    order = [MISSED, CANNOT_TELL, MET]
    ranked = sorted(decided, key=lambda one: order.index(one.verdict))
    words, numbers = ("of", "judge", "verdict"), ("required", "value", "95 % interval", "n")
    lines = tuple(TableRow(one.model, _required(one)) for one in ranked)
    return Table("Model", (*words, *numbers), lines, words, wide=True), Text(REQUIRED)


def _required(one: Decided) -> tuple[Cell, ...]:
    sign, chip = REQUIREMENT_SIGNS[one.verdict]
    least = not math.isnan(one.at_least)
    bound = f"{'≥' if least else '≤'} {percent(one.at_least if least else one.at_most)}"
    measured = not math.isnan(one.value)
    return (
        Cell(f"{one.suite}: {metric_label(one.metric)}"),
        Cell(judge_label(one.judge) if one.judge else NOTHING),
        Cell(f"{sign} {one.verdict}", chip=chip),
        Cell(bound),
        Cell(percent(one.value) if measured else NOTHING),
        Cell(f"{percent(one.ci_low)} to {percent(one.ci_high)}" if measured else NOTHING),
        Cell(str(one.n)),
    )
