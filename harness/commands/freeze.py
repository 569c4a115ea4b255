"""`rbrbench freeze RUN FOLDER SET`: a frozen completion set for the gate, from a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.commands import wrong_usage

SUMMARY = """\
  freeze RUN FOLDER SET
                    make a frozen completion set for the gate from a finished run"""
USAGE = """\
usage: rbrbench freeze RUN FOLDER SET

Writes a frozen completion set named SET into FOLDER, for `rbrbench regress on=FOLDER/completions.jsonl.gz`:
completions with their labels (new ones on held-out topics of the sandbox; of other data, those that the run kept to
check its reward), completions to fit weights on, and what the grader and the reward model of RUN (results/NAME, or
results/NAME:METHOD:SEED where it has several rewards) say of both.
The same run gives the same bytes. Exit codes: 0 done, 2 bad input."""


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 3:
        return wrong_usage("freeze")
    from harness.gate.freeze import freeze

    run, folder, name = arguments
    made = freeze(run, Path(folder), name)
    print(
        f"{name}: {made['completions']} completions to {made['prompts']} prompts, {made['fitting_completions']} to "
        f"fit weights on, in {folder} (digest {made['digest']})"
    )
    return 0
