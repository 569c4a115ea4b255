"""`rbrbench samples`: a versioned set from a run's model, and the ceiling of a method without rules on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gate_world import read_json
from tiny_runs import rbrbench

from harness.subjects.sample_set import read_samples


@pytest.fixture(scope="module")
def sets(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of the smoke run's RBR-SFT, with samples of a hotter one; tests read it."""
    folder = tmp_path_factory.mktemp("sets")
    run = smoke_run / "results" / "smoke"
    done = rbrbench(
        *("samples", f"run={run}:rbr_sft:0", "out=one", "set=one-1", "limit=12", "threads=1"),
        *("decoding.samples=4", "temperatures=[1.5]"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_a_set_has_what_a_ceiling_needs(sets: Path) -> None:
    """Grades that were asked twice, a sample without its verdict, a set that names no training."""
    manifest = read_json(sets / "one" / "manifest.json")
    assert manifest["set"] == "one-1" and manifest["training"]["kl_coef"] == 0.05
    samples = read_samples(sets / "one" / "samples.jsonl.gz")
    assert len(samples.prompts) == 12 and samples.index.shape == (12, 8)
    assert samples.own.sum() * 2 == len(samples) and samples.judge == "oracle"
    assert samples.log_ratio.min() < 0 < samples.log_ratio.max()
    assert (sets / "one" / "reward.yaml").is_file()


def test_a_set_is_never_changed(sets: Path, smoke_run: Path) -> None:
    """Other samples under a name that a result names."""
    run = smoke_run / "results" / "smoke"
    again = rbrbench("samples", f"run={run}:rbr_sft:0", "out=one", "set=one-1", cwd=sets)
    assert again.returncode == 2 and "a set is never changed" in again.stderr
    assert rbrbench("samples", "subject.path=gone", "out=two", "set=two", cwd=sets).returncode == 2


def test_the_same_model_gives_the_same_set(sets: Path, smoke_run: Path) -> None:
    """A set that nobody could make again; and what was answered and judged is not asked twice."""
    run = smoke_run / "results" / "smoke"
    asked = ("limit=12", "threads=1", "decoding.samples=4", "temperatures=[1.5]")
    done = rbrbench("samples", f"run={run}:rbr_sft:0", "out=again", "set=one-1", *asked, cwd=sets)
    assert done.returncode == 0, done.stderr
    digests = [read_json(sets / name / "manifest.json")["digests"] for name in ("one", "again")]
    assert digests[0] == digests[1]


def test_every_reward_has_a_ceiling(sets: Path, smoke_run: Path) -> None:
    """The human reward model alone, which has no rules, was refused; a run's reward had other settings than its own."""
    run = smoke_run / "results" / "smoke"
    methods = (f"reward={run}:human_ppo:0", f"candidate={run}:rbr_ppo:0")
    done = rbrbench("ceiling", *methods, "on=one", "draws=100", "min_prompts=2", cwd=sets)
    assert done.returncode in (0, 3), done.stderr
    found = read_json(sets / "results" / "ceiling" / "ceiling.json")
    assert found["beta"] == 0.05 and found["samples"]["name"] == "one-1"
    assert list(found["rewards"]["reward"]["terms"]) == ["reward_model"]
    assert list(found["rewards"]["candidate"]["terms"]) == ["reward_model", "rule_based"]
    shown = [
        json.loads(line) for line in (sets / "results" / "ceiling" / "prompts.jsonl").read_text().splitlines()
    ]
    assert shown and all(len(row["samples"][0]["weights"]) == 2 for row in shown)
    refused = rbrbench("ceiling", f"reward={run}:human_sft:0", "on=one", cwd=sets)
    assert refused.returncode == 2 and "is trained on no reward" in refused.stderr


def test_recorded_grades_give_the_run_s_own_ceiling(sets: Path, smoke_run: Path) -> None:
    """A recorded side that says something else than the reward that it is of."""
    run = smoke_run / "results" / "smoke"
    asked = ("on=one", "draws=100", "leave_out=false", "beta=1")
    values = []
    for name, reward in (("live", f"{run}:rbr_ppo:0"), ("kept", "one/reward.yaml")):
        done = rbrbench("ceiling", f"reward={reward}", f"name={name}", *asked, cwd=sets)
        assert done.returncode in (0, 3), done.stderr
        found = read_json(sets / "results" / name / "ceiling.json")
        values.append(found["rewards"]["reward"]["terms"]["reward_model"]["reference"])
    assert values[0] == pytest.approx(values[1], abs=1e-3)
