"""Which rule moved the policy: each feature's mean contribution to the reward, last against first tenth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from evals.statistics import mean_estimate
from harness.findings.wording import MethodName, method_label, plain
from harness.keys.shared import file_name
from harness.record.run import JsonRow, ResultsFolder, number
from harness.report.plots.style import (
    GREY,
    INK,
    SLATES,
    beside,
    furthest,
    interval_line,
    quiet_grid,
    signed,
    titled_figure,
)
from harness.report.plots.text_room import hold_texts, label_room

ALT = {"rule_contributions": "Change of each rule's contribution during training"}
PLACE = "training"

PREFIX = "contribution/"
SHOWN = 14


@dataclass(frozen=True)
class ContributionChange:
    """Change of a feature's mean contribution, in reward units; the interval is NaN with one seed."""

    feature: str
    first: float
    last: float
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.last - self.first


def figures(results: ResultsFolder) -> dict[str, Figure]:
    """`rule_contributions` for RBR-PPO, or the first method with rules; others have their name added."""
    trained = {row["method"] for row in results.training}
    methods = sorted(trained, key=lambda m: (MethodName.parse(m).family != "rbr", m))
    found = {m: c for m in methods if (c := contribution_changes(results.training, m))}
    names = ["rule_contributions", *(f"rule_contributions-{file_name(m)}" for m in list(found)[1:])]
    return {name: _draw(*item) for name, item in zip(names, found.items(), strict=False)}


def contribution_changes(rows: Sequence[JsonRow], method: str) -> list[ContributionChange]:
    """Every feature's change from the first to the last tenth of training, largest first.

    The mean over seeds with Student's t interval over them. Features that never applied are left out.
    """
    mine = [row for row in rows if row["method"] == method]
    features = dict.fromkeys(key for row in mine for key in row if key.startswith(PREFIX))
    changes = []
    for feature in features:
        ends = [_ends(mine, seed, feature) for seed in sorted({row["seed"] for row in mine})]
        known = np.array([end for end in ends if not any(map(math.isnan, end))])
        if len(known):
            spread = mean_estimate(known[:, 1] - known[:, 0])
            first, last = known.mean(axis=0)
            changes.append(
                ContributionChange(feature[len(PREFIX) :], float(first), float(last), spread.low, spread.high)
            )
    return sorted(changes, key=lambda c: (-abs(c.value), c.feature))


def _ends(rows: Sequence[JsonRow], seed: int, feature: str) -> tuple[float, float]:
    """Mean over the first and over the last tenth of the updates (at least one) that have a value."""
    series = [(row["update"], number(row, feature)) for row in rows if row["seed"] == seed]
    values = [value for _, value in sorted(series) if math.isfinite(value)]
    if len(values) < 2:
        return math.nan, math.nan
    tenth = max(len(values) // 10, 1)
    return float(np.mean(values[:tenth])), float(np.mean(values[-tenth:]))


def _draw(method: str, changes: list[ContributionChange]) -> Figure:
    shown = changes[:SHOWN]
    labels = [feature_label(c.feature) for c in shown]
    body = 0.65 + 0.25 * len(shown)
    left = label_room(labels)
    width = left + 4.65
    figure, top = titled_figure(width, body, _title(method, changes), _note(changes))
    ax = figure.add_axes((left / width, top * 0.48 / body, 4.3 / width, top * (body - 0.55) / body))
    largest = max(abs(change.value) for change in shown)
    values = []
    for y, change in enumerate(shown):
        ax.barh(y, change.value, height=0.68, color=sign_tone(change.value))
        interval_line(ax, y, change.low, change.high)
        if change.value >= 0:
            values.append(beside(ax, signed(change.value, largest), (furthest(change.value, change.high), y)))
        else:
            end = -furthest(-change.value, -change.low)
            values.append(beside(ax, signed(change.value, largest), (end, y), -4))
    ax.axvline(0, color=GREY, lw=0.9)
    ax.set_yticks(range(len(shown)), labels)
    ax.tick_params(axis="y", length=0, colors=INK)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.margins(x=0.14)
    hold_texts(ax, values)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("change of the mean contribution to the reward (reward units)")
    quiet_grid(ax, "x")
    return figure


def sign_tone(value: float) -> str:
    """What adds to the reward is drawn dark, what takes from it light."""
    return SLATES[1] if value >= 0 else SLATES[3]


def _title(method: str, changes: list[ContributionChange]) -> str:
    top = changes[0]
    name = feature_label(top.feature)
    share = abs(top.value) / max(sum(abs(c.value) for c in changes), 1e-12)
    by = f"{signed(top.value, top.value)} reward, {100 * share:.0f} % of all change"
    return f"“{name}” moved {method_label(method)} most: {by}"


def _note(changes: list[ContributionChange]) -> str:
    left = len(changes) - SHOWN
    rest = f" The {left} smallest are left out." if left > 0 else ""
    over_seeds = any(math.isfinite(c.low) for c in changes)
    lines = " Lines: 95 % intervals over seeds." if over_seeds else " One seed."
    what = "Contribution = weight × feature, mean over the batch; last tenth of training minus first tenth."
    return what + lines + rest


def feature_label(feature: str) -> str:
    kind, _, name = feature.partition(":")
    return f"class: {plain(name)}" if kind == "class" and name else plain(feature)
