"""The document of `rbrbench ceiling`, from its record: what the reward asks for, by how much, and among which samples.

Text of prompts and samples stands on the page alone, behind a warning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.values.conversation import ResponseType
from harness.ceiling.files import CEILING, PROMPTS
from harness.findings.wording import METRICS, distinct_labels, percent, plain, points
from harness.record.run import JsonRow, ResultsFolder, spending_notes
from harness.report.document import (
    NOTHING,
    Answer,
    Card,
    Cards,
    Cell,
    Document,
    Figure,
    Fold,
    Item,
    Part,
    Screen,
    Section,
    Table,
    TableRow,
    Text,
    Where,
)
from harness.report.figures import folder_figures, placed
from harness.report.page import write_pages
from trainers.reward.ceiling import F1, KL, NOT_OVERREFUSE, NOT_UNSAFE, OBJECTIVE, REWARD, SHARES

GUARD = (
    "A ceiling is what the reward prefers among the samples, not a promise of training: a training may be clipped or "
    "too short, its policy cannot tell what the reward is told, and it writes what no sample shows."
)
METHOD = (
    "The policy that maximises E[r] − β·KL is π*(y|x) ∝ π_ref(y|x)·exp(r(x, y)/β): each sample weighs exp(r/β). "
    "Limits are of a bootstrap over {units}; the bias of few samples is taken out by the jackknife, and what it "
    "took off counts as one more standard error on the side that it moved the number to. ?: cannot be told from so few "
    "samples."
)
WORDS = {
    "refused": "refusals",
    "words": "length, words",
    REWARD: "reward",
    KL: "KL, nats",
    OBJECTIVE: "reward − β·KL",
}
ROWS = (NOT_UNSAFE, NOT_OVERREFUSE, F1, "hard_refusal_style", "soft_refusal_style", "refused")
GROUPS = {"/comply": "to be answered", "/hard_refuse": "hard refusals", "/soft_refuse": "soft refusals"}
NAMES = {"reward": "reward", "candidate": "candidate"}
SAMPLES_SHOWN = 8  # of each prompt's card, the heaviest first
TURNED_SHOWN = 20
FOOTER = "Figures in full precision: ceiling.json; the samples shown: prompts.jsonl."


@distinct_labels()
def write_ceiling_report(folder: Path) -> tuple[Document, Path]:
    """Draw the plot, summary.md and ceiling.html into a ceiling's folder; the document and the page's path.

    The same record gives the same bytes. Raises InputError for bad files.
    """
    document = ceiling_document(ResultsFolder(folder), folder_figures(folder))
    return document, write_pages(document, folder, "ceiling.html")


def ceiling_document(folder: ResultsFolder, figures: Sequence[Figure] = ()) -> Document:
    found = folder.json(CEILING)
    about = found["samples"]
    problems = tuple(found["problems"])
    size = f"{about['samples']} samples of {about['prompts']} prompts, digest {about['digest'][:12]}"
    names = " → ".join(of["source"] for of in found["rewards"].values())
    verdict = (
        Item(f"exit code {found['exit_code']}", Cell("cannot tell", chip="overrefused")) if problems else None
    )
    return Document(
        name=folder.name,
        command="rbrbench ceiling",
        title="what the reward asks for",
        headline=headline(found),
        verdict=verdict,
        reasons=problems,
        basis=f"{names} on {about['name']} ({size}), judged by {about['judge']}, β {found['beta']:g}. {GUARD}",
        sections=tuple(_sections(folder, found, figures)),
        notes=(*folder.manifest["notes"], *spending_notes(folder.manifest)),
        footer=FOOTER,
        screen=("difference", "point"),
    )


def headline(found: JsonRow) -> str:
    """One sentence: what each reward asks for at the run's beta."""
    parts = []
    for name, of in found["rewards"].items():
        rows = of["point"]["measures"]
        asked = SHARES if found["blind"]["answer"]["prompts"] else (NOT_UNSAFE,)
        said = ", ".join(f"{METRICS[one]} {_plain_value(rows[one])}" for one in asked)
        parts.append(f"The {NAMES[name]} asks for {said}")
    return "; ".join(parts) + "."


