"""The document of `rbrbench regress`, from its record: the verdict, its checks, and what moved.

Text of prompts and completions stands on the page alone, behind a warning; the summary, gate.md, is a comment on a
pull request and names prompts by id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from evals.values.clusters import PLURAL, PROMPT
from harness.findings.wording import distinct_labels, percent, plain, points
from harness.gate.files import GATE
from harness.keys.gate import GateVerdict
from harness.record.run import JsonRow, ResultsFolder, number
from harness.report.document import (
    NOTHING,
    Answer,
    Card,
    Cards,
    Cell,
    Document,
    Fold,
    Item,
    Items,
    Part,
    Screen,
    Section,
    Strip,
    Table,
    TableRow,
    Text,
    Where,
    shown_in,
)
from harness.report.exports.junit import junit_xml
from harness.report.page import html_page, markdown_page
from harness.storage.disk import write_whole

SENTENCES = {
    GateVerdict.NO_WORSE: "The candidate is no worse.",
    GateVerdict.WORSE: "The candidate is worse.",
    GateVerdict.CANNOT_TELL: "The gate cannot tell.",
}
CHIPS = {
    GateVerdict.NO_WORSE: "held",
    GateVerdict.WORSE: "not-held",
    GateVerdict.CANNOT_TELL: "overrefused",
    GateVerdict.NOT_TESTED: "undecided",
}
SIDES = ("baseline", "candidate")
MOST_DISAGREEMENTS = 12  # propositions listed; the JSON has all
FOLDED = "By class, shift and scale of the reward, grader disagreement, unscored, worst flips"
MEASURED = (
    "Ranking error: share of pairs (ideal completion, other completion of the same prompt) in which the other has the "
    "higher reward; a tie counts half. Class error: share of completions whose likeliest class by grades is not the "
    "true one. Intervals are {level} % by bootstrap over {units}; p-values are one-sided by sign flips over {units}, "
    "against a rise of the tolerance (dashed) or less, adjusted for all rows that are tested ({correction}). {assumed}"
)
INDEPENDENT = (
    "Prompts are taken as independent: where those of one topic err together, both “worse” and “no worse” are said too "
    "often; a set whose rows name their topic has these counted."
)
OWN_CLASSES = (
    "Each side's likeliest class, by its own rulebook and grades. The truth above does not move with them."
)
SCALED = (
    "Scale and correlation: among completions of one prompt. A larger scale weakens a KL penalty of the same "
    "coefficient."
)


class Line(NamedTuple):
    """A row whose cells have names: each form shows those that it has room for."""

    name: str
    cells: Mapping[str, Cell]
    depth: int = 0


@distinct_labels()
def write_gate_report(folder: Path) -> tuple[Document, Path]:
    """Draw gate.html, gate.md and gate.xml into a gate's folder; the document and the page's path.

    The same record gives the same bytes. Raises InputError for bad files.
    """
    record = ResultsFolder(folder)
    gate = record.json(GATE)
    document = gate_document(record, gate)
    pages = {
        "gate.html": html_page(document),
        "gate.md": markdown_page(document),
        "gate.xml": junit_xml(gate),
    }
    for name, content in pages.items():
        write_whole(folder / name, content)
    return document, folder / "gate.html"


def gate_document(folder: ResultsFolder, gate: JsonRow) -> Document:
    config, about, verdict = gate["config"], gate["completions"], GateVerdict(gate["verdict"])
    size = f"{about['completions']} completions of {about['prompts']} prompts, digest {about['digest']}"
    sections = tuple(_sections(folder, gate))
    return Document(
        name=folder.name,
        command="rbrbench regress",
        title=f"reward gate: {verdict.value}",
        headline=SENTENCES[verdict],
        verdict=Item(f"exit code {gate['exit_code']}", Cell(verdict.value, chip=CHIPS[verdict])),
        reasons=tuple(gate["reasons"]),
        basis=f"{config['baseline']} → {config['candidate']} on {about['name']} ({size}). {about['truth']}",
        sections=sections,
        notes=tuple(gate["notes"]),
        footer=f"Tolerance {config['tolerance']['ranking_error']}, margin {config['margin']}, {config['draws']} draws, "
        f"{config['sign_flips']} sign flips, seed {config['seed']}.",
        screen=tuple(section.id for section in sections),
        summary_name=f"Reward gate: {verdict.value}",
        comment=True,
    )


def _sections(folder: ResultsFolder, gate: JsonRow) -> Iterator[Section]:
    by_measure: dict[str, list[JsonRow]] = {}
    for check in gate["checks"]:
        by_measure.setdefault(check["measure"], []).append(check)
    level = f"{round(100 * gate['config']['level'])}"
    kind = gate["completions"].get("cluster", PROMPT)
    units = PLURAL.get(kind, PLURAL[PROMPT])
    assumed = (
        INDEPENDENT if units == PLURAL[PROMPT] else f"The prompts of one {kind} are taken to err together."
    )
    said = Text(
        MEASURED.format(level=level, correction=gate["config"]["correction"], units=units, assumed=assumed)
    )
    folded: list[Part] = []
    for measure, checks in by_measure.items():
        title, lines = plain(measure).capitalize(), list(_check_lines(checks, gate["config"]["margin"]))
        short = [line for line in lines if not line.depth or line.cells["verdict"].value == "worse"]
        parts: list[Part] = [_checks(lines, units), _checks_on_screen(plain(measure), short, units)]
        if checks[0]["verdict"] != GateVerdict.NOT_TESTED:
            parts.append(_checks_in_comment(short, level, units))
        folded += [Text(f"{title}:", Where.SUMMARY), _checks_in_comment(lines, level, units)]
        last = measure == list(by_measure)[-1]
        first = measure == next(iter(by_measure))
        id, link = ("checks", "Checks") if first else (measure, "")
        yield Section(id, link, title, (*parts, said) if last else tuple(parts))
    flips, worst = _flips(folder, gate)
    yield Section("flips", "Order of pairs", "Order of pairs", flips)
    yield Section("moves", "Classes", "Classes by grades that move", tuple(_moves(gate)))
    rest: dict[tuple[str, str, str], tuple[Part, ...]] = {
        ("shifts", "Shift and scale", "Shift and scale of the reward"): (
            *_shifts(gate["shifts"]),
            Text(SCALED),
        ),
        ("graders", "Graders", "Where the graders disagree"): _graders(gate["disagreements"]),
        ("unscored", "Unscored", "Unscored completions"): _unscored(gate["unscored"]),
        ("rules", "Rules", "Edits of the rulebook"): _rules(gate["rule_changes"]),
        ("sides", "The two rewards", "The two rewards"): (_sides(gate),),
    }
    for names, shown in rest.items():
        yield Section(*names, tuple(shown_in(Where.PAGE, shown)))
    *others, edits, _ = (shown_in(Where.SUMMARY, shown) for shown in rest.values())
    folded += [part for shown in others for part in shown]
    fold = Fold(FOLDED, (*folded, *worst), folded=True, where=Where.SUMMARY)
    yield Section("more", "", "", (fold, *edits), "")


def _table(
    title: str, columns: Mapping[str, str], lines: Sequence[Line], where: Where, words: Sequence[str] = ()
) -> Table:
    """`columns` are {name of the cells: heading}, in order."""
    rows = tuple(
        TableRow(line.name, tuple(line.cells[c] for c in columns), depth=line.depth) for line in lines
    )
    return Table(title, tuple(columns.values()), rows, words=tuple(columns[w] for w in words), where=where)


# --- checks ------------------------------------------------------------------------------------


def _check_lines(checks: Sequence[JsonRow], margin: float) -> Iterator[Line]:
    """All strips share one scale."""
    limits = [abs(number(check["change"], end)) for check in checks for end in ("low", "high")]
    reach = max([margin, *(limit for limit in limits if limit == limit)]) * 1.05
    for check in checks:
        c, p = check["change"], number(check, "p_adjusted")
        known = bool(c["prompts"])
        low, high = (points(number(c, end)) for end in ("low", "high"))
        interval = f"{low} to {high}" if known else NOTHING
        change, verdict = points(number(c, "change")), GateVerdict(check["verdict"])
        counts = {"prompts": c["prompts"], "trials": c["trials"], "unscored": check["unscored"]}
        yield Line(
            plain(check["label"].split("/")[-1]),
            {name: Cell(str(count)) for name, count in counts.items()}
            | {name: Cell(percent(number(c, name))) for name in SIDES}
            | {
                "change": Cell(change),
                "interval": Cell(interval),
                "change and interval": Cell(change, interval=interval),
                "strip": Cell(interval, strip=_strip(check, reach)) if known else Cell(""),
                "p": Cell(NOTHING if p != p else "<0.001" if p < 0.001 else f"{p:.3f}"),
                "verdict": Cell(
                    verdict.value,
                    best=verdict is GateVerdict.WORSE,
                    chip=CHIPS[verdict],
                    hint=check["reason"],
                ),
            },
            check["label"].count("/"),
        )


def _strip(check: JsonRow, reach: float) -> Strip:
    c = check["change"]
    values = (number(c, "low"), number(c, "high"), number(c, "change"), check["tolerance"] or 0.0)
    low, high, value, limit = (round(50.0 + 50.0 * value / reach, 2) for value in values)
    return Strip(low, high, value, limit, CHIPS[GateVerdict(check["verdict"])])


def _checks(lines: Sequence[Line], units: str) -> Table:
    columns = {"prompts": units} | {name: name for name in ("trials", "unscored", *SIDES)}
    columns |= {"change and interval": "change, points", "strip": "", "p": "adjusted p", "verdict": "verdict"}
    return _table("group", columns, lines, Where.PAGE, ("strip", "verdict"))


def _checks_in_comment(lines: Sequence[Line], level: str, units: str) -> Table:
    columns = {"prompts": units} | {name: name for name in ("trials", *SIDES)} | {"change": "change, points"}
    columns |= {"interval": f"{level} % interval", "p": "adjusted p", "verdict": "verdict"}
    return _table("group", columns, lines, Where.SUMMARY, ("interval", "verdict"))


def _checks_on_screen(measure: str, lines: Sequence[Line], units: str) -> Table:
    """A terminal is narrow: classes stand only where they are worse."""
    columns = {"prompts": units, "baseline": "before", "candidate": "after"}
    columns |= {"change and interval": "change", "verdict": "verdict"}
    table = _table(measure, columns, lines, Where.SCREEN, ("verdict",))
    return replace(table, screen=Screen(beside=True))


# --- what moved --------------------------------------------------------------------------------


def _flips(folder: ResultsFolder, gate: JsonRow) -> tuple[tuple[Part, ...], list[Text]]:
    """What stands in the section, and the comment's lines on the worst, by prompt id."""
    missing = {u["response_type"]: max(u["baseline"], u["candidate"]) for u in gate["unscored"]}
    lines, folds, said = [], [], []
    rows = {side: folder.rows(f"{side}.jsonl", {}) for side in SIDES} if gate["flips"] else {}
    for count in gate["flips"]:
        kind, moves = plain(count["response_type"]), gate["class_moves"]
        moved = sum(move["count"] for move in moves if move["response_type"] == count["response_type"])
        cells = {name: count[name] for name in ("pairs", "turned_wrong", "turned_right")}
        cells |= {"moved": moved, "unscored": missing[count["response_type"]]}
        lines.append(Line(kind, {name: Cell(str(value)) for name, value in cells.items()}))
        if worst := count["worst"]:
            cards = Cards("", tuple(_card(flip, rows) for flip in worst), "")
            title = f"{kind}: the {len(worst)} worst pairs that turned wrong (completions of a safety set: they may "
            folds.append(Fold(f"{title}offend or do harm)", (cards,), kind="samples", where=Where.PAGE))
            listed = "; ".join(map(_flip_in_comment, worst))
            said.append(Text(f"Worst flips of {kind}, by prompt id: {listed}", Where.SUMMARY))
    turned = {"turned_wrong": "turned wrong", "turned_right": "turned right"}
    on_screen = {"pairs": "pairs", **turned, "moved": "moved class", "unscored": "unscored"}
    tables = (
        _table("response type", {"pairs": "ordered pairs", **turned}, lines, Where.PAGE),
        _table("response type", {"pairs": "pairs", **turned}, lines, Where.SUMMARY),
        _table("order of pairs", on_screen, lines, Where.SCREEN),
    )
    return (*tables, *folds), said


