"""Attribution: how far a training went to its reward's ceiling, in a run's record and on its page."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import SMOKE, rbrbench

from harness.findings.attribution import attributions
from harness.pipeline.attribution import Trained, way
from trainers.reward.ceiling import NOT_OVERREFUSE, NOT_UNSAFE, PromptMeasure, SampleTable, Tilted


def table_of(right: np.ndarray) -> SampleTable:
    everyone = np.ones(len(right), dtype=bool)
    measures = {name: PromptMeasure(right, everyone) for name in (NOT_UNSAFE, NOT_OVERREFUSE)}
    return SampleTable(measures, np.zeros(right.shape), [""] * len(right), np.arange(len(right)))


def test_the_optimum_itself_went_the_whole_way() -> None:
    """A share of the way in the reward alone: a policy that pays any KL for it went further than the optimum."""
    rng, beta, chance = np.random.default_rng(0), 0.5, 0.3
    right = (rng.random((400, 24)) < chance).astype(float)
    at = Tilted(table_of(right), right, beta)
    best = chance * np.exp(1 / beta) / (1 - chance + chance * np.exp(1 / beta))
    draws = at.table.draws(200, 0)
    everyone = np.ones(400, dtype=bool)
    found = {}
    for name, share in (("start", chance), ("best", best), ("beyond", 0.999)):
        wrote = (rng.random((400, 24)) < share).astype(float)
        kl = np.where(wrote == 1, np.log(share / chance), np.log((1 - share) / (1 - chance)))
        found[name] = way(at, Trained(wrote, kl, table_of(wrote)), draws, everyone)
    assert found["start"]["gone"] == pytest.approx(0.0, abs=0.1)
    assert found["best"]["gone"] == pytest.approx(1.0, abs=0.1)
    assert found["best"]["gone_low"] < 1.0 < found["best"]["gone_high"]
    assert found["beyond"]["gone"] < found["best"]["gone"] and found["beyond"]["kl"] > found["best"]["kl"]
    assert found["best"]["ceiling"]["f1"]["value"] == pytest.approx(best, abs=0.03)
    assert not found["best"]["problem"] and found["best"]["unscored"] == 0


def test_a_ceiling_that_cannot_be_told_is_no_way() -> None:
    """A share of the way to a ceiling that few samples put too low: a training went three times as far."""
    rng = np.random.default_rng(0)
    rewards, wrote = rng.normal(size=(60, 8)), np.full((60, 8), 2.0)
    right = np.ones((60, 8))
    at = Tilted(table_of(right), rewards, 0.1)
    trained = Trained(wrote, np.full((60, 8), 3.0), table_of(right))
    found = way(at, trained, at.table.draws(100, 0), np.arange(60) < 50)
    assert found["prompts"] == 50 and "too few samples" in found["problem"]
    assert found["gone_low"] < found["gone"] - 0.1
    one = {"method": "rbr_ppo", "seed": 0, "part": "training", "group": "all"} | found
    assert math.isnan(attributions([one])[0].gone["training"])


def test_no_way_is_no_share_of_it() -> None:
    """A reward that asks for nothing: a share of a way of length 0 was printed as thousands of per cent."""
    rng = np.random.default_rng(0)
    right = (rng.random((50, 8)) < 0.5).astype(float)
    at = Tilted(table_of(right), np.zeros((50, 8)), 1.0)
    wrote = Trained(np.zeros((50, 8)), np.full((50, 8), 0.1), table_of(right))
    assert way(at, wrote, at.table.draws(100, 0), np.ones(50, dtype=bool))["gone"] is None


def rows(asked: float, reached: float, own: float, gone: float | None) -> list[dict[str, Any]]:
    def row(part: str, trained: float) -> dict[str, Any]:
        shares = {
            place: {"f1": {"value": value}}
            for place, value in (("start", 0.5), ("ceiling", asked), ("trained", trained))
        }
        return {"method": "rbr_ppo", "seed": 0, "part": part, "group": "all", "gone": gone, **shares}

    return [row("training", own), row("evaluation", reached)]  # `gone` of both


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((0.99, 0.98, 0.98, 0.9), "it reached what the reward asks for"),
        ((0.996, 0.9, 0.989, 0.9), "does not carry over"),
        ((0.99, 0.7, 0.7, 0.5), "training stopped 50.0 % of the way"),
        ((0.99, 0.7, 0.7, 0.95), "cannot tell all that the reward is told"),
        ((0.99, 0.7, 0.7, None), "how far training went in the objective cannot be told"),
    ],
)
def test_one_sentence_says_where_it_was_lost(
    numbers: tuple[float, float, float, float | None], said: str
) -> None:
    """The learning blamed for the reward, or the reward for the learning."""
    (one,) = attributions(rows(*numbers))
    assert said in one.sentence and one.sentence.startswith("the reward asks for F1 99")


@pytest.mark.slow
def test_a_run_that_is_asked_has_it_and_one_that_is_not_has_none(smoke_run: Path, tmp_path: Path) -> None:
    """Samples of every prompt in every run, or a key that changes what the run itself is."""
    assert not (smoke_run / "results" / "smoke" / "attribution.jsonl").exists()
    shutil.copytree(smoke_run / "results" / ".store", tmp_path / "results" / ".store")
    keys = ("evaluation.ceiling_samples=4", "evaluation.ceiling_prompts=6", "name=asked")
    done = rbrbench(*SMOKE, *keys, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "results" / "asked"
    found = [json.loads(line) for line in (folder / "attribution.jsonl").read_text().splitlines()]
    assert {row["method"] for row in found} == {"human_ppo", "rbr_ppo"}
    assert {row["part"] for row in found} == {"training", "evaluation"}
    of_all = [row for row in found if row["group"] == "all"]
    assert all(row["objective"]["ceiling"] >= row["objective"]["start"] - 1e-6 for row in of_all)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "What each reward asks for" in page and "RBR-PPO: the reward asks for F1" in page
    before = (smoke_run / "results" / "smoke" / "metrics.csv").read_bytes()
    assert (folder / "metrics.csv").read_bytes() == before
