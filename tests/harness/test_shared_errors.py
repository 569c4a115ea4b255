"""Grader and judge that err together, on the page: how often, beside what chance would make of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from evals.rules.rulebook import load_rulebook
from evals.values.csv_rows import read_csv
from evals.values.jsonl_rows import write_jsonl
from evals.values.metrics_table import MetricRow, write_metrics
from harness.keys.run import compose_run
from harness.pipeline.context import Context
from harness.pipeline.gold import measure_grader
from harness.pipeline.graders import DESCRIPTION, GRADER, JUDGE
from harness.pipeline.judging import world_suite
from harness.pipeline.shared_errors import measure_shared_errors
from harness.pipeline.world import make_data
from harness.record.run import SHARED_ERRORS, ResultsFolder
from harness.report.document import Fold, Table
from harness.report.notes import notes
from harness.report.shared_errors import shared_error_parts, worst_shared
from harness.runtime.console import Console
from harness.storage.store import Artifact, Store
from harness.subjects.outcome import Outcome
from harness.worlds.folder import WorldFolder
from harness.worlds.sandbox.speech import method_sentences
from harness.worlds.sandbox.world import World

ROWS = """seed,of,response_type,proposition,n,grader_wrong,judge_wrong,both_wrong
0,gold,hard_refuse,apology,10,1,0,0
0,responses,hard_refuse,apology,100,10,10,1
0,responses,hard_refuse,disallowed_content,100,20,10,10
1,responses,hard_refuse,disallowed_content,100,0,10,0
0,responses,comply,disallowed_content,200,0,0,0
"""


@pytest.fixture
def results(tmp_path: Path) -> ResultsFolder:
    (tmp_path / "manifest.json").write_text(json.dumps({"kind": "run"}))
    safe = MetricRow("rbr_ppo", 0, "mean", "sandbox", "not_unsafe", "oracle", 0.9, 0.01, 0.8, 0.95, 50, 0)
    write_metrics(tmp_path / "metrics.csv", [safe])
    (tmp_path / SHARED_ERRORS).write_text(ROWS)
    return ResultsFolder(tmp_path)


def test_shared_errors_stand_beside_what_chance_would_make_of_them(results: ResultsFolder) -> None:
    """That grader and judge agree was taken for both being right; chance over all seeds is not chance in each."""
    written, typed, gold, _, _ = shared_error_parts(results)
    assert isinstance(written, Table) and isinstance(typed, Fold) and isinstance(gold, Table)
    found = {row.name: [cell.value for cell in row.cells] for row in written.rows}
    assert list(found) == ["all propositions", "disallowed content", "apology"]
    both = ["400", "5.0 % (20)", "5.0 % (20)", "2.5 % (10)", "0.5 % (2.0)"]
    assert found["disallowed content"] == both
    assert found["apology"] == ["100", "10.0 % (10)", "10.0 % (10)", "1.0 % (1)", "1.0 % (1.0)"]
    assert [row.name for row in gold.rows] == ["all propositions", "apology"]
    (table,) = typed.parts
    assert isinstance(table, Table) and table.rows[0].name == "hard refuse: disallowed content"


def test_the_worst_is_a_note(results: ResultsFolder, tmp_path: Path) -> None:
    """A number in a table far down is no warning."""
    assert worst_shared(results) == ("disallowed content", 0.025, 0.005)
    assert any(
        "wrong together on “disallowed content” in 2.5 % of responses, 0.5 %" in n for n in notes(results, "")
    )
    (tmp_path / SHARED_ERRORS).write_text("\n".join(ROWS.splitlines()[:2]) + "\n")
    assert not any("wrong together" in note for note in notes(ResultsFolder(tmp_path), ""))


def test_without_a_judge_there_is_nothing_to_show(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"kind": "run"}))
    folder = ResultsFolder(tmp_path)
    assert shared_error_parts(folder) == [] and worst_shared(folder) is None


def artifact(path: Path, stage: str) -> Artifact:
    return Artifact(path, path.name, stage, False, 0.0, 0.0, {"results": {}})


def oracle_of(folder: Path, stage: str, world: World) -> Artifact:
    """A grader that takes another world for the truth."""
    folder.mkdir()
    world.save(folder / "world.json")
    described = {"kind": "oracle", "path": str(folder / "world.json"), "asked_by": "model", "server": {}}
    (folder / DESCRIPTION).write_text(json.dumps(described))
    return artifact(folder, stage)


def test_the_stage_holds_both_against_the_truth(tmp_path: Path) -> None:
    """Grader and judge took the same topics for allowed ones; only together with the truth does that show."""
    config = compose_run(["experiment=smoke", f"results={tmp_path / 'results'}", "threads=1"])
    rules, store = load_rulebook(config.rulebook_path), Store(tmp_path / "results" / ".store")
    context = Context(config, store, Console(live=False), rules)
    data = make_data(context)
    world = World.load(WorldFolder(data.path).sandbox)
    turned = replace(world, topics=tuple(replace(t, banned=not t.banned) for t in world.topics))
    told = tmp_path / "responses"
    told.mkdir()
    suite = world_suite(data)
    methods = {p.id: method_sentences(t := world.by_name[p.topic], t.facts) for p in suite.prompts}
    write_jsonl(
        told / "sft.jsonl", (Outcome(id, 0, " ".join(said)).as_json() for id, said in methods.items())
    )
    grader = oracle_of(tmp_path / "grader", GRADER, turned)
    for name, seen, shared in (("right", world, 0.0), ("wrong", turned, 1.0)):
        graders = {GRADER: grader, JUDGE: oracle_of(tmp_path / name, JUDGE, seen)}
        gold = {role: measure_grader(context, data, one) for role, one in graders.items()}
        said = {"rbr_sft": artifact(told, "responses")}
        made = measure_shared_errors(context, data, graders, gold, suite, said)
        rows = [row.values for row in read_csv(made.path / SHARED_ERRORS, ("of", "proposition"))]
        for of in ("gold", "responses"):
            mine = [row for row in rows if row["of"] == of]
            wrong = [r for r in mine if int(r["grader_wrong"])]
            assert wrong and {r["proposition"] for r in wrong} == {"disallowed_content"}
            assert all(int(r["both_wrong"]) == shared * int(r["grader_wrong"]) for r in mine)
            assert all(int(r["judge_wrong"]) == shared * int(r["grader_wrong"]) for r in mine)
        written = [r for r in rows if r["of"] == "responses" and r["proposition"] == "disallowed_content"]
        assert all(int(r["grader_wrong"]) == int(r["n"]) for r in written)
        assert sum(int(r["n"]) for r in written) == len(suite.prompts)
