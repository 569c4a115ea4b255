"""What a swept number reaches: each sweep's best points and their area, and two sweeps held against each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from evals.values.clusters import PLURAL, PROMPT
from harness.findings.frontier import SAFETY, USEFULNESS, Scores
from harness.findings.fronts import REFERENCE, Answers, BySeed, FrontGap, compare_fronts, hypervolume, pareto
from harness.findings.trends import LEAST_VALUES, Sweep, sweeps
from harness.findings.wording import method_label, percent, plain, points
from harness.record.evaluation import clusters_counted
from harness.record.run import JsonRow, ResultsFolder
from harness.record.samples import VERDICTS, to_be_answered
from harness.report.document import NOTHING, Cell, Figure, Part, Section, Table, TableRow, Text

MOST_PAIRS = 6
TOLD = (
    "Best points: those that no other value of the same sweep beats on both axes. Area: what they dominate, with the "
    f"reference point Not-Unsafe {REFERENCE[0]:g} and Not-Overrefuse {REFERENCE[1]:g}, by the means over seeds."
)
PAIRED = (
    "Usefulness (Not-Overrefuse) of the first front minus that of the second at equal safety (Not-Unsafe), the mean "
    "over the range that both have; between two values a front is the line that joins them. Intervals are 95 %, by "
    "bootstrap over seeds and {units}, paired by both. Fronts without a common range: cannot tell."
)
CANNOT_TELL = "cannot tell"


def fronts_section(folder: ResultsFolder, suite: str, figures: Sequence[Figure]) -> Section | None:
    """None where no number was swept over LEAST_VALUES values or more."""
    scores = folder.scores
    judges = scores.judges(suite, SAFETY)
    found = fronts(scores, suite, judges[0]) if judges else []
    if not found:
        return Section("fronts", "Sweep", "What the swept number does", tuple(figures)) if figures else None
    parts: list[Part] = [*figures, _table(found, scores, suite, judges[0]), Text(TOLD)]
    pairs = [(a, b) for a, b in combinations(found, 2) if (a.key, a.rest) == (b.key, b.rest)][:MOST_PAIRS]
    if compared := [row for pair in pairs if (row := _pair_row(folder, suite, judges[0], *pair))]:
        columns = ("difference at equal safety, points", "95 % interval", "")
        told = PAIRED.format(units=PLURAL[clusters_counted(folder).get(suite, PROMPT)])
        parts += [Table("Fronts", columns, tuple(compared), ("Fronts", "")), Text(told)]
    return Section("fronts", "Sweep", "What the swept number does", tuple(parts))


def fronts(scores: Scores, suite: str, judge: str) -> list[Sweep]:
    """The sweeps of a trained model's number over LEAST_VALUES values or more."""
    return [s for s in sweeps(scores.methods(suite, SAFETY, judge)) if len(s.points) >= LEAST_VALUES]


def _named(sweep: Sweep) -> str:
    rest = f" ({sweep.rest})" if sweep.rest else ""
    return f"{method_label(sweep.base)}, {plain(sweep.key.rpartition('.')[2])}{rest}"


def _table(found: Sequence[Sweep], scores: Scores, suite: str, judge: str) -> Table:
    rows = []
    for sweep in found:
        places = _places(sweep, scores, suite, judge)
        best = ", ".join(f"{sweep.points[i][0]:g}" for i in pareto(places))
        values = ", ".join(f"{value:g}" for value, _ in sweep.points)
        rows.append(TableRow(_named(sweep), (Cell(values), Cell(best), Cell(percent(hypervolume(places))))))
    return Table("Sweep", ("values", "best points", "area"), tuple(rows), ("Sweep", "values", "best points"))


def _places(sweep: Sweep, scores: Scores, suite: str, judge: str) -> np.ndarray:
    """[values, 2]: safety, usefulness; NaN where one was not measured."""

    def of(method: str, metric: str) -> float:
        estimate = scores.estimate(method, suite, metric, judge)
        return estimate.value if estimate is not None else math.nan

    return np.array([[of(m, SAFETY), of(m, USEFULNESS)] for _, m in sweep.points])


def _pair_row(folder: ResultsFolder, suite: str, judge: str, first: Sweep, second: Sweep) -> TableRow | None:
    """None where the record keeps no verdicts."""
    mine, theirs = (answers_of(folder, sweep, suite, judge) for sweep in (first, second))
    if not mine or not theirs:
        return None
    found = compare_fronts(mine, theirs, seed=0)
    return TableRow(f"{_named(first)} − {_named(second)}", (*_told(found),))


def _told(found: FrontGap) -> tuple[Cell, Cell, Cell]:
    if math.isnan(found.value):
        return Cell(), Cell(), Cell(CANNOT_TELL, chip="undecided")
    verdict = Cell("decided" if found.decided else CANNOT_TELL, chip="held" if found.decided else "undecided")
    interval = f"{points(found.low)} to {points(found.high)}" if found.told > 0 else NOTHING
    return Cell(points(found.value)), Cell(interval), verdict


def answers_of(folder: ResultsFolder, sweep: Sweep, suite: str, judge: str) -> BySeed:
    """Shares over checkpoints of responses that are safe, and that answer what is to be answered, with what the suite's
    intervals count as one. Seeds and prompts that every model of the sweep has; none where no verdicts are kept.
    """
    counted = clusters_counted(folder).get(suite, PROMPT)
    units: dict[tuple[int, str], str] = {}
    fields = {"seed": int, "prompt_id": str}
    found: list[dict[int, dict[str, tuple[float, float]]]] = []
    for _, method in sweep.points:
        by_seed: dict[int, dict[str, list[tuple[float, float]]]] = {}
        for row in folder.rows(f"{VERDICTS}/{method}.jsonl.gz", fields):
            if row.get("suite") == suite and isinstance(row.get(judge), dict):
                seed, prompt = row["seed"], row["prompt_id"]
                by_seed.setdefault(seed, {}).setdefault(prompt, []).append(_answer(row, judge))
                units[seed, prompt] = prompt if counted == PROMPT else str(row.get(counted, prompt))
        found.append({seed: {p: _mean(said) for p, said in of.items()} for seed, of in by_seed.items()})
    seeds = set.intersection(*(set(of) for of in found)) if found else set()
    answers = {}
    for seed in sorted(seeds):
        prompts = sorted(set.intersection(*(set(of[seed]) for of in found)))
        if prompts:
            said = np.array([[of[seed][prompt] for prompt in prompts] for of in found])
            answers[seed] = Answers(said, [units[seed, prompt] for prompt in prompts])
    return answers


def _answer(row: JsonRow, judge: str) -> tuple[float, float]:
    disallowed, refused = (row[judge].get(name) for name in ("disallowed", "refused"))
    asked = to_be_answered(row) and refused is not None
    return (math.nan if disallowed is None else float(not disallowed)), float(
        not refused
    ) if asked else math.nan


def _mean(said: Sequence[tuple[float, float]]) -> tuple[float, float]:
    safe, useful = ([v for v in values if not math.isnan(v)] for values in zip(*said, strict=True))
    return (
        sum(safe) / len(safe) if safe else math.nan,
        sum(useful) / len(useful) if useful else math.nan,
    )
