"""The document of `rbrbench regress`, from its record: the verdict, its checks, and what moved.

Text of prompts and completions stands on the page alone, behind a warning; the summary, gate.md, is a comment on a
pull request and names prompts by id.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from evals.values.clusters import PLURAL, PROMPT
from harness.findings.wording import distinct_labels, plain
from harness.gate.files import GATE
from harness.keys.gate import GateVerdict
from harness.record.run import JsonRow, ResultsFolder, spending_notes
from harness.report.document import Cell, Document, Fold, Item, Part, Section, Text, Where, shown_in
from harness.report.exports.junit import junit_xml
from harness.report.gate_checks import check_lines, checks_in_comment, checks_on_page, checks_on_screen
from harness.report.gate_lines import CHIPS
from harness.report.gate_moves import (
    class_move_parts,
    disagreement_parts,
    flip_parts,
    rule_parts,
    shift_tables,
    sides_table,
    unscored_tables,
)
from harness.report.page import html_page, markdown_page
from harness.storage.disk import write_whole

SENTENCES = {
    GateVerdict.NO_WORSE: "The candidate is no worse.",
    GateVerdict.WORSE: "The candidate is worse.",
    GateVerdict.CANNOT_TELL: "The gate cannot tell.",
}
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
SCALED = (
    "Scale and correlation: among completions of one prompt. A larger scale weakens a KL penalty of the same "
    "coefficient."
)


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
        notes=(*gate["notes"], *spending_notes(folder.manifest)),
        footer=f"Tolerance {config['tolerance']['ranking_error']}, margin {config['margin']}, {config['draws']} draws, "
        f"{config['sign_flips']} sign flips, seed {config['seed']}.",
        screen=tuple(section.id for section in sections),
        summary_name=f"Reward gate: {verdict.value}",
        comment=True,
    )


def _sections(folder: ResultsFolder, gate: JsonRow) -> Iterator[Section]:
    checks, folded = _checks(gate)
    yield from checks
    pairs, worst = flip_parts(folder, gate)
    yield Section("flips", "Order of pairs", "Order of pairs", pairs)
    yield Section("moves", "Classes", "Classes by grades that move", tuple(class_move_parts(gate)))
    rest: dict[tuple[str, str, str], tuple[Part, ...]] = {
        ("shifts", "Shift and scale", "Shift and scale of the reward"): (
            *shift_tables(gate["shifts"]),
            Text(SCALED),
        ),
        ("graders", "Graders", "Where the graders disagree"): disagreement_parts(gate["disagreements"]),
        ("unscored", "Unscored", "Unscored completions"): unscored_tables(gate["unscored"]),
        ("rules", "Rules", "Edits of the rulebook"): rule_parts(gate["rule_changes"]),
        ("sides", "The two rewards", "The two rewards"): (sides_table(gate),),
    }
    for names, shown in rest.items():
        yield Section(*names, tuple(shown_in(Where.PAGE, shown)))
    *others, edits, _ = (shown_in(Where.SUMMARY, shown) for shown in rest.values())
    folded += [part for shown in others for part in shown]
    fold = Fold(FOLDED, (*folded, *worst), folded=True, where=Where.SUMMARY)
    yield Section("more", "", "", (fold, *edits), "")


def _checks(gate: JsonRow) -> tuple[list[Section], list[Part]]:
    """A section a measure, the last with how it was measured, and what the comment folds away of them all."""
    by_measure: dict[str, list[JsonRow]] = {}
    for check in gate["checks"]:
        by_measure.setdefault(check["measure"], []).append(check)
    level, units = f"{round(100 * gate['config']['level'])}", _units(gate)
    sections: list[Section] = []
    folded: list[Part] = []
    for measure, checks in by_measure.items():
        title, lines = plain(measure).capitalize(), list(check_lines(checks, gate["config"]["margin"]))
        short = [line for line in lines if not line.depth or line.cells["verdict"].value == "worse"]
        parts: list[Part] = [checks_on_page(lines, units), checks_on_screen(plain(measure), short, units)]
        if checks[0]["verdict"] != GateVerdict.NOT_TESTED:
            parts.append(checks_in_comment(short, level, units))
        folded += [Text(f"{title}:", Where.SUMMARY), checks_in_comment(lines, level, units)]
        id, link = (measure, "") if sections else ("checks", "Checks")
        last = [_measured(gate, level, units)] if measure == list(by_measure)[-1] else []
        sections.append(Section(id, link, title, (*parts, *last)))
    return sections, folded


def _units(gate: JsonRow) -> str:
    """What the intervals count as one, in the plural."""
    return PLURAL.get(gate["completions"].get("cluster", PROMPT), PLURAL[PROMPT])


def _measured(gate: JsonRow, level: str, units: str) -> Text:
    kind = gate["completions"].get("cluster", PROMPT)
    assumed = (
        INDEPENDENT if units == PLURAL[PROMPT] else f"The prompts of one {kind} are taken to err together."
    )
    correction = gate["config"]["correction"]
    return Text(MEASURED.format(level=level, correction=correction, units=units, assumed=assumed))
