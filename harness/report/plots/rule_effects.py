"""What each rule does for the ranking: its part of the ideal completion's lead, and the cost of leaving it out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from harness.findings.wording import plain, points, type_order
from harness.record.run import JsonRow, ResultsFolder
from harness.report.plots.rule_contributions import feature_label, sign_tone
from harness.report.plots.style import GREY, INK, beside, quiet_grid, signed, titled_figure
from harness.report.plots.text_room import hold_texts, label_room

ALT = {"rule_effects": "Each rule's contribution to ranking the ideal completion first"}
PLACE = "rules"

FILE = "rules.csv"
NUMBERS = ("contribution", "error", "error_without", "error_refitted")
SHOWN = 7  # of each response type


@dataclass(frozen=True)
class Effect:
    """Means over seeds: contribution in reward units, cost of leaving the rule out as a fraction of 1."""

    feature: str
    contribution: float
    cost: float


def figures(results: ResultsFolder) -> dict[str, Figure]:
    effects = rule_effects(results.table(FILE, NUMBERS, ("response_type", "feature")))
    return {"rule_effects": _draw(effects)} if effects else {}


def rule_effects(rows: Sequence[JsonRow]) -> dict[str, list[Effect]]:
    """By response type, the largest contribution first; the cost after a new fit where there was one."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if math.isfinite(row["contribution"]):
            without = row["error_refitted"] if math.isfinite(row["error_refitted"]) else row["error_without"]
            found[row["response_type"]][row["feature"]].append((row["contribution"], without - row["error"]))
    return {
        kind: sorted(
            (Effect(name, *np.mean(values, axis=0).tolist()) for name, values in by_feature.items()),
            key=lambda effect: (-abs(effect.contribution), effect.feature),
        )
        for kind, by_feature in sorted(found.items(), key=lambda item: type_order(item[0]))
    }


def _draw(effects: dict[str, list[Effect]]) -> Figure:
    shown = {kind: group[:SHOWN] for kind, group in effects.items()}
    body = 0.6 + sum(0.23 * len(group) + 0.36 for group in shown.values())
    labels = [feature_label(effect.feature) for group in shown.values() for effect in group]
    left = max(label_room(labels), label_room(map(plain, shown), 8.5, "bold"), 1.4)
    width = left + 5.0
    figure, top = titled_figure(width, body, _title(effects), _note(effects))
    ax = figure.add_axes((left / width, top * 0.48 / body, 3.9 / width, top * (body - 0.6) / body))
    largest = max(abs(effect.contribution) for group in shown.values() for effect in group)
    y, ticks, values = 0.0, [], []
    for kind, group in shown.items():
        beside(
            ax, plain(kind), (0, y), -5, xycoords=ax.get_yaxis_transform(), fontsize=8.5, fontweight="bold"
        )
        y += 1.0
        for effect in group:
            values.append(_bar(ax, y, effect, largest))
            ticks.append(y)
            y += 1.0
        y += 0.55
    ax.axvline(0, color=GREY, lw=0.9)
    ax.set_yticks(ticks, labels)
    ax.tick_params(axis="y", length=0, colors=INK)
    ax.set_ylim(y - 0.9, -0.7)
    ax.margins(x=0.12)
    hold_texts(ax, values)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("part of the ideal completion's lead over the others (reward units)")
    ax.text(
        1.16,
        1.0,
        "error without it,\npoints",
        transform=ax.transAxes,
        ha="center",
        va="bottom",
        fontsize=7.8,
        color=GREY,
    )
    quiet_grid(ax, "x")
    return figure


def _bar(ax: Axes, y: float, effect: Effect, largest: float) -> Annotation:
    """The bar and what leaving the rule out costs; returned is the value beside the bar."""
    value = effect.contribution
    ax.barh(y, value, height=0.7, color=sign_tone(value))
    said = beside(ax, signed(value, largest), (value, y), 4 if value >= 0 else -4, fontsize=7.6)
    costly = effect.cost >= 0.005
    place = ax.get_yaxis_transform()
    ax.text(
        1.16,
        y,
        points(effect.cost),
        transform=place,
        ha="center",
        va="center",
        fontsize=7.8,
        color=INK if costly else GREY,
        fontweight="bold" if costly else "normal",
    )
    return said


def _title(effects: dict[str, list[Effect]]) -> str:
    known = [(e.cost, kind, e) for kind, group in effects.items() for e in group if math.isfinite(e.cost)]
    if not known:
        return "What each rule adds to the ideal completion's lead"
    cost, kind, effect = max(known, key=lambda item: item[0])
    name = feature_label(effect.feature)
    if cost < 0.0005:
        return "No single rule is missed when it is left out: the others say the same"
    return f"“{name}” is missed most: without it {points(cost)} points of ranking error ({plain(kind)})"


def _note(effects: dict[str, list[Effect]]) -> str:
    left = sum(max(len(group) - SHOWN, 0) for group in effects.values())
    rest = f" {left} with smaller contributions are left out." if left else ""
    return (
        "Held-out completions. Bars: weight × mean difference of the feature between the ideal completion and "
        "the others. Right: change of the ranking error when the feature is left out." + rest
    )