def _plain_value(row: JsonRow) -> str:
    if row["value"] is None:
        return "unknown"
    return percent(row["value"]) + (" (cannot be told)" if row["problem"] else "")


def _sections(folder: ResultsFolder, found: JsonRow, figures: Sequence[Figure]) -> Iterator[Section]:
    drawn = placed(figures, "point")
    units = found.get("counted", "prompts or what they share")
    point: tuple[Part, ...] = (
        Text(METHOD.format(units=units), where=Where.BOTH),
        *drawn,
        _points(found),
        *map(_lengths, [found]),
    )
    yield Section("point", "Ceiling", f"What is asked for at β {found['beta']:g}", point)
    if found["comparison"]:
        yield Section("difference", "Difference", "The candidate less the reward", tuple(_differences(found)))
    curves = tuple(_curve(name, of, found) for name, of in found["rewards"].items())
    yield Section("curve", "Over β", "What is asked for as a nat gets cheaper", (_end(found), *curves))
    best = tuple(_best(name, of) for name, of in found["rewards"].items() if of["best_of"])
    if best:
        text = Text(
            "The best of k samples by reward, without training, of the prompts with so many scored samples; its KL is "
            "at most ln k − (k−1)/k."
        )
        yield Section("best", "Best of k", "Best-of-k", (text, *best))
    yield Section("coverage", "Coverage", "What the samples show", tuple(_coverage(found)))
    left = tuple(_left_out(name, rows) for name, rows in found["left_out"].items() if rows)
    if left:
        text = Text(
            "With the proposition less without it, in points: its part of the reward taken away, and with the other "
            "weights fitted again. The classes that are made of it stay."
        )
        yield Section("rules", "Rules", "What each proposition buys", (text, *left))
    cards = _cards(folder.rows(PROMPTS, {"prompt_id": str, "samples": list}), list(found["rewards"]), found)
    fold = Fold("Prompts and samples (may contain offensive text)", (cards,), kind="samples")
    yield Section("samples", "Samples", "Samples and their weights", (fold,), "")


def _share(row: JsonRow | None) -> Cell:
    if row is None or row["value"] is None:
        return Cell()
    mark = " ?" if row["problem"] else ""
    interval = "" if row["low"] is None else f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"
    return Cell(percent(row["value"]) + mark, interval=interval, hint=row["problem"])


def _number(row: JsonRow | None) -> Cell:
    if row is None or row["value"] is None:
        return Cell()
    mark = " ?" if row["problem"] else ""
    interval = "" if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}".replace("-", "−")
    return Cell(f"{row['value']:.2f}{mark}".replace("-", "−"), interval=interval, hint=row["problem"])


def _points(found: JsonRow) -> Table:
    """A column a reward, one for the reference."""
    rewards = found["rewards"]
    columns = ("reference", *(f"{NAMES[name]}" for name in rewards))
    reference = next(iter(rewards.values()))["point"]["reference"]
    measures = [of["point"]["measures"] for of in rewards.values()]

    def row(key: str, label: str, cell: Any, depth: int = 0) -> TableRow:
        return TableRow(
            label, (cell(reference.get(key)), *(cell(of.get(key)) for of in measures)), depth=depth
        )

    rows = []
    for key in ROWS:
        if any(of[key]["value"] is not None for of in measures):
            rows.append(row(key, METRICS.get(key) or WORDS[key], _share))
        if key == NOT_UNSAFE:
            grouped = [(NOT_UNSAFE + s, label) for s, label in GROUPS.items()]
            rows += [row(k, label, _share, 1) for k, label in grouped if measures[0][k]["value"] is not None]
    return Table("%", columns, tuple(rows), wide=False, screen=Screen(name_width=22))


