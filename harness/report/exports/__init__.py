"""Results and suites in other programs' formats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from evals.values.kinds import find_builder, found_in
from harness.record.run import ResultsFolder

# Adding an export of results is one file with a function `files` of the results folder that gives {file name: text}: it
# is found here, and loads nothing. One's own is MODULE:ATTRIBUTE.
EXPORTS: Mapping[str, str] = found_in(__name__, __path__, "files")
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
