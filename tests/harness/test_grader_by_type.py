"""The grader's measures by response type, on the page: what it reads well on the whole it may misread of one type."""

from __future__ import annotations

import json
from pathlib import Path

from harness.record.run import GRADER_BY_TYPE, ResultsFolder
from harness.report.tables import grader_type_tables

ROWS = """seed,grader,response_type,proposition,n,n_positive,balanced_accuracy
0,grader,hard_refuse,judges,20,10,0.5
1,grader,hard_refuse,judges,20,10,0.7
0,grader,refuse_softly:locks,judges,9,0,
0,judge,comply,refuses,12,6,1.0
"""


def test_each_types_propositions_stand_in_a_table(tmp_path: Path) -> None:
    """They were measured, said on the screen and kept in the store; the page had means over all types alone."""
    (tmp_path / "manifest.json").write_text(json.dumps({"kind": "run"}))
    assert grader_type_tables(ResultsFolder(tmp_path)) == []
    (tmp_path / GRADER_BY_TYPE).write_text(ROWS)
    mine, judge = grader_type_tables(ResultsFolder(tmp_path))
    assert (mine.title, judge.title) == ("grader, by response type", "judge, by response type")
    found = {row.name: [cell.value for cell in row.cells] for row in mine.rows}
    assert found["hard refuse: judges"] == ["40", "20", "60.0 %"]
    assert found["locks (refuse softly): judges"] == ["9", "0", "\u2013"]
