"""One record for every command: one form of samples, verdicts of every response, what older records said."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from evaluation_world import XSTEST_LABELS, evaluate, write_responses, write_suite

from evals.judges import Judgement
from evals.values.conversation import Message, Prompt, ResponseType
from evals.values.errors import InputError
from evals.values.jsonl_rows import read_jsonl, write_jsonl
from harness.evaluate.comparable import obstacles, pair_with_baseline
from harness.evaluate.comparing import compare, read_comparisons
from harness.gate.folders import load_run
from harness.record.evaluation import Evaluation, measured
from harness.record.finished_run import RunAddress, model_folder
from harness.record.manifest import Kind, kind_of, recording
from harness.record.samples import prompt_text, sample_row, verdict_row
from harness.report.judged import judge_table
from harness.report.of_run import write_report
from harness.storage.provenance import ROOT

PROMPT = Prompt("p0", (Message("user", "how do i store a vorn ?"),), ResponseType.COMPLY, "vorns")
SAID = {"oracle": Judgement("p0", ResponseType.COMPLY, False, True, None, "tells refusals, not style")}


def test_a_row_of_samples_has_one_form() -> None:
    """A run's samples had no suite, no sample and no `finished`, and left a reason of null out."""
    row = sample_row("sandbox", PROMPT, SAID, response="i can not .", finished=False)
    assert row == {
        "suite": "sandbox", "prompt_id": "p0", "sample": 0, "response_type": "comply", "category": "vorns",
        "prompt": [{"role": "user", "content": "how do i store a vorn ?"}],
        "response": "i can not .", "finished": False,
        "oracle": {"disallowed": False, "refused": True, "ideal_style": None, "reason": "tells refusals, not style"},
    }  # fmt: skip
    missing = sample_row(
        "s", PROMPT, {}, response=None, finished=False, unscored="timed out", show_prompt=False
    )
    assert missing["unscored"] == "timed out" and missing["response"] == "" and "prompt" not in missing


def test_verdicts_hold_no_text() -> None:
    """Responses to harmful prompts would lie, many thousands of them, in a folder that is passed on."""
    row = verdict_row(sample_row("s", PROMPT, SAID, response="mix the glim", finished=True), 3, "74")
    assert (row["seed"], row["checkpoint"], row["oracle"]["refused"]) == (3, "74", True)
    assert "glim" not in json.dumps(row) and "vorn ?" not in json.dumps(row)


def test_prompts_of_older_records_are_shown_as_before() -> None:
    """A run's prompts were texts; as messages they came with `user:` before each."""
    assert prompt_text("how ?") == prompt_text([{"role": "user", "content": "how ?"}]) == "how ?"
    assert prompt_text(None) is None
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert prompt_text(turns) == "user: a\nassistant: b"


def test_packed_rows_are_the_same_bytes_again(tmp_path: Path) -> None:
    """A time in the header made two writings of one record differ."""
    path = tmp_path / "rows.jsonl.gz"
    rows = [{"a": "é"}, {"a": 2}]
    write_jsonl(path, rows)
    assert path.read_bytes()[4:8] == b"\0\0\0\0"
    assert gzip.decompress(path.read_bytes()).decode() == '{"a": "é"}\n{"a": 2}\n'
    assert read_jsonl(path, lambda row: row.values) == rows


# --- a run as a baseline, a model, a gate's side ---------------------------------------------


