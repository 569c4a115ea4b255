"""`rbrbench xstest`: real models on XSTest by several judges, from the released files."""

from __future__ import annotations

from collections.abc import Sequence

SUMMARY = """\
  xstest            real models on XSTest by people, GPT-4, string matcher and encoder, from the released files
                      rbrbench xstest data.root=FOLDER encoder=ENCODER"""
USAGE = """\
usage: rbrbench xstest data.root=FOLDER [encoder=ENCODER] [key=value ...]

Judges XSTest's recorded completions by people's labels, GPT-4's recorded verdicts, the string matcher and, with
encoder=, an encoder fitted to the other models' labels. Writes xstest.html, summary.md, metrics.csv, labels.csv,
agreement.csv, judges.json, verdicts, plots and the fitted judge to results/NAME."""
KEYS = "harness.keys.xstest:XSTestConfig"


def main(arguments: Sequence[str]) -> int:
    from harness.evaluate.xstest import run_xstest
    from harness.keys.compose import compose_command
    from harness.keys.xstest import XSTestConfig
    from harness.report.of_xstest import write_xstest_report
    from harness.report.terminal import show
    from harness.runtime.console import Console, Terminal

    console = Console()
    folder = run_xstest(compose_command("xstest", XSTestConfig, arguments), console)
    with console.stage("plot and report", total=None, unit="files"):
        document, page = write_xstest_report(folder)
    show(document, Terminal())
    console.report(page)
    return 0
