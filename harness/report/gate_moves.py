"""What moved between the gate's two rewards: pairs, classes, shift and scale, grades, rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.findings.wording import percent, plain
from harness.record.run import JsonRow, ResultsFolder, number
from harness.report.document import (
    NOTHING,
    Answer,
    Card,
    Cards,
    Cell,
    Fold,
    Item,
    Items,
    Part,
    Table,
    TableRow,
    Text,
    Where,
)
from harness.report.gate_lines import SIDES, Line, lines_table

MOST_DISAGREEMENTS = 12  # propositions listed; the JSON has all
OWN_CLASSES = (
    "Each side's likeliest class, by its own rulebook and grades. The truth above does not move with them."
)


def flip_parts(folder: ResultsFolder, gate: JsonRow) -> tuple[tuple[Part, ...], list[Text]]:
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
        lines_table("response type", {"pairs": "ordered pairs", **turned}, lines, Where.PAGE),
        lines_table("response type", {"pairs": "pairs", **turned}, lines, Where.SUMMARY),
        lines_table("order of pairs", on_screen, lines, Where.SCREEN),
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


def class_move_parts(gate: JsonRow) -> Iterator[Part]:
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
        yield lines_table("response type", columns, lines, Where.BOTH, ("from", "to", "true classes"))
    else:
        yield Text("No completion changes its class.")
    yield Text(OWN_CLASSES)


def shift_tables(shifts: Sequence[JsonRow]) -> tuple[Table, Table]:
    lines = [Line(plain(s["label"].split("/")[-1]), _shift_cells(s), s["label"].count("/")) for s in shifts]
    same = {name: name for name in ("shift", "scale", "correlation")}
    page = {"n": "completions", "baseline": "baseline mean", "candidate": "candidate mean", **same}
    comment = {"n": "completions", "baseline": "baseline", "candidate": "candidate", **same}
    return (
        lines_table("rewards of", page, lines, Where.PAGE),
        lines_table("rewards of", comment, lines, Where.SUMMARY, ("shift", "scale")),
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


def disagreement_parts(disagreements: Sequence[JsonRow]) -> tuple[Part, ...]:
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
        lines_table("proposition", page, lines, Where.PAGE),
        lines_table("proposition", comment, lines, Where.SUMMARY),
    )


def unscored_tables(rows: Sequence[JsonRow]) -> tuple[Table, Table]:
    lines = [
        Line(
            plain(row["response_type"]),
            {name: Cell(str(row[name])) for name in ("n", *SIDES)}
            | {"reason": Cell(row["candidate_reason"] or row["baseline_reason"] or NOTHING)},
        )
        for row in rows
    ]
    counts = {"n": "completions", "baseline": "baseline", "candidate": "candidate"}
    page = lines_table(
        "response type", {**counts, "reason": "commonest reason"}, lines, Where.PAGE, ("reason",)
    )
    return page, lines_table("unscored", counts, lines, Where.SUMMARY)


def rule_parts(changes: Sequence[JsonRow]) -> tuple[Part, ...]:
    """A list on the page, folded away in the comment."""
    if not changes:
        return (Text("None that the gate can see."),)
    listed = tuple(Item(f"{c['sign']} {c['what']}", code=tuple(c["lines"])) for c in changes)
    fold = f"Edits of the rulebook ({len(changes)})"
    return (
        Items(listed, Where.PAGE),
        Fold(fold, (Items(listed, Where.SUMMARY),), folded=True, where=Where.SUMMARY),
    )


def sides_table(gate: JsonRow) -> Table:
    rows = (
        TableRow(side, (Cell("\n".join(f"{key} {value}" for key, value in gate[side].items())),))
        for side in SIDES
    )
    return Table("", ("",), tuple(rows), words=("",), where=Where.PAGE)
