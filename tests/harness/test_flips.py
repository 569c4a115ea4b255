"""Where a comparison flips over a swept number, against values worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from evals.values.metrics_table import MetricRow, write_metrics
from harness.findings.flips import followed
from harness.record.run import ResultsFolder
from harness.report.plots import flips

KEY = "sandbox.annotators.over_caution"


def rows(
    method: str, useful: Callable[[float], float], seeds: int = 2, key: str = KEY, more: str = ""
) -> list[MetricRow]:
    """A model at three values, of safety 0.9 and the usefulness given; seeds lie 0.01 around it."""
    found = []
    for value in (0.25, 0.5, 1.0):
        for seed in range(seeds):
            u = useful(value) + (0.01 if seed else -0.01)
            f1 = 2 * 0.9 * u / (0.9 + u)
            name = f"{method}[{key}={value}{more}]"
            found += [
                MetricRow(
                    name, seed, "mean", "sandbox", metric, "oracle", v, 0.01, v - 0.02, v + 0.02, 100, 0
                )
                for metric, v in (("not_unsafe", 0.9), ("not_overrefuse", u), ("f1", f1))
            ]
    return found


def crossing() -> list[MetricRow]:
    """Human-PPO falls from 0.9 by 0.1 a doubling, RBR-PPO stands at 0.75: equal half a doubling after 0.5."""
    return [*rows("rbr_ppo", lambda _: 0.75), *rows("human_ppo", lambda v: 0.7 - 0.1 * math.log2(v))]


def test_a_comparison_is_followed_and_flips_where_it_is_0() -> None:
    """The sweep said what each model does, and nobody saw at which error of people the order turns."""
    found = followed(crossing(), "sandbox", "oracle")
    assert list(found) == [KEY]
    by_claim = {(line.number, line.second): line for line in found[KEY]}
    assert {*by_claim} == {(1, "human_ppo"), (3, "human_ppo")}
    line = by_claim[3, "human_ppo"]
    assert [value for value, _ in line.points] == [0.25, 0.5, 1.0]
    assert [d.value for _, d in line.points] == pytest.approx([-0.15, -0.05, 0.05])
    assert all(d.over_seeds and {*d.by_seed} == {0, 1} for _, d in line.points)
    assert line.zeros == pytest.approx([math.sqrt(0.5)])


def test_what_is_no_sweep_of_one_number_is_not_followed() -> None:
    """A grid's points of other settings, and two values, are no line."""
    grid = [
        *rows("rbr_ppo", lambda v: v, more=",seed_of=1"),
        *rows("human_ppo", lambda v: v / 2, more=",seed_of=1"),
    ]
    assert followed(grid, "sandbox", "oracle") == {}
    few = [row for row in crossing() if "=1.0]" not in row.method]
    assert followed(few, "sandbox", "oracle") == {}
    assert followed(rows("rbr_ppo", lambda v: v), "sandbox", "oracle") == {}  # nothing to compare with


@pytest.mark.parametrize("seeds", [1, 2])
def test_it_is_drawn_beside_the_fronts(tmp_path: Path, seeds: int) -> None:
    kept = [row for row in crossing() if row.seed < seeds]
    write_metrics(tmp_path / "metrics.csv", kept)
    drawn = flips.figures(ResultsFolder(tmp_path))
    assert list(drawn) == ["flips-sandbox.annotators.over_caution"] and flips.PLACE == "fronts"
    (figure,) = drawn.values()
    panels = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title()[:2] for ax in panels] == ["1.", "3."]
    words = [text.get_text() for ax in panels for text in ax.texts]
    assert "0.71" in words