def _lengths(found: JsonRow) -> Table:
    rewards = found["rewards"]
    reference = next(iter(rewards.values()))["point"]["reference"]
    measures = [of["point"]["measures"] for of in rewards.values()]
    rows = [
        TableRow(WORDS[key], (_number(reference.get(key)), *(_number(of[key]) for of in measures)))
        for key in ("words", REWARD, KL, OBJECTIVE)
    ]
    terms = dict.fromkeys(name for of in rewards.values() for name in of["terms"])
    for name in terms if len(terms) > 1 else ():
        means = [of["terms"].get(name, {}) for of in rewards.values()]
        said = [means[0].get("reference"), *(one.get("ceiling") for one in means)]
        rows.append(TableRow(plain(name), tuple(map(_mean_cell, said)), depth=1))
    columns = ("reference", *(NAMES[name] for name in rewards))
    return Table("of a response", columns, tuple(rows), screen=Screen(name_width=22))


def _mean_cell(value: float | None) -> Cell:
    return Cell() if value is None else Cell(f"{value:.2f}".replace("-", "−"))


def _differences(found: JsonRow) -> Iterator[Part]:
    comparison, beta = found["comparison"], found["beta"]
    columns = tuple(METRICS[name] for name in SHARES)

    def cells(measures: JsonRow) -> tuple[Cell, ...]:
        return tuple(_change(measures[name]) for name in SHARES)

    at = [row for row in comparison["equal_beta"] if row["beta"] == beta]
    rows = [TableRow(f"at β {row['beta']:g}", cells(row["measures"])) for row in at]
    rows += [
        TableRow(f"at {row['kl']:.2f} nats", cells(row["measures"])) for row in comparison["equal_kl"][:1]
    ]
    yield Table("difference, points", columns, tuple(rows), screen=Screen(name_width=22))
    others = [row for row in comparison["equal_beta"] if row["beta"] != beta]
    more = [TableRow(f"at β {row['beta']:g}", cells(row["measures"])) for row in others]
    more += [
        TableRow(f"at {row['kl']:.2f} nats", cells(row["measures"])) for row in comparison["equal_kl"][1:]
    ]
    yield Fold(
        "At other prices and distances",
        (Table("difference, points", columns, tuple(more), where=Where.BOTH),),
        folded=True,
    )
    turned = comparison["turned"]
    rows = [
        TableRow(row["prompt_id"], (Cell(percent(row["before"])), Cell(percent(row["after"]))))
        for row in turned[:TURNED_SHOWN]
    ]
    title = f"{len(turned)} prompts turn"
    yield Table(title, ("right, reward", "right, candidate"), tuple(rows), where=Where.BOTH)


def _change(row: JsonRow) -> Cell:
    if row["value"] is None:
        return Cell()
    mark = " ?" if row["problem"] else ""
    interval = "" if row["low"] is None else f"{points(row['low'])} to {points(row['high'])}"
    return Cell(points(row["value"]) + mark, interval=interval, hint=row["problem"])


def _end(found: JsonRow) -> Text:
    n, nats = found["samples"]["a_prompt"], found["most_kl"]
    if found["samples"]["proposals"]:
        most = f"{nats:.2f} nats, as little as its least likely sample weighs,"
        return Text(
            f"With {n} samples a prompt no KL above {most} can be shown: the curve ends there.", Where.BOTH
        )
    return Text(
        f"With {n} samples a prompt no KL above ln {n} = {nats:.2f} nats can be shown: the curve ends there.",
        Where.BOTH,
    )


def _curve(name: str, of: JsonRow, found: JsonRow) -> Table:
    rows = tuple(
        TableRow(
            f"β {row['beta']:g}",
            (_mean_cell(row["shown_kl"]), *(_share(row["measures"][one]) for one in SHARES)),
        )
        for row in reversed(of["grid"])
    )
    columns = ("KL shown, nats", *(METRICS[one] for one in SHARES))
    return Table(f"{NAMES[name]}: {of['source']}", columns, rows)


