"""Results and suites in other programs' formats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from evals.values.kinds import find_builder
from harness.record.run import ResultsFolder

# Adding an export of results is one file and one line here, or MODULE:ATTRIBUTE: a function of the results folder
# that gives {file name: text}. Named as text, so that listing them loads nothing.
EXPORTS: Mapping[str, str] = {
    "eval_results": "harness.report.exports.eval_results:files",
    "every_eval_ever": "harness.report.exports.every_eval_ever:files",
    "inspect": "harness.report.exports.inspect_log:files",
    "lm_eval": "harness.report.exports.lm_eval_results:files",
    "model_card": "harness.report.exports.model_card:files",
    "trl": "harness.report.exports.trl_data:files",
}
# Written with every evaluation; the others where asked for.
BESIDE = ("eval_results", "every_eval_ever", "lm_eval", "model_card")


def write_exports(results: Path, kinds: Iterable[str] = BESIDE) -> list[Path]:
    """Write what each export makes of a results folder into that folder; the paths written.

    Raises InputError for an unknown kind, a folder that an export cannot read, and a disk that refuses.
    """
    folder = ResultsFolder(results)
    exports = [find_export(kind) for kind in kinds]
    return [folder.write(name, text.encode()) for export in exports for name, text in export(folder).items()]


def find_export(kind: str) -> Callable[[ResultsFolder], Mapping[str, str]]:
    """Raises InputError for an unknown kind, and for what is no function."""
    return find_builder("export", kind, EXPORTS, "exports", "the results folder")