def _flip_in_comment(flip: JsonRow) -> str:
    better, worse = map(plain, flip["classes"])
    return f"{flip['prompt_id']} ({better} over {worse}, gap {_gaps(flip)})"


def _gaps(flip: JsonRow) -> str:
    return f"{flip['baseline_gap']:+.2f} → {flip['candidate_gap']:+.2f}"


def _card(flip: JsonRow, rows: Mapping[str, Sequence[JsonRow]]) -> Card:
    better = rows["baseline"][flip["rows"][0]]
    deciding = ", ".join(f"{plain(name)} {change:+.2f}" for name, change in flip["deciding"].items())
    tags = f"{flip['prompt_id']} · reward of the better less that of the worse: {_gaps(flip)}"
    return Card(
        tags + (f" · moved by {deciding}" if deciding else ""),
        "\n".join(f"{turn['role']}: {turn['content']}" for turn in better["prompt"]),
        tuple(
            _answer(place, truly, [rows[side][row] for side in SIDES])
            for place, truly, row in zip(("higher", "lower"), flip["classes"], flip["rows"], strict=True)
        ),
    )


def _answer(place: str, truly: str, sides: Sequence[JsonRow]) -> Answer:
    rewards = " → ".join(f"{side['reward']:+.2f}" for side in sides)
    graded = [plain(side.get("completion_class") or "") for side in sides]
    by_grades = f" · by grades {' → '.join(name or NOTHING for name in graded)}" if any(graded) else ""
    who = f"should rank {place} · truly {plain(truly)} · reward {rewards}{by_grades}"
    return Answer(who, sides[0]["response"])


