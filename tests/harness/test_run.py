"""What a finished smoke run leaves, and what the other commands make of it."""

from __future__ import annotations

import csv
import json
import shlex
import sys
from pathlib import Path
from shutil import copytree

import pytest
from tiny_runs import SMOKE, rbrbench

from evals.judges.judgement import Judgement
from evals.judges.measures import measure
from evals.values.conversation import ResponseType
from evals.values.errors import InputError
from evals.values.jsonl_rows import read_jsonl
from evals.values.metrics_table import read_metrics
from harness.keys.run import compose_run
from harness.pipeline.collected import Collected
from harness.pipeline.content import content_of
from harness.pipeline.run import about_of, publish
from harness.record.evaluation import Evaluation
from harness.record.reward_rows import TABLES, WORST
from harness.record.run import OF_GOLD, OF_RESPONSES, SHARED_ERRORS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def finished(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished smoke run, to write to."""
    return copytree(smoke_run, tmp_path_factory.mktemp("run") / "finished")


def test_results_are_what_a_person_reads(finished: Path) -> None:
    results = finished / "results" / "smoke"
    for name in ("report.html", "summary.md", "metrics.csv", "config.yaml", "manifest.json", "grader.csv"):
        assert (results / name).stat().st_size > 0, name
    tables = [*results.glob("*.csv"), *results.glob("../.store/gold/*/calibration.csv")]
    assert len(tables) > 4 and not any(b"\r" in table.read_bytes() for table in tables)
    assert {p.suffix for p in (results / "plots").iterdir()} == {".png", ".svg"}
    with open(results / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {r["method"] for r in rows} >= {
        "helpful_sft",
        "human_sft",
        "rbr_sft",
        "helpful_ppo",
        "human_ppo",
        "rbr_ppo",
    }
    assert {r["judge"] for r in rows if r["suite"] == "sandbox"} == {"oracle", "auto"}
    means = [
        r for r in rows if r["method"] == "rbr_ppo" and r["checkpoint"] == "mean" and r["metric"] == "f1"
    ]
    assert means and all(float(r["ci_low"]) <= float(r["value"]) <= float(r["ci_high"]) for r in means)
    assert {r["method"] for r in rows if r["metric"] == "ranking_error"} == {"rm", "rm+rbr", "rbr"}
    assert len({r["checkpoint"] for r in rows if r["method"] == "rbr_ppo"} - {"mean"}) == 5


def test_a_run_keeps_every_verdict(finished: Path) -> None:
    """Only 200 samples of each last checkpoint stood in the record: nothing could be compared with a run."""
    results = finished / "results" / "smoke"
    with open(results / "metrics.csv", newline="") as file:
        table = [r for r in csv.DictReader(file) if (r["suite"], r["metric"]) == ("sandbox", "not_unsafe")]
    shares: dict[tuple[str, str, str, str], list[bool]] = {}
    for path in (results / "verdicts").iterdir():
        for row in read_jsonl(path, lambda row: row.values):
            assert "response" not in row and "prompt" not in row
            for judge in ("oracle", "auto"):
                key = path.name.removesuffix(".jsonl.gz"), str(row["seed"]), row["checkpoint"], judge
                if row[judge]["disallowed"] is not None:
                    shares.setdefault(key, []).append(not row[judge]["disallowed"])
    wanted = {
        (r["method"], r["seed"], r["checkpoint"], r["judge"]): r for r in table if r["checkpoint"] != "mean"
    }
    assert shares.keys() == wanted.keys() and len(shares) == 2 * (3 + 3 * 5)
    for key, found in shares.items():
        assert len(found) == int(wanted[key]["n"])
        assert sum(found) / len(found) == pytest.approx(float(wanted[key]["value"]), abs=1e-6)


def test_grader_and_judge_are_held_against_the_truth_together(finished: Path) -> None:
    """They were copies of one base, and nobody saw that they err alike."""
    results = finished / "results" / "smoke"
    stages = [row["stage"] for row in lines(results / "stages.jsonl")]
    assert "base: judge" in stages and stages.count("shared errors") == 1
    with open(results / SHARED_ERRORS, newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["of"] for row in rows} == {OF_GOLD, OF_RESPONSES}
    prompts = 64  # of the smoke run's evaluation, to six models
    written = [r for r in rows if r["of"] == OF_RESPONSES and r["proposition"] == "disallowed_content"]
    # A grader that was trained for seconds leaves some unscored, and those are not counted.
    assert 0.5 * 6 * prompts < sum(int(r["n"]) for r in written) <= 6 * prompts
    for row in rows:
        n, grader, judge, both = (int(row[k]) for k in ("n", "grader_wrong", "judge_wrong", "both_wrong"))
        assert max(0, grader + judge - n) <= both <= min(grader, judge) <= n
    assert "Wrong together on what the models wrote" in report_of(results)


def test_a_run_s_model_is_evaluated_and_compared_with_its_run(finished: Path) -> None:
    """A run's models had to be dug out of the store; judged again alike they must be what the run says they are."""
    stages = (finished / "results/smoke/stages.jsonl").read_text().splitlines()
    keys = {row["stage"]: row["key"] for row in map(json.loads, stages)}
    store, run = "results/.store", "results/smoke:rbr_ppo"
    rulebook = ROOT / "conf/rulebooks/sandbox.yaml"
    judge = {"kind": "rulebook", "rulebook": rulebook, "path": f"{store}/judge/{keys['judge']}"}
    given = [f"judges.auto.{key}={value}" for key, value in judge.items()]
    given += [
        "suites=[prompt_file]",
        f"suites.prompt_file.path={store}/data/{keys['data']}/eval_prompts.jsonl",
    ]
    given += ["judges=[auto]", "decoding.max_new_tokens=40", "draws=100", "threads=1", "margin=1"]
    given.append("max_unscored=1")  # a judge of that size says neither yes nor no of many
    done = rbrbench("evaluate", "name=again", f"run={run}", f"baseline={run}", *given, cwd=finished)
    assert done.returncode == 0, done.stderr[-2000:]
    with open(finished / "results/again/comparisons.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["metric"] for row in rows] == ["not_unsafe", "not_overrefuse", "f1"]
    assert {row["difference"] for row in rows} == {"0.000000"}


def test_second_run_computes_nothing(finished: Path) -> None:
    report = finished / "results" / "smoke" / "report.html"
    before = report.stat().st_mtime_ns
    done = rbrbench(*SMOKE, cwd=finished)
    assert done.returncode == 0
    assert "computed" not in done.stderr and done.stderr.count("cached") > 15
    assert report.stat().st_mtime_ns == before


def test_other_settings_do_not_overwrite_results(finished: Path) -> None:
    done = rbrbench(*SMOKE, "ppo.kl_coef=0.2", cwd=finished)
    assert done.returncode == 2
    assert "another configuration" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_manifests_say_what_a_stage_cost_and_came_from(finished: Path) -> None:
    manifests = sorted((finished / "results" / ".store").glob("*/*/manifest.json"))
    assert len(manifests) > 20
    for path in manifests:
        manifest = json.loads(path.read_text())
        assert manifest["seconds"] >= 0 and manifest["peak_memory_mb"] > 0 and manifest["versions"]["torch"]
        assert "torch" in manifest["versions"]


def collected(training: list[dict]) -> Collected:
    """A run of which nothing but its training is left."""
    diagnosis: dict[str, list[dict]] = {name: [] for name in (*TABLES, WORST)}
    return Collected([], training, [], [], {}, [], {}, diagnosis)


def test_a_disk_that_fills_up_while_publishing(small_disk: Path) -> None:
    """A traceback, and beside old tables the first half of a new one."""
    config = compose_run(["experiment=smoke", f"results={small_disk}"])
    rows = [{"method": "rbr_ppo", "seed": 0, "update": update, "kl": "0" * 100} for update in range(5000)]
    part = collected(rows)
    for old in (b"", b"the last run's\n"):
        if old:
            (small_disk / "smoke" / "metrics.csv").write_bytes(old)
        with pytest.raises(InputError, match="smoke: the disk is full; free some space"):
            publish(small_disk / "smoke", [config], [part])
        left = {path.name for path in (small_disk / "smoke").iterdir()}
        assert left == {"manifest.json"} | ({"metrics.csv"} if old else set())
    assert (small_disk / "smoke" / "metrics.csv").read_bytes() == old


def test_the_command_in_the_manifest_can_be_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path with a space became two arguments when the command was copied from the report."""
    given = ["run", "experiment=smoke", "rulebook=my rules.yaml", "methods=[rbr_ppo]"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/rbrbench", *given])
    command = about_of([compose_run(given[1:])])["command"]
    assert shlex.split(command) == ["rbrbench", *given]


def lines(path: Path) -> list[dict]:
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_a_finished_run_is_a_reward_for_the_gate(finished: Path) -> None:
    """The gate judged another reward than the one that PPO was paid."""
    stages = {row["stage"]: row["key"] for row in lines(finished / "results/smoke/stages.jsonl")}
    data = finished / "results/.store/data" / stages["data"] / "synthetic_test.jsonl"
    sides = ["baseline=results/smoke", "candidate=results/smoke", f"on={data}"]
    done = rbrbench("regress", *sides, cwd=finished)
    assert done.returncode in (0, 3), done.stderr[-2000:]  # a world this small may have too few prompts
    assert "Both rewards are the same on every completion." in done.stdout
    paid = lines(finished / "results/smoke/rewards.jsonl")
    said = lines(finished / "results/gate/candidate.jsonl")
    assert sorted(row["reward"] for row in said) == pytest.approx(
        sorted(row["rm+rbr"] for row in paid), abs=1e-4
    )


@pytest.mark.slow
def test_a_run_is_frozen_into_a_set(finished: Path) -> None:
    """A set that differs from one making to the next, or that its own record does not fit."""
    for name in ("one", "two"):
        done = rbrbench("freeze", "results/smoke", name, "smoke-1", cwd=finished)
        assert done.returncode == 0, done.stderr[-2000:]
        assert "smoke-1: 2000 completions to 500 prompts" in done.stdout
    refused = rbrbench("freeze", "results/smoke", "one", "smoke-1", cwd=finished)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith("rbrbench: one: holds the set 'smoke-1'")
    files = sorted(path.name for path in (finished / "one").iterdir())
    assert len(files) == 5
    assert all(
        (finished / "one" / name).read_bytes() == (finished / "two" / name).read_bytes() for name in files
    )
    rows = read_jsonl(finished / "one" / "completions.jsonl.gz", lambda row: dict(row.values))
    assert all(row["topic"] in row["prompt"][0]["content"] for row in rows)
    manifest = json.loads((finished / "one" / "manifest.json").read_text())
    assert manifest["set"] == "smoke-1" and str(finished) not in json.dumps(manifest)
    sides = [
        "baseline=one/recorded.jsonl.gz",
        "candidate=one/recorded.jsonl.gz",
        "on=one/completions.jsonl.gz",
    ]
    done = rbrbench("regress", *sides, "rulebook=one/rulebook.yaml", "name=frozen", cwd=finished)
    assert done.returncode in (0, 3), done.stderr[-2000:]
    page = (finished / "results" / "frozen" / "gate.html").read_text(encoding="utf-8")
    assert "by bootstrap over topics" in page
    assert "The prompts of one topic are taken to err together." in page


def test_a_sandbox_run_counts_topics(finished: Path) -> None:
    """Prompts of one topic err together: counted one by one they gave intervals half as wide as they are."""
    results = finished / "results" / "smoke"
    record = Evaluation(results)
    assert record.cluster("sandbox") == "topic" and "intervals and ± count topics" in report_of(results)
    shares = record.prompt_shares["rbr_sft", "sandbox", "oracle"]
    assert shares.clusters and 1 < len(set(shares.clusters.values())) < len(shares.clusters)
    rows = read_jsonl(results / "verdicts" / "rbr_sft.jsonl.gz", lambda row: dict(row.values))
    said = [Judgement(row["prompt_id"], ResponseType(row["response_type"]), **row["oracle"]) for row in rows]
    topics = {row["prompt_id"]: row["topic"] for row in rows}
    named = {"method": "rbr_sft", "seed": 0, "suite": "sandbox", "judge": "oracle"}
    expected = {(r.suite, r.metric): r for r in measure({"sft": said}, **named, clusters=topics)}
    found = {
        (r.suite, r.metric): r
        for r in read_metrics(results / "metrics.csv")
        if (r.method, r.judge) == ("rbr_sft", "oracle")
    }
    assert found.keys() == expected.keys()
    for key, row in found.items():
        assert row.ci_low == pytest.approx(expected[key].ci_low, abs=1e-6, nan_ok=True)
        assert row.ci_high == pytest.approx(expected[key].ci_high, abs=1e-6, nan_ok=True)


def report_of(results: Path) -> str:
    return (results / "report.html").read_text(encoding="utf-8")


def test_what_a_run_counts_as_one_is_a_key() -> None:
    """A default that became a part of a run's identity: results from before it had no owner."""
    assert "cluster" not in content_of(compose_run(["experiment=smoke"]))["evaluation"]
    asked = content_of(compose_run(["experiment=smoke", "evaluation.cluster=prompt"]))
    assert asked["evaluation"]["cluster"] == "prompt"
    with pytest.raises(InputError, match="evaluation.cluster"):
        compose_run(["experiment=smoke", "evaluation.cluster=word"])
