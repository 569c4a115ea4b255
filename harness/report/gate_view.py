"""What the terminal shows: the verdict, its table, and where to read more."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.findings.wording import plain
from harness.gate.gate import GateReport
from harness.gate.verdict import GateVerdict
from harness.report.gate_pages import SENTENCES, CheckLine, check_lines

COLOURS = {"no worse": "green", "worse": "bold red", "cannot tell": "yellow", "not tested": "bright_black"}


def show(report: GateReport, console: Console) -> None:
    """Tables for a person; nothing that a model wrote, and nothing read as markup."""
    completions = report.completions
    prompts = len(set(completions.prompts))
    console.print(
        Text(f"{completions.name}: {len(completions)} completions of {prompts} prompts. {report.truth}")
    )
    for measure in dict.fromkeys(t.measure for t in report.outcome.checks):
        checks = [t for t in report.outcome.checks if t.measure == measure]
        console.print(_checks(plain(measure), check_lines(checks, report.config.margin)))
    console.print(_order(report))
    for note in report.notes:
        console.print(Text(note, "bright_black"))
    verdict = report.outcome.verdict
    console.print(Text(SENTENCES[verdict], COLOURS[verdict.value]))
    for reason in report.outcome.reasons:
        console.print(Text(f"  {reason}"))


def _checks(measure: str, lines: list[CheckLine]) -> Table:
    """In points of percent. Classes only where they are worse: the other reports have all."""
    table = Table(measure, box=SIMPLE_HEAD, pad_edge=False)
    for name in ("prompts", "before", "after", "change"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for line in lines:
        worse = line.verdict == GateVerdict.WORSE.value
        if line.depth == 0 or worse:
            change = f"{line.change} ({line.interval})"
            cells = [
                f"{'  ' * line.depth}{line.label}",
                str(line.prompts),
                line.baseline,
                line.candidate,
                change,
            ]
            table.add_row(*map(Text, cells), Text(line.verdict, COLOURS[line.verdict]))
    return table


def _order(report: GateReport) -> Table:
    table = Table("order of pairs", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("pairs", "turned wrong", "turned right", "moved class", "unscored"):
        table.add_column(name, justify="right")
    missing = {u.response_type: max(u.baseline, u.candidate) for u in report.unscored}
    for count in report.flips:
        moved = sum(m.count for m in report.moves if m.response_type is count.response_type)
        figures = (count.pairs, count.turned_wrong, count.turned_right, moved, missing[count.response_type])
        table.add_row(Text(plain(count.response_type.value)), *map(str, figures))
    return table
