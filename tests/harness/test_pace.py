"""What a grader costs: time, tokens and money for 1,000 responses, of what was asked and not found in the cache."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from gate_world import RULES, labelled

from evals.graders.cache import CachedGrader, GradeCache
from evals.models.spending import Spending
from evals.rules.propositions import Proposition
from evals.values.conversation import Response
from evals.values.grades import Grades
from harness.gold.grading import priced
from harness.gold.pace import pace_of
from harness.keys.gold import GoldConfig, GoldLabels, GoldServer, GraderChoice
from harness.keys.graders import GraderKeys
from harness.record.run import ResultsFolder
from harness.report.of_gold import gold_document

ASKED = list(RULES.propositions.values())[:4]
RESPONSES = [item.response for item in labelled("pace", 1)][:5]


class Counting:
    """Grades all alike, in ten milliseconds a call, and says what a server would be paid for."""

    name, identity = "counting", "counting:1"

    def __init__(self) -> None:
        self.spending = Spending()

    def grade(self, responses: Sequence[Response], propositions: Sequence[Proposition]) -> Grades:
        pairs = len(responses) * len(propositions)
        self.spending = Spending(pairs, 100 * pairs, pairs)
        time.sleep(0.01)
        return Grades.of([p.name for p in propositions], [[0.5] * len(propositions)] * len(responses))


def test_only_what_was_asked_counts(tmp_path: Path) -> None:
    """A grader whose grades lay in the cache was the fastest of all, and free."""
    server = GoldServer(prompt_price=2.0, completion_price=10.0)
    grader = CachedGrader(Counting(), GradeCache(tmp_path / "grades.jsonl"))
    grader.grade(RESPONSES, ASKED)
    pace = pace_of(grader, len(ASKED), server)
    assert pace is not None and pace.asked == 20 and pace.seconds >= 0.01 / 5 * 1000
    assert pace.tokens == pytest.approx(1000 * 4 * 101)
    assert pace.cost == pytest.approx(4000 * (100 * 2.0 + 1 * 10.0) / 1e6)
    before = grader.seconds
    grader.grade(RESPONSES, ASKED)
    assert grader.asked == 20 and grader.seconds - before < 0.01
    again = CachedGrader(Counting(), GradeCache(tmp_path / "grades.jsonl"))
    again.grade(RESPONSES, ASKED)
    found = pace_of(again, len(ASKED), server)
    assert found is not None and found.asked == 0 and math.isnan(found.seconds) and math.isnan(found.cost)
    assert pace_of(Counting(), 4, server) is None


def test_each_grader_has_its_own_price() -> None:
    config = GoldConfig(
        grader=GraderKeys("recorded", "g.jsonl"),
        gold=GoldLabels(test="x.jsonl"),
        server=GoldServer(prompt_price=1.0),
    )
    dear = GraderChoice("server", "big", prompt_price=5.0, completion_price=15.0)
    assert priced(dear, config).prompt_price == 5.0 and priced(dear, config).completion_price == 15.0
    assert priced(GraderChoice("server", "small"), config).prompt_price == 1.0


def test_the_table_has_cost_and_speed_beside_accuracy(tmp_path: Path) -> None:
    """A column of one grader under the head of another's."""
    names = ("fast", "dear", "file")
    paces = {
        "fast": {"asked": 20, "seconds": 2.5, "tokens": None, "cost": None},
        "dear": {"asked": 20, "seconds": 1234.0, "tokens": 404_000, "cost": 0.84},
    }
    graders = {
        name: {"kind": "server", "unscored_share": 0.0, "against_first": None}
        | ({"pace": paces[name]} if name in paces else {})
        for name in names
    }
    graders["dear"]["against_first"] = {"value": 0.1, "low": 0.0, "high": 0.2}
    about = {"kind": "gold", "name": "g", "command": "rbrbench gold", "notes": [], "graders": graders}
    (tmp_path / "manifest.json").write_text(json.dumps(about))
    from evals.graders.calibration import COLUMNS

    columns = ["thresholds", *COLUMNS, "enough_to_learn", "enough_to_judge"]
    texts = {"thresholds": "0.5", "enough_to_learn": "", "enough_to_judge": ""}
    lines = [",".join(columns)]
    for name in names:
        for row in ("(mean)", "(mean where enough labels)"):
            cells = texts | {"grader": name, "proposition": row}
            lines.append(",".join(str(cells.get(column, "0.5")) for column in columns))
    (tmp_path / "calibration.csv").write_text("\n".join(lines) + "\n")
    document = gold_document(ResultsFolder(tmp_path))
    table = next(
        part for part in document.sections[0].parts if getattr(part, "title", "") == "mean over propositions"
    )
    heads = ("seconds for 1,000 responses", "tokens for 1,000 responses", "cost of 1,000 responses")
    places = [table.columns.index(head) for head in heads]  # type: ignore[union-attr]
    said = {
        row.name: [row.cells[place].value for place in places]
        for row in table.rows  # type: ignore[union-attr]
        if row.name in names
    }
    assert said == {"fast": ["2.5", "–", "–"], "dear": ["1,234", "404,000", "0.84"], "file": ["–", "–", "–"]}
