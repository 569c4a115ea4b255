"""The paper's claims as a report tells them: the first judge's verdicts, the other judges' beside them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.findings.claim_parts import ClaimPart
from harness.findings.claims import ClaimResult, check_claims
from harness.findings.frontier import SAFETY, Scores, Verdict
from harness.findings.papers_claims import NUMBERS
from harness.findings.wording import REWARDS, judge_label, method_label, points
from harness.report.document import NOTHING, Aside, Cell, Item, Items, Table, TableRow, Text, Where
from harness.report.tables import in_error

SIGNS = {Verdict.HELD: "✓", Verdict.NOT_HELD: "✗", Verdict.UNDECIDED: "?", Verdict.ONE_SEED: "–"}
ABSENT = "None of the methods that the claims compare were measured."
SEEDS, REPORTED = "seeds here / for 80 % power", "the paper, percent"
MAIN = "the three main methods"
# What measures a claim: an experiment, or for the rest MAIN.
MEASURED_BY = dict.fromkeys((5, 6, 10), "experiment=paper") | {
    8: "experiment=grader_size",
    11: "experiment=safety_share",
    12: "experiment=hard_to_comply",
}


@dataclass(frozen=True)
class Claims:
    """`others` are the results of the other judges, each by the claim's number."""

    judge: str
    results: Sequence[ClaimResult]
    others: Mapping[str, Mapping[int, ClaimResult]]

    @classmethod
    def of(cls, scores: Scores, suite: str) -> Claims:
        first, *others = scores.judges(suite, SAFETY) or [""]
        results = check_claims(scores, suite, first) if first else []
        return cls(
            first, results, {j: {r.claim.number: r for r in check_claims(scores, suite, j)} for j in others}
        )

    @property
    def missing(self) -> str:
        """Which claims were not measured, and what would measure them; "" where all were."""
        numbers = [n for n in NUMBERS if n not in {result.claim.number for result in self.results}]
        by: dict[str, list[str]] = {}
        for number in numbers:
            by.setdefault(MEASURED_BY.get(number, MAIN), []).append(str(number))
        said = "; ".join(f"{' and '.join(found)} by {what}" for what, found in by.items())
        return f"Not measured here, of the twelve: {said}." if said else ""

    def by_others(self, result: ClaimResult) -> list[Verdict | None]:
        """None where a claim needs no judge, or that judge's verdict is absent."""
        found = [other.get(result.claim.number) for other in self.others.values()]
        return [r.verdict if r is not None and result.claim.judged else None for r in found]


def in_brief(claims: Claims) -> Aside:
    """Counts, and one line a claim."""
    title = "The paper's claims, re-tested"
    if not claims.results:
        return Aside(title, (Text(ABSENT),))
    counts = Counter(result.verdict for result in claims.results)
    told = ", ".join(f"{counts[v]} {v.value}" for v in (Verdict.HELD, Verdict.UNDECIDED, Verdict.NOT_HELD))
    if counts[Verdict.ONE_SEED]:
        told = f"{counts[Verdict.ONE_SEED]} measured on one seed, which decides nothing about a method"
    lines = tuple(Item(_statement(result), _chip(result.verdict)) for result in claims.results)
    return Aside(title, (Text(f"{told}, by {judge_label(claims.judge)}."), Items(lines, Where.PAGE)))


def claim_table(claims: Claims) -> Table:
    """For the page: each comparison of a claim in a row of its own."""
    rows = []
    for result in claims.results:
        for place, part in enumerate(result.parts):
            span = 0 if place else len(result.parts)
            verdicts = (_chip(verdict, span) for verdict in (result.verdict, *claims.by_others(result)))
            told = (
                *verdicts,
                *map(Cell, _told(part)),
                Cell(_seeds(part)),
                Cell(result.claim.reported, rows=span),
            )
            rows.append(TableRow(_statement(result), told, "detail" if part.detail else "", rows=span))
    by = (f"by {judge_label(judge)}" for judge in claims.others)
    words = ("Verdict", *by, "Comparison", "of")
    columns = (*words, "difference, points", "SE", "interval that decides, 95 % or as said")
    columns = (*columns, SEEDS, REPORTED)
    return Table("Claim", columns, tuple(rows), ("Claim", *words, REPORTED), wide=True, where=Where.PAGE)


def claim_summary(claims: Claims) -> Table:
    """For the summary: one row a claim, without details."""
    rows = []
    for result in claims.results:
        needed = [part for part in result.parts if not part.detail]
        parts = map(_told, needed)
        told = "\n".join(f"{pair}, {what}: {d} ± {se} ({interval})" for pair, what, d, se, interval in parts)
        seeds = Cell("\n".join(map(_seeds, needed)))
        others = (Cell(verdict.value if verdict else NOTHING) for verdict in claims.by_others(result))
        rows.append(
            TableRow(
                _statement(result),
                (_chip(result.verdict), *others, Cell(told), seeds, Cell(result.claim.reported)),
            )
        )
    by = (f"by {judge_label(judge)}" for judge in claims.others)
    columns = ("verdict", *by, "paired difference, points", SEEDS, REPORTED)
    return Table("claim", columns, tuple(rows), columns, where=Where.SUMMARY)


def _seeds(part: ClaimPart) -> str:
    here = len(part.difference.by_seed) if part.difference else 0
    return f"{here} / {part.seeds or NOTHING}"


def _statement(result: ClaimResult) -> str:
    return f"{result.claim.number}. {result.claim.statement}"


def _chip(verdict: Verdict | None, rows: int = 1) -> Cell:
    if verdict is None:
        return Cell(rows=rows)
    return Cell(f"{SIGNS[verdict]} {verdict.value}", chip=verdict.value.replace(" ", "-"), rows=rows)


def _told(part: ClaimPart) -> tuple[str, str, str, str, str]:
    """Comparison, of what, difference, standard error, interval."""
    first, second = (REWARDS.get(name) or method_label(name) for name in (part.first, part.second))
    low, high = part.interval
    level = "" if part.level == 0.95 else f", {round(100 * part.level, 1):g} %"
    difference = part.difference
    return (
        f"{first} − {second}" if part.second else first,
        part.what,
        points(difference.value) if difference else NOTHING,
        in_error(difference.stderr) if difference else NOTHING,
        f"{points(low)} to {points(high)}{level}",
    )