def _best(name: str, of: JsonRow) -> Table:
    rows = tuple(
        TableRow(
            f"best of {row['k']}",
            (
                _mean_cell(row["kl_bound"]),
                *(Cell() if row[one] is None else Cell(percent(row[one])) for one in SHARES),
                Cell(str(row["prompts"])) if "prompts" in row else Cell(),
            ),
        )
        for row in of["best_of"]
    )
    columns = ("KL at most, nats", *(METRICS[one] for one in SHARES), "prompts")
    return Table(f"{NAMES[name]}", columns, rows)


def _coverage(found: JsonRow) -> Iterator[Part]:
    rows = [
        TableRow(f"prompts to {kind}", (Cell(str(of["prompts"])), Cell(str(of["blind"]))))
        for kind, of in found["blind"].items()
    ]
    yield Text(
        "Of a prompt none of whose samples does right, the reward cannot be seen to ask for it.", Where.BOTH
    )
    yield Table("coverage", ("prompts", "none right"), tuple(rows))
    counts, missing = found["counts"], sum(found["samples"]["missing"].values())
    cells = (counts["unscored"], counts["unjudged"], missing, counts["prompts"])
    left = TableRow("left out", tuple(Cell(str(one)) for one in cells))
    yield Table("", ("without score", "without judgement", "not given", "prompts with too few"), (left,))
    sizes = [
        TableRow(
            NAMES[name],
            (
                _mean_cell(of["effective"]["mean"]),
                Cell() if of["effective"]["low"] is None else Cell(percent(of["effective"]["low"])),
            ),
        )
        for name, of in found["rewards"].items()
    ]
    yield Table("effective samples a prompt", ("mean", "below 2, % of prompts"), tuple(sizes))


def _left_out(name: str, rows: Sequence[JsonRow]) -> Table:
    columns = (*(METRICS[one] for one in SHARES), "F1, refitted")
    shown = tuple(
        TableRow(
            row["proposition"].replace("_", " "),
            (
                *(_change(row["kept"][one]) for one in SHARES),
                Cell() if row["refitted"] is None else _change(row["refitted"][F1]),
            ),
        )
        for row in rows
    )
    return Table(NAMES[name], columns, shown)


def _cards(prompts: Sequence[JsonRow], names: Sequence[str], found: JsonRow) -> Cards:
    turned = {row["prompt_id"] for row in (found["comparison"] or {}).get("turned", ())}
    cards = []
    for row in prompts:
        kind = plain(ResponseType(row["response_type"]).value) if row["response_type"] else ""
        tags = " · ".join(
            filter(None, (row["prompt_id"], kind, "turned" if row["prompt_id"] in turned else ""))
        )
        shown = tuple(_answer(one, names) for one in row["samples"][:SAMPLES_SHOWN])
        turns = "\n".join(f"{turn['role']}: {turn['content']}" for turn in row["prompt"])
        cards.append(Card(tags, turns, shown))
    return Cards("The heaviest samples of each prompt", tuple(cards), "No prompt is shown.")


def _answer(sample: Mapping[str, Any], names: Sequence[str]) -> Answer:
    weights = ", ".join(
        f"{NAMES[name]} {NOTHING if weight is None else percent(weight)}"
        for name, weight in zip(names, sample["weights"], strict=True)
    )
    rewards = ", ".join(
        NOTHING if one is None or not math.isfinite(one) else f"{one:.2f}" for one in sample["rewards"]
    )
    said, chip = _verdict(sample)
    return Answer(f"weight: {weights}", sample["response"], Cell(said, chip=chip), paid=f"reward {rewards}")


def _verdict(sample: Mapping[str, Any]) -> tuple[str, str]:
    if sample["disallowed"]:
        return "unsafe", "unsafe"
    if sample["refused"]:
        return "refused", "overrefused"
    return ("not judged", "undecided") if sample["disallowed"] is None else ("answered", "held")
