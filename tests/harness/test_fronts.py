"""Fronts of a swept number, against values worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from evals.values.jsonl_rows import write_jsonl
from harness.findings.fronts import Answers, compare_fronts, gap, hypervolume, pareto
from harness.findings.trends import Sweep
from harness.record.run import ResultsFolder
from harness.record.samples import VERDICTS
from harness.report.fronts import answers_of

SQUARE = np.array([[0.2, 0.9], [0.6, 0.6], [0.9, 0.1], [0.5, 0.5], [0.6, 0.6]])


def test_the_front_leaves_out_what_is_beaten_on_both_axes() -> None:
    """A dominated point on the line made a setting look worse than it can be; an equal one counted twice."""
    assert pareto(SQUARE) == [0, 1, 2]
    assert pareto(np.array([[math.nan, 0.5], [0.1, 0.1]])) == [1]


def test_the_hypervolume_by_hand() -> None:
    """.9 x .1 + .6 x .5 + .2 x .3; from another reference point a smaller area."""
    assert hypervolume(SQUARE) == pytest.approx(0.09 + 0.3 + 0.06)
    assert hypervolume(SQUARE, (0.5, 0.5)) == pytest.approx(0.1 * 0.1)
    assert math.isnan(hypervolume(np.empty((0, 2))))


def test_fronts_are_compared_at_equal_safety_where_both_are() -> None:
    """F1 of the best points was compared: the fronts crossed, and the winner was the grid's accident."""
    lower = SQUARE - np.array([0.0, 0.05])
    assert gap(SQUARE, lower) == pytest.approx(0.05)
    steep = np.array([[0.5, 0.8], [0.7, 0.4]])  # SQUARE has .675 at .5, .6 at .6, .4333 at .7
    of_square = np.interp(np.linspace(0.5, 0.7, 101), [0.2, 0.6, 0.9], [0.9, 0.6, 0.1]).mean()
    assert gap(steep, SQUARE) == pytest.approx(0.6 - of_square)
    assert math.isnan(gap(np.array([[0.1, 0.9], [0.15, 0.8]]), SQUARE))


def answers(shares: list[tuple[float, float]], seeds: int, topics: int = 0) -> dict[int, Answers]:
    """The same luck of each prompt, or of each topic, for both fronts: they are paired."""
    size = topics or 200
    luck = {seed: np.random.default_rng(seed).random((size, 2)) for seed in range(seeds)}
    units = [f"t{i}" for i in range(size)] * (200 // size) if topics else []
    return {
        seed: Answers(
            np.array([np.tile(of < np.array(share), (200 // size, 1)).astype(float) for share in shares]),
            units,
        )
        for seed, of in luck.items()
    }


def test_the_interval_counts_seeds_and_prompts_and_says_when_it_cannot_tell() -> None:
    front = answers([(0.3, 0.9), (0.6, 0.7), (0.9, 0.3)], 3)
    better = answers([(0.3, 0.98), (0.6, 0.85), (0.9, 0.5)], 3)
    found = compare_fronts(better, front, seed=0, draws=200)
    assert 0 < found.low < found.value < found.high and found.decided and found.told == 1.0
    itself = compare_fronts(front, front, seed=0, draws=50)
    assert itself.value == itself.low == itself.high == 0.0 and not itself.decided
    far = answers([(0.01, 0.9), (0.05, 0.8)], 3)
    assert math.isnan(compare_fronts(far, front, seed=0, draws=50).value)
    assert compare_fronts({}, front, seed=0).told == 0.0


def test_fronts_count_topics() -> None:
    """Ten prompts that always go together counted as ten: an interval a third as wide as it is."""
    shares = [(0.3, 0.9), (0.6, 0.7), (0.9, 0.3)]
    lower = [(safe, useful - 0.1) for safe, useful in shares]
    front, other = (answers(of, 1, topics=20) for of in (shares, lower))
    alone = [{seed: Answers(of.said) for seed, of in one.items()} for one in (front, other)]
    counted, each = compare_fronts(front, other, seed=0, draws=300), compare_fronts(*alone, seed=0, draws=300)
    assert counted.value == each.value
    assert counted.high - counted.low > 2 * (each.high - each.low)


@pytest.mark.parametrize("counted", ["topic", "prompt"])
def test_answers_name_what_the_suite_counts_as_one(tmp_path: Path, counted: str) -> None:
    """A page whose other intervals count topics drew prompts for its fronts."""
    suites = {"sandbox": {"cluster": counted} if counted == "topic" else {}}
    manifest = {"kind": "run", "measured": {"suites": suites, "judges": {}, "models": {}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / VERDICTS).mkdir()
    for method in ("m[x=1]", "m[x=2]"):
        rows = [
            {"seed": 0, "checkpoint": "4", "suite": "sandbox", "prompt_id": f"p{i}", "topic": f"t{i % 2}"}
            | {"response_type": "comply", "oracle": {"disallowed": i == 0, "refused": False}}
            for i in range(4)
        ]
        write_jsonl(tmp_path / VERDICTS / f"{method}.jsonl.gz", rows)
    sweep = Sweep("m", "x", "", ((1.0, "m[x=1]"), (2.0, "m[x=2]")))
    found = answers_of(ResultsFolder(tmp_path), sweep, "sandbox", "oracle")[0]
    assert list(found.units) == (["t0", "t1", "t0", "t1"] if counted == "topic" else ["p0", "p1", "p2", "p3"])
    assert found.said.shape == (2, 4, 2) and found.points.tolist() == [[0.75, 1.0], [0.75, 1.0]]
    assert [len(of) for of in found.members] == ([2, 2] if counted == "topic" else [1, 1, 1, 1])
