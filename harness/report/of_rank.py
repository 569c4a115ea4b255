"""The document of `rbrbench rank`, from its record: rewards by subset, what they miss, and where they rank wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.findings.wording import distinct_labels, points
from harness.rank.files import NUMBERS, TEXTS
from harness.record.run import JsonRow, ResultsFolder, number, spending_notes
from harness.report.document import (
    NOTHING,
    Cell,
    Document,
    Heading,
    Part,
    Screen,
    Section,
    Table,
    TableRow,
    Text,
    Where,
)
from harness.report.page import write_pages

TERMS = {"reward_model": "reward model alone", "rule_based": "rules alone"}
MEAN = "mean over subsets"
SCORED = (
    "Percent of prompts whose chosen response has the highest reward, 95 % interval; equal ones share the point. Each "
    "subset counts once in the mean."
)
COUNTED = (
    "Pairs: percent of (chosen, rejected) pairs in which the chosen one has more. Chance: what rewards drawn at random "
    "would score. A prompt with a response that has no reward is left out."
)
WORST = "By id: how far the best rejected response lies above the chosen one, in standard deviations of the reward."


@distinct_labels()
def write_rank_report(path: Path) -> tuple[Document, Path]:
    """Draw summary.md and rank.html into a ranking's folder; the document and the page's path.

    The same record gives the same bytes. Raises InputError for bad files.
    """
    document = rank_document(ResultsFolder(path))
    return document, write_pages(document, path, "rank.html")


def rank_document(folder: ResultsFolder) -> Document:
    rows = folder.table("rank.csv", NUMBERS, TEXTS)
    worst = folder.table("worst.csv", ("gap",), ("reward", "subset", "id"))
    sections = [
        Section("scores", "Scores", "How often the chosen response comes first", _scores(rows), ""),
        Section("counts", "Counts", "What the scores rest on", _counts(rows), ""),
    ]
    if worst:
        sections.append(Section("worst", "Worst", "Ranked wrong by most", _worst(worst)))
    return Document(
        name=folder.name,
        command="rbrbench rank",
        title="rewards against chosen responses",
        headline=_headline(rows, int(folder.manifest["prompts"])),
        sections=tuple(sections),
        notes=(*folder.manifest["notes"], *spending_notes(folder.manifest)),
        footer="Figures in full precision: rank.csv; every prompt's rewards: rewards.jsonl.",
        screen=("counts", "scores"),
    )


def _lines(rows: Sequence[JsonRow]) -> list[tuple[str, str]]:
    """Rewards and their terms, in the order of the record."""
    return list(dict.fromkeys((row["reward"], row["term"]) for row in rows))


def _subsets(rows: Sequence[JsonRow]) -> list[str]:
    """The mean, "", comes last; where there is but one subset it says the same and is left out."""
    found = [name for name in dict.fromkeys(row["subset"] for row in rows) if name]
    return found if len(found) == 1 else [*found, ""]


def _scores(rows: Sequence[JsonRow]) -> tuple[Part, ...]:
    subsets, by_place = _subsets(rows), {(r["reward"], r["term"], r["subset"]): r for r in rows}
    best = {s: max((number(r, "score") for r in rows if r["subset"] == s), default=0.0) for s in subsets}
    lines = []
    for reward, term in _lines(rows):
        cells = tuple(_score(by_place[reward, term, s], best[s]) for s in subsets)
        lines.append(TableRow(_label(term) or reward, cells, "detail" if term else "", 1 if term else 0))
    table = Table("reward", tuple(s or MEAN for s in subsets), tuple(lines), screen=Screen(heading="percent"))
    gaps = [
        row
        for row in rows
        if row["subset"] == subsets[-1] and number(row, "against") == number(row, "against")
    ]
    parts: list[Part] = [Text(SCORED), Text(SCORED, Where.SUMMARY), table]
    if gaps:
        of = MEAN if not subsets[-1] else subsets[-1]
        first = rows[0]["reward"]
        against = tuple(TableRow(row["reward"], (_gap(row),)) for row in gaps)
        parts += [Heading(f"Less {first}"), Table(f"less {first}", (f"{of}, points",), against)]
    return tuple(parts)


def _counts(rows: Sequence[JsonRow]) -> tuple[Part, ...]:
    subsets, lines = _subsets(rows), []
    several = len({row["reward"] for row in rows}) > 1
    for row in rows:
        if not row["term"] and row["subset"] in subsets:
            name = row["subset"] or MEAN
            cells = (
                Cell(f"{number(row, 'n'):.0f}"),
                Cell(_share(row, "pairs")),
                Cell(_share(row, "chance")),
                Cell(f"{number(row, 'unscored'):.0f}"),
            )
            lines.append(TableRow(f"{row['reward']}: {name}" if several else name, cells))
    columns = ("prompts", "pairs", "chance", "left out")
    return Text(COUNTED), Text(COUNTED, Where.SUMMARY), Table("subset", columns, tuple(lines))


def _worst(rows: Sequence[JsonRow]) -> tuple[Part, ...]:
    lines = tuple(
        TableRow(row["id"], (Cell(row["subset"]), Cell(row["reward"]), Cell(f"{number(row, 'gap'):.2f}")))
        for row in rows
    )
    return Text(WORST), Table("prompt", ("subset", "reward", "below"), lines, ("subset", "reward"))


def _headline(rows: Sequence[JsonRow], prompts: int) -> str:
    subset = _subsets(rows)[-1]
    whole = [row for row in rows if not row["term"] and row["subset"] == subset]
    best = max(whole, key=lambda row: number(row, "score"))
    of = subset or f"{len(_subsets(rows)) - 1} subsets"
    return f"{best['reward']}: {_share(best, 'score')} % of chosen responses first ({of}, {prompts} prompts)"


def _label(term: str) -> str:
    return TERMS.get(term, term.replace("_", " "))


def _score(row: JsonRow, best: float) -> Cell:
    value, low, high = (number(row, name) for name in ("score", "ci_low", "ci_high"))
    interval = f"{100 * low:.1f} to {100 * high:.1f}" if low == low and high == high else ""
    return Cell(_share(row, "score"), interval=interval, best=value == best)


def _gap(row: JsonRow) -> Cell:
    value, low, high = (
        points(number(row, name)) for name in ("against", "against_ci_low", "against_ci_high")
    )
    return Cell(value, interval=f"{low} to {high}")


def _share(row: JsonRow, name: str) -> str:
    value = number(row, name)
    return f"{100 * value:.1f}" if value == value else NOTHING
