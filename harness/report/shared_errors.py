"""What grader and judge get wrong together, on the page: beside what independent errors would come to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from evals.graders.shared_errors import SharedErrors
from harness.findings.wording import percent, plain
from harness.record.run import OF_GOLD, OF_RESPONSES, SHARED_ERRORS, JsonRow, ResultsFolder, number
from harness.report.document import NOTHING, Cell, Fold, Part, Table, TableRow, Text, Where

NUMBERS = ("n", "grader_wrong", "judge_wrong", "both_wrong")
TEXTS = ("of", "response_type", "proposition")
COLUMNS = ("graded by both", "grader wrong", "judge wrong", "both wrong", "both, if independent")
ALL = "all propositions"
TITLES = {
    OF_RESPONSES: "Wrong together on what the models wrote, by the oracle",
    OF_GOLD: "Wrong together on the gold labels",
}
TOLD = (
    "What grader and judge say of one proposition of one response, over all seeds: how often each is wrong, and how "
    "often both at once. “If independent”: what their errors would come to by chance, within each seed and response "
    "type. Where both are wrong more often than that, the judge is fooled by what fools the grader, and a policy that "
    "learnt to do so looks better than it is."
)


def shared_error_parts(folder: ResultsFolder) -> list[Part]:
    """A table each of responses and of gold labels by proposition, and by response type; [] where none was measured."""
    rows = folder.table(SHARED_ERRORS, NUMBERS, TEXTS)
    if not rows:
        return []
    parts: list[Part] = []
    for of, title in TITLES.items():
        if mine := [row for row in rows if row["of"] == of]:
            parts.append(_table(title, mine, lambda row: plain(str(row["proposition"]))))
            typed = _table("by response type", mine, _by_type, whole=False)
            parts.append(Fold(f"{title}: by response type", (typed,), where=Where.PAGE))
    return [*parts, Text(TOLD, Where.PAGE)]


def worst_shared(folder: ResultsFolder) -> tuple[str, float, float] | None:
    """The proposition on which both are wrong most beyond chance, and the shares of both and by chance; on responses,
    else on gold labels; None where none was measured.
    """
    rows = folder.table(SHARED_ERRORS, NUMBERS, TEXTS)
    of = OF_RESPONSES if any(row["of"] == OF_RESPONSES for row in rows) else OF_GOLD
    mine = _grouped([row for row in rows if row["of"] == of], lambda row: plain(str(row["proposition"])))
    found = {name: _pooled(group) for name, group in mine.items()}
    shares = [(name, s.both / s.n, expected / s.n) for name, (s, expected) in found.items() if s.n]
    return max(shares, key=lambda one: one[1] - one[2], default=None)


def _by_type(row: JsonRow) -> str:
    return f"{plain(str(row['response_type']))}: {plain(str(row['proposition']))}"


def _table(
    title: str, rows: Sequence[JsonRow], name_of: Callable[[JsonRow], str], whole: bool = True
) -> Table:
    groups = _grouped(rows, name_of)
    ranked = sorted(groups, key=lambda name: -_excess(groups[name]))
    named: list[tuple[str, Sequence[JsonRow]]] = [(ALL, rows)] if whole else []
    named += [(name, groups[name]) for name in ranked]
    lines = tuple(TableRow(name, tuple(_cells(group))) for name, group in named)
    return Table(title, COLUMNS, lines, where=Where.PAGE)


def _grouped(rows: Sequence[JsonRow], name_of: Callable[[JsonRow], str]) -> dict[str, list[JsonRow]]:
    groups: dict[str, list[JsonRow]] = {}
    for row in rows:
        groups.setdefault(name_of(row), []).append(row)
    return groups


def _pooled(rows: Sequence[JsonRow]) -> tuple[SharedErrors, float]:
    """All rows' counts, and how many would be wrong of both by chance: the sum over rows, each within itself."""
    counts = [SharedErrors(*(int(number(row, column)) for column in NUMBERS)) for row in rows]
    pooled = SharedErrors(
        *(sum(getattr(c, name) for c in counts) for name in ("n", "first", "second", "both"))
    )
    return pooled, sum(c.expected for c in counts if c.n)


def _excess(rows: Sequence[JsonRow]) -> float:
    pooled, expected = _pooled(rows)
    return (pooled.both - expected) / pooled.n if pooled.n else -math.inf


def _cells(rows: Sequence[JsonRow]) -> Iterator[Cell]:
    pooled, expected = _pooled(rows)
    yield Cell(f"{pooled.n:,}".replace(",", " "))
    for count in (pooled.first, pooled.second, pooled.both):
        yield Cell(f"{percent(count / pooled.n)} ({count})" if pooled.n else NOTHING)
    yield Cell(f"{percent(expected / pooled.n)} ({expected:.1f})" if pooled.n else NOTHING)
