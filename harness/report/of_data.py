"""The document of `rbrbench data`, from its record: what a mixture holds. Ids are shown, and no prompt's text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from harness.findings.wording import plain
from harness.record.run import ResultsFolder
from harness.report.document import Cell, Document, Section, Table, TableRow, Text
from harness.report.page import write_pages

CATEGORIES = 20  # that are shown of a source and response type; data.json has all
ASKED_IN_TRAINING = ("safety_prompts", "helpful_prompts")  # of which those without room may be left out
EXAMPLES = 3  # ids of overlapping prompts, by part and kind
ID_LENGTH = 24  # characters of an id or a category that are shown
SAME = "Repeated: rows with the words of an earlier one of the part; nearly: 70 % of their character 5-grams are."
TOKENS = (
    "In the model's tokens, as they are trained on: demonstrations beyond sft.max_length are cut, comparisons beyond "
    "reward_model.max_length left out; a prompt, of labelled responses too, needs room for a response behind it."
)


def write_data_report(path: Path) -> tuple[Document, Path]:
    """Draw summary.md and data.html; the document and the page's path. Raises InputError for bad files."""
    document = data_document(ResultsFolder(path))
    return document, write_pages(document, path, "data.html")


def data_document(folder: ResultsFolder) -> Document:
    found = folder.json("data.json")
    return Document(
        name=folder.name,
        command="rbrbench data",
        title="data, before they are trained on",
        headline=_headline(found),
        sections=tuple(_sections(found)),
        notes=tuple(folder.manifest["notes"]),
        footer="data.json has all of it.",
        screen=("groups", "left_out", "overlaps", "parts", "lengths"),
    )


def _headline(found: Mapping[str, Any]) -> str:
    parts = found["parts"].values()
    rows, sources = sum(p["rows"] for p in parts), {label for p in parts for label in p["sources"]}
    text = f"{rows} rows in {_many(len(parts), 'part')} from {_many(len(sources), 'source')}"
    left = sum(n for part in _left_out(found).values() for n in part.values())
    text += f"; {left} left out" if left else ""
    is_left_out = found["too_long"] == "drop"
    dropped = _beyond(found, ASKED_IN_TRAINING) if is_left_out else 0
    fatal = _beyond(found, ("evaluation", *(() if is_left_out else ASKED_IN_TRAINING)))
    room, hint = "without room for a response", "" if is_left_out else " (data.too_long=drop)"
    text += f"; {dropped} prompts {room} are left out" if dropped else ""
    return text + (f"; {fatal} prompts {room} end a run{hint}" if fatal else "")


def _beyond(found: Mapping[str, Any], parts: tuple[str, ...]) -> int:
    """Rows of these parts beyond their limit, where lengths are known."""
    known = [of["lengths"] for part, of in found["parts"].items() if part in parts and of["lengths"]]
    return sum(lengths["beyond"] for lengths in known)


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _sections(found: Mapping[str, Any]) -> Iterator[Section]:
    yield Section("parts", "Parts", "Rows by part", (Text(SAME), _parts(found)))
    groups = tuple(_groups(part, about) for part, about in found["parts"].items())
    yield Section("groups", "Rows", "Rows by source, response type and category", groups)
    if any(about["lengths"] for about in found["parts"].values()):
        yield Section("lengths", "Lengths", "Lengths in tokens", (Text(TOKENS), _lengths(found)))
    if _left_out(found):
        yield Section("left_out", "Left out", "What is left out, and why", (_reasons(found),))
    if found["overlaps"]:
        yield Section("overlaps", "Overlap", "Rows that are asked in an evaluation", (_overlaps(found),))


def _parts(found: Mapping[str, Any]) -> Table:
    rows = tuple(
        TableRow(
            plain(part),
            _cells(len(p["sources"]), p["rows"], p["repeated"]["same"], p["repeated"]["near"]),
        )
        for part, p in found["parts"].items()
    )
    suites = tuple(
        TableRow(f"suite {_short(name)}", _cells("", count, "", ""))
        for name, count in found["suites"].items()
    )
    return Table("part", ("sources", "rows", "repeated", "nearly"), rows + suites)


def _groups(part: str, about: Mapping[str, Any]) -> Table:
    """The most frequent categories of each source and response type, which are in this order, and the rest as one."""
    rows = []
    for (source, kind), found in groupby(
        about["groups"], key=lambda group: (group["source"], group["response_type"])
    ):
        groups = list(found)
        shown = groups if len(groups) <= CATEGORIES + 1 else groups[:CATEGORIES]
        counts = [(_short(group["category"]), group["rows"]) for group in shown]
        if rest := groups[len(shown) :]:
            counts.append((f"{len(rest)} others", sum(group["rows"] for group in rest)))
        rows += [
            TableRow(_short(source), (Cell(plain(kind)), Cell(category), Cell(str(count))))
            for category, count in counts
        ]
    return Table(
        plain(part), ("response type", "category", "rows"), tuple(rows), ("response type", "category")
    )


def _lengths(found: Mapping[str, Any]) -> Table:
    rows = tuple(
        TableRow(
            plain(part),
            (
                *_cells(*(f"{of[name]:.0f}" for name in ("median", "p95", "longest", "limit", "beyond"))),
                Cell(of["then"]),
            ),
        )
        for part, about in found["parts"].items()
        if (of := about["lengths"])
    )
    columns = ("median", "95th", "longest", "limit", "beyond", "these are")
    return Table("tokens", columns, rows, ("these are",))


def _left_out(found: Mapping[str, Any]) -> dict[str, Counter[str]]:
    """{part: {reason: rows}}, of the sources and of the whole."""
    left = {part: Counter(reasons) for part, reasons in found["left_out"].items()}
    for part, about in found["parts"].items():
        for counts in about["sources"].values():
            reasons = {reason: n for reason, n in counts.items() if reason not in ("rows", "taken")}
            if reasons:
                left.setdefault(part, Counter()).update(reasons)
    return left


def _reasons(found: Mapping[str, Any]) -> Table:
    rows = tuple(
        TableRow(plain(part), (Cell(reason), Cell(str(n))))
        for part, reasons in _left_out(found).items()
        for reason, n in reasons.most_common()
    )
    return Table("left out of", ("why", "rows"), rows, ("why",))


def _overlaps(found: Mapping[str, Any]) -> Table:
    ids: dict[tuple[str, str, str], list[str]] = {}
    for row in found["overlaps"]:
        ids.setdefault((row["part"], row["with"].split(" ")[0], row["how"]), []).append(row["prompt"])
    rows = tuple(
        TableRow(
            plain(part),
            (Cell(suite), Cell(how), Cell(str(len(of))), Cell(", ".join(map(_short, of[:EXAMPLES])))),
        )
        for (part, suite, how), of in ids.items()
    )
    columns = ("with", "how", "rows", "ids, the first")
    return Table("overlap of", columns, rows, ("with", "how", "ids, the first"))


def _cells(*values: object) -> tuple[Cell, ...]:
    return tuple(Cell(str(value)) for value in values)


def _short(text: str) -> str:
    """Its beginning and its end: names of one family differ in either."""
    half = ID_LENGTH // 2
    return text if len(text) <= ID_LENGTH else f"{text[: half - 1]}…{text[-half:]}"
