"""results/NAME of a ceiling: ceiling.json has every figure and no text of prompts; prompts.jsonl the samples shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from evals.values.jsonl_rows import write_jsonl
from harness.ceiling.engine import CeilingReport
from harness.record.manifest import Kind, recording
from harness.record.run import spending_part
from harness.storage.digest import figures
from harness.storage.disk import write_json

CEILING, PROMPTS = "ceiling.json", "prompts.jsonl"


def write_ceiling(report: CeilingReport, command: Sequence[str]) -> Path:
    """Write the folder, whose path it returns. Raises InputError where another command's results lie."""
    folder = Path(report.config.results) / report.config.name
    about = spending_part(report.spending)
    with recording(folder, Kind.CEILING, report.config.name, command, report.notes, **about) as new:
        write_jsonl(new / PROMPTS, report.prompts)
        content = {
            "exit_code": report.code,
            "problems": list(report.problems),
            "config": figures(asdict(report.config)),
            **figures(report.figures),
        }
        write_json(new / CEILING, content)
    return folder
