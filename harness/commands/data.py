"""`rbrbench data key=value ...`: what a run would be trained and judged on."""

from __future__ import annotations

from collections.abc import Sequence

SUMMARY = """\
  data              a run's data before hours are spent on them: counts, lengths, repeated rows, overlap
                      rbrbench data data.safety_prompts=[FILE] evaluation.suites=[xstest] data.root=FOLDER"""
USAGE = """\
usage: rbrbench data [key=value ...]

Takes what `rbrbench run` takes (its --help lists the keys), and shows the data of that run: rows by source, response
type and category, lengths in the model's tokens, repeated rows, overlap with every suite and the part of evaluation,
and what is left out, and why. What a run needs beside its data may be absent: without model.path= there are no lengths.
Prompts are named by id; none is shown. Writes data.json, data.html and summary.md to results/NAME-data.
Exit codes: 0 done, 2 bad data."""


def main(arguments: Sequence[str]) -> int:
    from harness.keys.run import compose_data
    from harness.pipeline.inventory import record_inventory
    from harness.report.of_data import write_data_report
    from harness.report.terminal import show
    from harness.runtime.console import Console, Terminal

    console = Console()
    folder = record_inventory(compose_data(arguments), console, arguments)
    document, page = write_data_report(folder)
    show(document, Terminal())
    console.report(page)
    return 0
