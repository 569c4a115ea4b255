"""results/NAME of a gate: the report in every form, and both rewards as recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evals.graders.recorded import asked
from evals.values.conversation import write_jsonl
from evals.values.grades import Grades
from harness.gate.gate import GateReport
from harness.gate.rewards import Side
from harness.report.exports.junit import junit_xml
from harness.report.gate_pages import html_page, json_figures, markdown_comment
from harness.storage.disk import write_json, writing
from harness.storage.store import claim_results, command_digest
from harness.subjects.completions import CompletionSet
from harness.subjects.recorded_rewards import reward_rows

OWNER = command_digest("regress")  # a gate may overwrite a gate, and nothing else


def write_report(report: GateReport) -> Path:
    """Write the folder; returns the page's path. Raises InputError where another command's results lie."""
    folder = Path(report.config.results) / report.config.name
    claim_results(folder, OWNER)
    pages = {
        "gate.html": html_page(report),
        "gate.md": markdown_comment(report),
        "gate.xml": junit_xml(report),
    }
    with writing(folder):
        for name, content in pages.items():
            (folder / name).write_bytes(content)
        for name, side in (("baseline", report.baseline), ("candidate", report.candidate)):
            write_jsonl(folder / f"{name}.jsonl", recorded_rows(report.completions, side))
        write_json(folder / "gate.json", json_figures(report))
    return folder / "gate.html"


def recorded_rows(completions: CompletionSet, side: Side) -> list[dict[str, Any]]:
    """A side as the file that a later gate reads as its baseline, in the order of the completions."""
    rows = list(reward_rows(completions.responses, side.breakdown, side.classes))
    for response_type, grades in side.grades.items():
        for number, place in enumerate(completions.rows(response_type).tolist()):
            rows[place] |= _graded(side, grades, number)
    rows[0] |= asked(side.questions, side.template)
    return rows


def _graded(side: Side, grades: Grades, row: int) -> dict[str, Any]:
    values = dict(zip(grades.propositions, grades.probability[row].tolist(), strict=True))
    reasons = {
        name: grades.reasons[row, j]
        for j, name in enumerate(grades.propositions)
        if (row, j) in grades.reasons
    }
    shown: dict[str, Any] = {
        "grader": side.grader,
        "grades": {n: v for n, v in values.items() if n not in reasons},
    }
    return shown | ({"reasons": reasons} if reasons else {})
