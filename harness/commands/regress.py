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


def usage() -> str:
    from harness.help import command_help
    from harness.regress.config import RegressConfig

    return command_help(USAGE, RegressConfig)


def main(arguments: Sequence[str]) -> int:
    from rich.console import Console as RichConsole

    from harness.compose import compose_command
    from harness.console import Console
    from harness.regress.config import RegressConfig
    from harness.regress.files import write_report
    from harness.regress.gate import run_gate
    from harness.regress.view import show

    config = compose_command("regress", RegressConfig, arguments)
    console = Console()
    report = run_gate(config, console)
    page = write_report(report)
    show(report, RichConsole())
    console.report(page)
    return report.outcome.verdict.exit_code