def _moves(gate: JsonRow) -> Iterator[Part]:
    lines = [
        Line(
            plain(move["response_type"]),
            {
                "from": Cell(plain(move["before"])),
                "to": Cell(plain(move["after"])),
                "completions": Cell(str(move["count"])),
                "true classes": Cell(", ".join(f"{n} {plain(name)}" for name, n in move["truly"].items())),
            },
        )
        for move in gate["class_moves"]
    ]
    columns = {name: name for name in ("from", "to", "completions", "true classes")}
    if not all(gate["has_classes"].values()):
        yield Text("A recorded reward without classes: nothing to compare.")
    elif lines:
        yield _table("response type", columns, lines, Where.BOTH, ("from", "to", "true classes"))
    else:
        yield Text("No completion changes its class.")
    yield Text(OWN_CLASSES)


def _shifts(shifts: Sequence[JsonRow]) -> tuple[Table, Table]:
    lines = [Line(plain(s["label"].split("/")[-1]), _shift_cells(s), s["label"].count("/")) for s in shifts]
    same = {name: name for name in ("shift", "scale", "correlation")}
    page = {"n": "completions", "baseline": "baseline mean", "candidate": "candidate mean", **same}
    comment = {"n": "completions", "baseline": "baseline", "candidate": "candidate", **same}
    return (
        _table("rewards of", page, lines, Where.PAGE),
        _table("rewards of", comment, lines, Where.SUMMARY, ("shift", "scale")),
    )


