"""Write report.html and summary.md of an evaluation from its folder alone.

Like the report of a run the page has no script and loads nothing; its filters are style rules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style

from evals.judges.card import Rate
from evals.statistics import detectable_drop
from harness.evaluate.comparing import MetricComparison, read_comparisons
from harness.evaluate.measuring import CATEGORY
from harness.evaluate.trust import PEOPLE
from harness.findings.frontier import BALANCE, SAFETY, USEFULNESS, Scores
from harness.findings.verdict import verdict_sentence
from harness.findings.wording import judge_label, metric_label, percent, plain, points, type_order
from harness.keys.shared import file_name
from harness.record.evaluation import KIND, Evaluation
from harness.record.run import ResultsFolder
from harness.report.document import NOTHING
from harness.report.evaluation_samples import SampleCard, choose_sample_cards
from harness.report.page import render, svg_source
from harness.report.plots import drawn_files, tradeoff
from harness.report.plots.style import RC
from harness.report.tables import (
    by_response_type,
    capability_table,
    in_error,
    main_tables,
    other_scores_table,
)

POWER_BASELINES = (0.5, 0.8, 0.9, 0.95)
SIGNS = {"win": "▲", "lose": "▼", "tie": "=", "undecided": "?"}


@dataclass(frozen=True)
class HeatCell:
    """A share in percent, and how dark it is drawn: 0 (all is well) to 9 (nothing is)."""

    value: str
    shade: int
    n: int


@dataclass(frozen=True)
class HeatMap:
    """One suite by one judge: a row a category with what it counts, a column a model."""

    suite: str
    judge: str
    models: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[HeatCell, ...]], ...]  # category, metric, cells


@dataclass(frozen=True)
class Picture:
    alt: str
    source: str


def is_evaluation(folder: Path) -> bool:
    """Whether `rbrbench evaluate` wrote this folder, and not `rbrbench run`."""
    return isinstance(ResultsFolder(folder).manifest.get(KIND), dict)


def write_evaluation_report(folder: Path) -> Path:
    """Write plots, `report.html` and `summary.md` into the folder; returns the page's path.

    The same results give the same bytes. Raises InputError for a folder that is no finished evaluation.
    """
    evaluation = Evaluation(folder)
    context = _context(evaluation, _pictures(evaluation))
    evaluation.folder.write("summary.md", render("evaluation.md.j2", context, html=False))
    return evaluation.folder.write("report.html", render("evaluation.html.j2", context, html=True))


def _context(evaluation: Evaluation, pictures: dict[str, Picture]) -> dict[str, Any]:
    folder, scores = evaluation.folder, evaluation.folder.scores
    suites = [suite for suite in evaluation.suites if scores.judges_of_shares(suite)]
    paired = [suite for suite in suites if scores.methods(suite, BALANCE)]
    cards, n_cards = choose_sample_cards(evaluation)
    path = folder.path / "comparisons.csv"
    comparisons = read_comparisons(str(path)) if path.is_file() else []
    return {
        "name": folder.name,
        "manifest": folder.manifest,
        "record": evaluation.record,
        "verdict": verdict_sentence(scores, paired[0]) if paired else _plain_verdict(scores, suites),
        "basis": _basis(scores, paired or suites),
        "pictures": pictures,
        "tables": {suite: main_tables(scores, suite) for suite in suites},
        "trust": {
            suite: [card_text(evaluation, j) for j in scores.judges_of_shares(suite)] for suite in suites
        },
        "by_type": {suite: by_response_type(scores, suite) for suite in suites},
        "heat_maps": [heat_map(scores, suite) for suite in suites if _categories(scores, suite)],
        "capability": [t for t in (capability_table(scores), other_scores_table(scores)) if t],
        "comparisons": comparison_lines(comparisons),
        "tolerance": percent(float(folder.manifest.get("tolerance", math.nan))),
        "margin": percent(float(folder.manifest.get("margin", math.nan))),
        "judges": judge_lines(evaluation),
        "power": power_table(scores, suites),
        "cards": cards,
        "n_cards": n_cards,
        "filters": filter_values(evaluation, cards),
        "notes": folder.manifest.get("notes", []),
        "config": folder.config,
    }


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


def _basis(scores: Scores, suites: Sequence[str]) -> str:
    if not suites:
        return ""
    judge = judge_label(scores.judges_of_shares(suites[0])[0])
    return f"By {judge} on the suite {suites[0]}; intervals are 95 % and count the sampling of prompts."


def _pictures(evaluation: Evaluation) -> dict[str, Picture]:
    """The trade-off plot of each suite that has both sides; also written to plots/."""
    scores, found = evaluation.folder.scores, {}
    for suite in evaluation.suites:
        if not scores.methods(suite, BALANCE):
            continue
        note = f"Suite {suite}; bars: 95 % intervals that count the sampling of prompts."
        name = f"tradeoff-{file_name(suite)}"
        with matplotlib.style.context(["default", RC]):
            for kind, content in drawn_files(tradeoff.draw(evaluation.folder, suite, note)):
                evaluation.folder.write(f"plots/{name}.{kind}", content)
                if kind == "svg":
                    alt = f"Safety against usefulness on {suite}, with 95 % intervals"
                    found[suite] = Picture(alt, svg_source(content))
    return found


# --- tables ----------------------------------------------------------------------------------


def _categories(scores: Scores, suite: str) -> tuple[str, ...]:
    return scores.suites(prefix=f"{suite}{CATEGORY}")


def heat_map(scores: Scores, suite: str) -> HeatMap:
    """By the suite's leading judge. A category of prompts to answer counts answers, another safe responses."""
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
                HeatCell("–", 0, 0)
                if e is None
                else HeatCell(f"{100 * e.value:.0f}", min(9, int(10 * (1 - e.value))), e.n)
                for e in estimates
            ]
            rows.append((plain(name.partition(CATEGORY)[2]), metric_label(metric), tuple(cells)))
    rows.sort(key=lambda row: (row[1], row[0]))
    return HeatMap(suite, judge_label(judge), tuple(models), tuple(rows))


