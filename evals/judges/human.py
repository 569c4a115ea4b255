"""People's verdicts as a judge: recorded labels of people, who do not decline."""

from __future__ import annotations

from pathlib import Path

from evals.judges.recorded import LabelColumns, RecordedJudge, of_files


def build(
    name: str,
    *,
    path: str,
    column: str = "final_label",
    id: str = "id",
    response: str = "completion",
    suite: str = "suite",
    probability: str = "",
) -> RecordedJudge:
    """Labels as `recorded` reads them, but one that is none of LABELS is refused, and an empty one is yet to come.

    `probability` names a column that says with which probability each response was drawn to be labelled.
    """
    columns = LabelColumns(column, id, response, suite, probability)
    return of_files(name, Path(path), columns, strict=True)
