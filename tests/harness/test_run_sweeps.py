"""Sweeps, and a run beside an earlier one."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from shutil import copytree

import pytest
from evaluation_world import XSTEST_LABELS
from tiny_runs import SMOKE, rbrbench

from harness.pipeline.variants import variants_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def finished(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished smoke run, to write to."""
    return copytree(smoke_run, tmp_path_factory.mktemp("run") / "finished")


def test_a_run_is_compared_with_a_baseline_on_its_page(finished: Path) -> None:
    """A run's cards, corrected scores and comparisons were files that no page showed, and its methods had to be
    evaluated once more to be compared with an earlier run.
    """
    labels = finished / "labels.csv"
    labels.write_text(XSTEST_LABELS)
    keys = [
        "evaluation.judges=[string_match]",
        f"evaluation.card.path={labels}",
        "evaluation.card.labels=xstest",
    ]
    keys += ["evaluation.correction.by=oracle", "evaluation.correction.labels=40", "evaluation.margin=1"]
    keys += ["name=against", "methods=[rbr_sft,rbr_ppo]", "capability.tasks=[]"]
    baseline = "evaluation.baseline=results/smoke:rbr_ppo"
    done = rbrbench(*SMOKE, *keys, baseline, cwd=finished)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "No metric is worse by more than 100 points." in done.stdout + done.stderr
    results = finished / "results/against"
    with open(results / "comparisons.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(r["first"], r["second"]) for r in rows} == {
        (m, "rbr_ppo (smoke)") for m in ("rbr_sft", "rbr_ppo")
    }
    assert {r["difference"] for r in rows if r["first"] == "rbr_ppo"} == {"0.000000"}
    page, summary = ((results / name).read_text() for name in ("report.html", "summary.md"))
    assert '<section id="comparisons">' in page and page.count("− rbr_ppo (smoke)") == len(rows)
    assert '<section id="judges">' in page and "balanced accuracy 88 %" in page and "auto+ppi" in page
    assert "corrected for its mistakes by 40 labels of oracle" in page and "balanced accuracy 88 %" in summary
    assert rbrbench("report", "results/against", cwd=finished).returncode == 0
    assert page == (results / "report.html").read_text()
    plain = (finished / "results/smoke/report.html").read_text()
    assert '<section id="comparisons">' not in plain and '<section id="judges">' not in plain
    again = rbrbench(*SMOKE, *keys, "evaluation.baseline=results/smoke:human_sft", cwd=finished)
    assert again.returncode == 0 and "computed" not in again.stderr, again.stderr[-2000:]
    assert "− human_sft (smoke)" in (results / "report.html").read_text()


@pytest.mark.slow
def test_sweep_draws_one_comparison_over_its_seeds(finished: Path) -> None:
    """Seed 0 comes from the store: a sweep pays only for the stages that differ."""
    methods = "methods=[helpful_sft,human_sft,rbr_sft]"
    done = rbrbench("run", "-m", *SMOKE[1:], methods, "seed=0,1", "name=seeds", cwd=finished)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("cached") > 15
    results = finished / "results" / "seeds"
    with open(results / "metrics.csv", newline="") as file:
        assert {row["seed"] for row in csv.DictReader(file)} == {"0", "1"}
    manifest = json.loads((results / "manifest.json").read_text())
    assert (manifest["kind"], manifest["seeds"]) == ("run", [0, 1])
    assert "2 seeds" in (results / "summary.md").read_text()


@pytest.mark.slow
def test_sweep_over_a_setting_tells_its_variants_apart(finished: Path) -> None:
    sweep = [
        "run",
        "-m",
        "experiment=smoke",
        "threads=1",
        "ppo.kl_coef=0.05,0.5",
        "name=kl",
        "methods=[rbr_ppo]",
    ]
    done = rbrbench(*sweep, cwd=finished)
    assert done.returncode == 0, done.stderr[-2000:]
    with open(finished / "results" / "kl" / "metrics.csv", newline="") as file:
        methods = {row["method"] for row in csv.DictReader(file)}
    assert {"rbr_ppo[ppo.kl_coef=0.05]", "rbr_ppo[ppo.kl_coef=0.5]"} <= methods


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["a/x.yaml", "b/y.yaml"], ["x.yaml", "y.yaml"]),
        (["a/x.yaml", "b/x.yaml", "short"], ["a-x.yaml", "b-x.yaml", "short"]),
        (["a/x", "a/x/"], ["a-x-1", "a-x-2"]),
        (["0.05", "0.5"], ["0.05", "0.5"]),
    ],
)
def test_a_path_in_a_sweep_is_no_path_in_a_file_name(values: list[str], names: list[str]) -> None:
    """samples/rbr_ppo[rulebook=a/x.yaml].jsonl lay in a folder that nobody made, after all the training."""
    swept = [[f"rulebook={value}", f"seed={seed}"] for value in values for seed in (0, 1)]
    found = variants_of(swept, [f"rulebook={','.join(values)}", "seed=0,1"])
    assert found == [f"rulebook={name}" for name in names for _ in (0, 1)]


def test_a_run_that_sweeps_nothing_has_no_variant() -> None:
    assert variants_of([["seed=0", "ppo.kl_coef=0.1"]], ["seed=0,1", "ppo.kl_coef=0.1"]) == [""]