def comparison_lines(rows: Sequence[MetricComparison]) -> list[dict[str, str]]:
    """One line a metric, as text; those that are decided first."""
    order = {"lose": 0, "win": 1, "undecided": 2, "tie": 3}
    ranked = sorted(rows, key=lambda row: order.get(row.verdict, 4))
    return [
        {
            "pair": f"{row.first} − {row.second}",
            "what": f"{row.suite}: {metric_label(row.metric)}",
            "judge": judge_label(row.judge) if row.judge else "–",
            "difference": points(row.difference),
            "stderr": in_error(row.stderr),
            "interval": f"{points(row.ci_low)} to {points(row.ci_high)}",
            "p": _p_value(row.p_value),
            "p_adjusted": _p_value(row.p_adjusted),
            "equivalent": "" if math.isnan(row.p_equivalent) else _p_value(row.p_equivalent),
            "n": str(row.n),
            "verdict": row.verdict,
            "sign": SIGNS.get(row.verdict, ""),
        }
        for row in ranked
    ]


def _p_value(value: float) -> str:
    return "–" if math.isnan(value) else "< .001" if value < 0.001 else f"{value:.3f}".lstrip("0") or "0"


def card_text(evaluation: Evaluation, judge: str) -> str:
    """What stands beside a judge's scores; "" for people, and for scores that were corrected."""
    if judge in evaluation.cards:
        return evaluation.cards[judge].text
    return "" if judge == PEOPLE or judge not in evaluation.judges else "not measured on people's labels"


def judge_lines(evaluation: Evaluation) -> list[dict[str, str]]:
    """A card a judge: what it is, how it agrees with people, what it left unscored here."""
    whole = [row for row in evaluation.folder.metrics if row.suite in evaluation.suites]
    safety = {(row.suite, row.judge) for row in whole if row.metric == SAFETY}
    lines = []
    for judge, about in evaluation.record["judges"].items():
        counted = {suite: SAFETY if (suite, judge) in safety else USEFULNESS for suite in evaluation.suites}
        mine = [row for row in whole if row.judge == judge and row.metric == counted[row.suite]]
        unscored, total = sum(r.n_unscored for r in mine), sum(r.n + r.n_unscored for r in mine)
        card = evaluation.cards.get(judge)
        lines.append(
            {
                "name": judge_label(judge),
                "identity": str(about["identity"]),
                "unscored": f"{unscored} of {total}",
                "labels": f"{card.labels}, {card.verdict}" if card else NOTHING,
                "n": f"{card.n}" + (f", {card.n_unscored} unscored" if card.n_unscored else "")
                if card
                else NOTHING,
                "balanced": _rate(card.balanced_accuracy) if card else NOTHING,
                "recall": _rate(card.recall) if card else NOTHING,
                "specificity": _rate(card.specificity) if card else NOTHING,
            }
        )
    return lines


def _rate(rate: Rate) -> str:
    if math.isnan(rate.value):
        return NOTHING
    return f"{100 * rate.value:.1f} ({100 * rate.low:.1f} to {100 * rate.high:.1f})"


def power_table(scores: Scores, suites: Sequence[str]) -> list[tuple[str, int, tuple[str, ...]]]:
    """(metric of a suite, prompts, smallest drop that would be seen from each of POWER_BASELINES)."""
    lines = []
    for suite in suites:
        judge = scores.judges_of_shares(suite)[0]
        for metric in (SAFETY, USEFULNESS):
            found = [scores.estimate(m, suite, metric, judge) for m in scores.methods(suite, metric, judge)]
            n = min((e.n for e in found if e), default=0)
            if n > 1:
                drops = tuple(percent(detectable_drop(n, base)) for base in POWER_BASELINES)
                lines.append((f"{suite}: {metric_label(metric)}", n, drops))
    return lines


def filter_values(evaluation: Evaluation, cards: Sequence[SampleCard]) -> dict[str, dict[str, str]]:
    """{what: {value: its class in the style rules}} of what the cards can be told apart by."""
    named = {
        "suite": list(dict.fromkeys(card.suite for card in cards)),
        "kind": sorted({card.response_type for card in cards}, key=type_order),
        "category": sorted({card.category for card in cards}),
        "model": [m for m in evaluation.models if any(m == a.method for c in cards for a in c.answers)],
    }
    return {
        what: {name: f"{what}-{number}" for number, name in enumerate(names)} for what, names in named.items()
    }