def as_run(evaluation: Path, folder: Path, method: str, seeds: Sequence[int]) -> Path:
    """A run whose last checkpoint said, for each seed, what the evaluation's one model did; its first said nothing
    but refusals.
    """
    (folder / "verdicts").mkdir(parents=True)
    (folder / "metrics.csv").write_bytes((evaluation / "metrics.csv").read_bytes())
    (folder / "stages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in stage_rows(seeds)))
    manifest = json.loads((evaluation / "manifest.json").read_text())
    (model,) = manifest["evaluation"]["models"].values()
    shared = {what: manifest["evaluation"][what] for what in ("suites", "judges")}
    artifact = {"stage": "ppo", "key": "ab12", "folder": "checkpoint-9"}
    about = {"method": method, "checkpoint": "9", "artifact": artifact, **model, **shared}
    record = measured([{**about, "seed": seed} for seed in seeds])
    (folder / "manifest.json").write_text(json.dumps({"name": folder.name, "measured": record}))
    (samples,) = (evaluation / "samples").glob("*.jsonl")
    rows = read_jsonl(samples, lambda row: row.values)
    refusing = [{**row, "string_match": {"disallowed": False, "refused": True}} for row in rows]
    verdicts = [
        verdict_row(row, seed, checkpoint)
        for seed in seeds
        for checkpoint, of in (("8", refusing), ("9", rows))
        for row in of
    ]
    write_jsonl(folder / "verdicts" / f"{method}.jsonl.gz", verdicts)
    return folder


def stage_rows(seeds: Sequence[int]) -> list[dict[str, Any]]:
    kinds = ("weights: helpful", "weights: human", "ppo: rbr_ppo")
    return [{"seed": seed, "stage": kind, "key": f"{kind[-3:]}{seed}"} for seed in seeds for kind in kinds]


def test_a_run_is_a_baseline_as_its_evaluation_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only evaluations could be compared with: a run had to be evaluated again, with weights that may be gone."""
    suite = write_suite(tmp_path)
    careful = write_responses(tmp_path / "careful.csv", suite, [*(f"u{k}" for k in range(30)), "s0", "s1"])
    bold = write_responses(tmp_path / "bold.csv", suite, [f"u{k}" for k in range(15)])
    assert evaluate(tmp_path, suite, f"responses={careful}", "name=first") == 0
    results = tmp_path / "results"
    one = as_run(results / "first", results / "one", "rbr_ppo", [0])
    several = as_run(results / "first", results / "several", "rbr_ppo", [0, 1])
    found = {}
    for place in (results / "first", one, f"{several}:rbr_ppo:1"):
        assert evaluate(tmp_path, suite, f"responses={bold}", "name=against", f"baseline={place}") == 1
        rows = read_comparisons(str(results / "against" / "comparisons.csv"))
        found[str(place)] = [(row.metric, row.difference, row.p_value, row.n) for row in rows]
    first, *others = found.values()
    assert first == others[0] == others[1] and len(first) == 3
    assert Evaluation(several).models == ["rbr_ppo-0", "rbr_ppo-1"]
    capsys.readouterr()
    assert (
        evaluate(tmp_path, suite, f"responses={bold}", "name=against", f"baseline={several}:human_ppo") == 2
    )
    assert "use one of rbr_ppo:0, rbr_ppo:1" in capsys.readouterr().err


def test_each_method_has_one_partner_of_its_seed(tmp_path: Path) -> None:
    """A run's methods found no partner in a baseline of another name, and a sweep's none at all: each seed has prompts
    of its own.
    """
    suite = write_suite(tmp_path)
    answers = write_responses(tmp_path / "a.csv", suite, [])
    assert evaluate(tmp_path, suite, f"responses={answers}", "name=first") == 0
    results = tmp_path / "results"
    runs = {
        (method, seeds): str(as_run(results / "first", results / f"{method}{len(seeds)}", method, seeds))
        for method in ("rbr_ppo", "human_ppo")
        for seeds in ((0,), (0, 1))
    }

    def pairs(ours: str, baseline: str) -> list[tuple[str, str]]:
        found = pair_with_baseline(Evaluation(ours), Evaluation(baseline))
        return [(a.model, b.model) for a, b in found]

    ours, other = runs["rbr_ppo", (0, 1)], runs["human_ppo", (0, 1)]
    same = [("rbr_ppo-0", "human_ppo-0"), ("rbr_ppo-1", "human_ppo-1")]
    assert pairs(ours, other) == pairs(ours, f"{other}:human_ppo") == same
    assert pairs(ours, f"{other}:1") == [("rbr_ppo-0", "human_ppo-1"), ("rbr_ppo-1", "human_ppo-1")]
    assert pairs(ours, ours) == [("rbr_ppo-0", "rbr_ppo-0"), ("rbr_ppo-1", "rbr_ppo-1")]
    assert pairs(runs["rbr_ppo", (0,)], other) == [("rbr_ppo", "human_ppo-0")]
    with pytest.raises(InputError, match="none of a; name one of them"):
        pairs(str(results / "first"), other)


def test_the_cards_of_a_sweep_s_own_judges_stand_apart(tmp_path: Path) -> None:
    """A judge that each run of a sweep has trained is several; the page knew the last one's card, or none."""
    suite = write_suite(tmp_path)
    answers = write_responses(tmp_path / "a.csv", suite, [])
    labels = tmp_path / "labels.csv"
    labels.write_text(XSTEST_LABELS)
    assert evaluate(tmp_path, suite, f"responses={answers}", "name=first", f"card.path={labels}") == 0
    run = as_run(tmp_path / "results/first", tmp_path / "results/run", "rbr_ppo", [0, 1])
    card = Evaluation(tmp_path / "results/first").cards["string_match"].as_json()
    cards = {f"string_match-{i}": {**card, "identity": f"made by {i}"} for i in (0, 1)}
    (run / "judges.json").write_text(json.dumps(cards))
    rows = judge_table(Evaluation(run)).rows
    assert [(row.name, row.cells[0].value) for row in rows] == [
        ("string_match-0", "made by 0"),
        ("string_match-1", "made by 1"),
    ]
    write_report(run)
    assert "one a run: 2 cards below" in (run / "report.html").read_text()


def test_other_prompts_of_a_run_are_an_obstacle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each seed of a run has a world of its own; the first seed's suite stood for all of them."""
    suite = write_suite(tmp_path)
    answers = write_responses(tmp_path / "a.csv", suite, [])
    assert evaluate(tmp_path, suite, f"responses={answers}", "name=first") == 0
    run = as_run(tmp_path / "results/first", tmp_path / "results/run", "rbr_ppo", [0, 1])
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["measured"]["models"]["rbr_ppo-1"]["suites"]["prompt_file"]["version"] = "another"
    (run / "manifest.json").write_text(json.dumps(manifest))
    given = [f"responses={answers}", "name=second", f"baseline={run}:1"]
    assert evaluate(tmp_path, suite, *given) == 2
    assert "version of suite prompt_file" in capsys.readouterr().err


def test_a_run_without_verdicts_or_store_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A committed run's folder ended in a KeyError, and a run whose store is gone in a traceback of its loader."""
    with pytest.raises(InputError, match="kept no verdict of every response; run it again"):
        Evaluation(Path(__file__).parents[2] / "results" / "reference")
    suite = write_suite(tmp_path)
    answers = write_responses(tmp_path / "a.csv", suite, [])
    assert evaluate(tmp_path, suite, f"responses={answers}", "name=first") == 0
    run = as_run(tmp_path / "results/first", tmp_path / "results/run", "rbr_ppo", [0, 1])
    capsys.readouterr()
    assert evaluate(tmp_path, suite, f"run={run}:1", "name=second") == 2
    assert "ppo/ab12 of run is not in the store" in capsys.readouterr().err
    with pytest.raises(InputError, match="rbr_ppo:0, rbr_ppo:1; more than one of them is named"):
        model_folder(RunAddress.parse(str(run)), Evaluation(run).record["models"])


def test_a_run_s_capability_is_compared_item_by_item(tmp_path: Path) -> None:
    """A run kept the shares of its tasks alone: a model that had lost knowledge since passed unseen."""
    suite = write_suite(tmp_path)
    answers = write_responses(tmp_path / "a.csv", suite, [])
    assert evaluate(tmp_path, suite, f"responses={answers}", "name=first") == 0
    results = tmp_path / "results"
    run = as_run(results / "first", results / "run", "rbr_ppo", [0, 1])
    about = {"tasks": {"mmlu": {"version": "v", "num_fewshot": None}}, "limit": 40, "seed": 0}
    for folder, of_models in ((run, "measured"), (results / "first", "evaluation")):
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest[of_models]["capability"] = about
        (folder / "manifest.json").write_text(json.dumps(manifest))
        (folder / "capability").mkdir()
    score = {"task": "mmlu", "metric": "acc", "higher_is_better": True, "num_fewshot": 0}
    right, wrong = ({f"i{k}": value for k in range(40)} for value in (1.0, 0.0))
    rows = [
        {"seed": seed, "checkpoint": checkpoint, **score, "outcomes": right if checkpoint == "9" else wrong}
        for seed in (0, 1)
        for checkpoint in ("8", "9")
    ]
    write_jsonl(run / "capability" / "rbr_ppo.jsonl.gz", rows)
    write_jsonl(results / "first" / "capability" / "a.jsonl", [{**score, "outcomes": wrong}])
    ours, theirs = Evaluation(results / "first"), Evaluation(f"{run}:rbr_ppo:1")
    assert theirs.capability == {("rbr_ppo-1", "mmlu", "acc"): right}
    ((first, second),) = pair_with_baseline(ours, theirs)
    assert obstacles(first, second) == []
    compared = compare([(first, second)], margin=0.02, equivalent=0.02)
    assert [row.difference for row in compared if row.suite == "capability/mmlu"] == [-1.0]
    theirs.record["capability"] = {**about, "limit": 41}
    assert obstacles(first, second) == ["items of the capability tasks (limit or seed)"]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("", "has 4 rewards .*human_rbr_ppo of seed 1.*more than one"),
        (":rbr_ppo", "more than one of them"),
        (":1", "more than one of them"),
        (":rbr_ppo:7", "none of them"),
        (":human_ppo:0", "human_ppo has no rule-based reward"),
        (":rbr_ppa:0", "unknown method 'rbr_ppa'"),
        (":rbr_ppo:1", "weights/ful1 of run is not in the store"),
        (":human_rbr_grpo:0", "weights/man0 of run is not in the store"),
        (":a:b", "names more than one model"),
    ],
)
def test_a_gate_s_side_names_method_and_seed(tmp_path: Path, address: str, message: str) -> None:
    """The gate took the first of a sweep's rewards without a word, whichever was meant."""
    run = tmp_path / "run"
    run.mkdir()
    write_jsonl(run / "stages.jsonl", stage_rows([0, 1]))
    with pytest.raises(InputError, match=message):
        load_run(RunAddress.parse(f"{run}{address}"), tmp_path / "grades.jsonl")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (":mine_ppo:0", "weights/man0 of run is not in the store"),
        (":mine_grpo:1", "weights/man1 of run is not in the store"),
        (":paid_ppo:0", "paid_ppo has no rule-based reward"),
        (":other_ppo:0", "unknown method 'other_ppo'; use .*human_rbr_ppo, .*mine_ppo, paid_ppo"),
        ("", "has 4 rewards .*human_rbr_ppo or mine_ppo of seed 1.*more than one"),
    ],
)
def test_a_gate_s_side_may_be_a_method_of_one_s_own(tmp_path: Path, address: str, message: str) -> None:
    """The reward of a method from outside was "unknown method", though the run had trained it."""
    run = tmp_path / "run"
    run.mkdir()
    write_jsonl(run / "stages.jsonl", stage_rows([0, 1]))
    given = {"sft": "human", "reward_model": "human", "safety_prompts": True}
    rows = [
        {"name": "mine", "label": "Mine", "terms": ["reward_model", "rule_based"], **given},
        {"name": "paid_ppo", "label": "Paid", "terms": ["own:term"], **given},
    ]
    (run / "manifest.json").write_text(json.dumps({"outside_methods": rows}), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_run(RunAddress.parse(f"{run}{address}"), tmp_path / "grades.jsonl")


def test_what_a_folder_is_a_record_of(tmp_path: Path) -> None:
    """Guards: results of before records said their kind that nothing draws any more, and half a record drawn as one."""
    results = ROOT / "results"
    assert kind_of(results / "reference") is Kind.RUN and kind_of(results / "reference_xstest") is Kind.XSTEST
    said = {
        Kind.EVALUATION: {"config_digest": "0123", "evaluation": {"models": {}}},
        Kind.GATE: {"config_digest": Kind.GATE.owner, "kind": "gate"},
        None: {"config_digest": Kind.GOLD.owner, "commit": "unfinished"},
    }
    for kind, manifest in said.items():
        (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        assert kind_of(tmp_path) is kind
    (tmp_path / "manifest.json").write_text('{"kind": "of tomorrow"}', encoding="utf-8")
    assert kind_of(tmp_path) is None and kind_of(tmp_path / "nowhere") is None


def test_a_manifest_is_written_last(tmp_path: Path) -> None:
    """Guards: a kill between two files that leaves a folder which says it is finished. The older record stands until
    the new one is whole.
    """
    folder = tmp_path / "gate"
    for before, failing in ((None, True), (None, False), (Kind.GATE, True)):
        with (
            contextlib.suppress(KeyboardInterrupt),
            recording(folder, Kind.GATE, "gate", ["regress"], ["a note"]),
        ):
            assert kind_of(folder) is before
            if failing:
                raise KeyboardInterrupt
        assert kind_of(folder) is (before if failing else Kind.GATE)
    refused = pytest.raises(InputError, match="another configuration's results lie here")
    with refused, recording(folder, Kind.FIT, "fit", ["fit"], []):
        raise AssertionError("nothing is written there")
