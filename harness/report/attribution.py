"""The section of a run's page on ceilings: from each SFT model to what its reward asks for, and how far it went."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.findings.attribution import attributions
from harness.findings.wording import METRICS, method_label, percent, plain
from harness.record.run import ATTRIBUTION, JsonRow, ResultsFolder
from harness.report.document import Cell, Fold, Item, Items, Part, Section, Table, TableRow, Text, Where
from trainers.reward.ceiling import SHARES

TOLD = (
    "J = E[r] − β·KL: from the SFT model's to the most that any policy reaches, β·log E_ref[exp(r/β)]. Gone: the share "
    "of that way that the training went. All models write at the training's temperature. On training prompts it says "
    "whether learning converged, on evaluation prompts whether it carries over. ?: cannot be told from so few prompts "
    "or samples. A ceiling is what the reward prefers among the samples, not a promise of training."
)
PLACES = {"start": "SFT model", "ceiling": "ceiling", "trained": "trained"}
PARTS = {"training": "training prompts", "evaluation": "evaluation prompts"}


def attribution_section(folder: ResultsFolder) -> Section | None:
    """None where the run was not asked for it."""
    rows = folder.rows(ATTRIBUTION, {"method": str, "part": str, "group": str})
    if not rows:
        return None
    return Section(
        "ceiling", "Ceiling", "What each reward asks for, and what training made of it", tuple(_parts(rows))
    )


def _parts(rows: Sequence[JsonRow]) -> Iterator[Part]:
    sentences = [Item(f"{method_label(one.method)}: {one.sentence}") for one in attributions(rows)]
    yield Items(tuple(sentences))
    of_all = [row for row in rows if row["group"] == "all"]
    missing = sum(row.get("unscored", 0) for row in of_all)
    yield Text(TOLD + (f" {missing} samples have no score and are left out." if missing else ""), Where.BOTH)
    yield _objective(of_all, "the objective")
    yield _landed(of_all, "where it lands")
    others = []
    for group in dict.fromkeys(row["group"] for row in rows if row["group"] != "all"):
        of_group, title = (
            [row for row in rows if row["group"] == group],
            plain(group.removeprefix("category/")),
        )
        others += [_objective(of_group, f"{title}: the objective"), _landed(of_group, title)]
    if others:
        yield Fold("By response type and category", tuple(others), where=Where.PAGE)


def _name(row: JsonRow, seeds: bool) -> str:
    name = f"{method_label(row['method'])}, {PARTS[row['part']]}"
    return f"{name}, seed {row['seed']}" if seeds else name


def _objective(rows: Sequence[JsonRow], title: str) -> Table:
    """A row a method, part and seed."""
    several = len({row["seed"] for row in rows}) > 1
    shown = []
    for row in rows:
        objective = [_number(row["objective"][place]) for place in PLACES]
        shown.append(TableRow(_name(row, several), (*objective, _gone(row), _number(row["kl"]))))
    columns = (*(f"J, {label}" for label in PLACES.values()), "gone", "KL, nats")
    return Table(title, columns, tuple(shown))


def _landed(rows: Sequence[JsonRow], title: str) -> Table:
    """Below each method, part and seed the three places with their shares."""
    several = len({row["seed"] for row in rows}) > 1
    shown = []
    for row in rows:
        shown.append(TableRow(_name(row, several), style="group"))
        for place, label in PLACES.items():
            shown.append(TableRow(label, tuple(_share(row[place][one]) for one in SHARES), depth=1))
    return Table(title, tuple(METRICS[one] for one in SHARES), tuple(shown))


def _gone(row: JsonRow) -> Cell:
    if row["gone"] is None:
        return Cell()
    limits = (
        f"{100 * row['gone_low']:.0f} to {100 * row['gone_high']:.0f}" if row["gone_low"] is not None else ""
    )
    problem = row.get("problem", "")
    said = percent(row["gone"]).replace("-", "−") + (" ?" if problem else "")
    return Cell(said, interval=limits, hint=problem)


def _number(value: float | None) -> Cell:
    if value is None or not math.isfinite(value):
        return Cell()
    return Cell(f"{value:.2f}".replace("-", "−"))


def _share(one: Mapping[str, Any]) -> Cell:
    if one["value"] is None:
        return Cell()
    mark = " ?" if one.get("problem") else ""
    low, high = one.get("low"), one.get("high")
    interval = "" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"
    return Cell(percent(one["value"]) + mark, interval=interval, hint=one.get("problem", ""))
