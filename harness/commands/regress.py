"""`rbrbench regress baseline=A candidate=B on=COMPLETIONS`: the gate for reward changes."""

from __future__ import annotations

from collections.abc import Sequence

SUMMARY = """\
  regress           compare two rewards on frozen completions, before any training: exit 0 no worse, 1 worse
                      rbrbench regress baseline=A candidate=B on=COMPLETIONS"""
USAGE = """\
usage: rbrbench regress baseline=A candidate=B [on=COMPLETIONS] [key=value ...]

Compares two rewards on the same frozen completions. Exit codes: 0 no worse, 1 worse, 2 bad input, 3 cannot
tell. Writes gate.html, gate.md, gate.json, gate.xml (JUnit) and both rewards as recorded to results/NAME."""
KEYS = "harness.keys.gate:RegressConfig"


def main(arguments: Sequence[str]) -> int:
    from harness.gate.files import write_record
    from harness.gate.gate import run_gate
    from harness.keys.compose import compose_command
    from harness.keys.gate import RegressConfig
    from harness.report.of_gate import write_gate_report
    from harness.report.terminal import show
    from harness.runtime.console import Console, Terminal

    console = Console()
    report = run_gate(compose_command("regress", RegressConfig, arguments), console)
    document, page = write_gate_report(write_record(report, ["regress", *arguments]))
    show(document, Terminal())
    console.report(page)
    return report.outcome.verdict.exit_code