def _shift_cells(s: JsonRow) -> dict[str, Cell]:
    scale, correlation = number(s, "scale"), number(s, "correlation")
    between = f"{number(s, 'scale_low'):.2f} to {number(s, 'scale_high'):.2f}"
    return {
        "n": Cell(str(s["n"])),
        "baseline": Cell(f"{s['baseline']:+.2f}"),
        "candidate": Cell(f"{s['candidate']:+.2f}"),
        "shift": Cell(f"{s['shift']:+.2f}", interval=f"{s['shift_low']:+.2f} to {s['shift_high']:+.2f}"),
        "scale": Cell() if scale != scale else Cell(f"×{scale:.2f}", interval=between),
        "correlation": Cell() if correlation != correlation else Cell(f"{correlation:.3f}"),
    }


def _graders(disagreements: Sequence[JsonRow]) -> tuple[Part, ...]:
    if not disagreements:
        return (Text("No proposition has grades of both sides."),)
    lines = [
        Line(
            plain(d["proposition"]) + (" (reworded)" if d["reworded"] else ""),
            {"n": Cell(str(d["n"]))}
            | {name: Cell(f"{d[name]:.3f}") for name in ("mean_gap", "max_gap")}
            | {
                name: Cell(percent(number(d, name)))
                for name in ("turned", "baseline_right", "candidate_right")
            },
        )
        for d in disagreements[:MOST_DISAGREEMENTS]
    ]
    right = {
        "turned": "answers that turn",
        "baseline_right": "right before",
        "candidate_right": "right after",
    }
    page = {"n": "graded by both", "mean_gap": "mean gap", "max_gap": "widest gap", **right}
    comment = {"n": "graded", "mean_gap": "mean gap", **right}
    return (
        _table("proposition", page, lines, Where.PAGE),
        _table("proposition", comment, lines, Where.SUMMARY),
    )


def _unscored(rows: Sequence[JsonRow]) -> tuple[Table, Table]:
    lines = [
        Line(
            plain(row["response_type"]),
            {name: Cell(str(row[name])) for name in ("n", *SIDES)}
            | {"reason": Cell(row["candidate_reason"] or row["baseline_reason"] or NOTHING)},
        )
        for row in rows
    ]
    counts = {"n": "completions", "baseline": "baseline", "candidate": "candidate"}
    page = _table("response type", {**counts, "reason": "commonest reason"}, lines, Where.PAGE, ("reason",))
    return page, _table("unscored", counts, lines, Where.SUMMARY)


def _rules(changes: Sequence[JsonRow]) -> tuple[Part, ...]:
    """A list on the page, folded away in the comment."""
    if not changes:
        return (Text("None that the gate can see."),)
    listed = tuple(Item(f"{c['sign']} {c['what']}", code=tuple(c["lines"])) for c in changes)
    fold = f"Edits of the rulebook ({len(changes)})"
    return (
        Items(listed, Where.PAGE),
        Fold(fold, (Items(listed, Where.SUMMARY),), folded=True, where=Where.SUMMARY),
    )


def _sides(gate: JsonRow) -> Table:
    rows = (
        TableRow(side, (Cell("\n".join(f"{key} {value}" for key, value in gate[side].items())),))
        for side in SIDES
    )
    return Table("", ("",), tuple(rows), words=("",), where=Where.PAGE)
