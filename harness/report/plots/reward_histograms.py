"""Rewards of worse completions, measured from the ideal completion of the same prompt.

What lies to the right of zero is an error: a worse completion that earns more than the ideal one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.findings.wording import REWARDS, plain, type_order
from harness.record.run import JsonRow, ResultsFolder, number
from harness.report.plots.style import GREY, INK, SLATES, beside, darker, quiet_grid, titled_figure
from harness.report.plots.text_room import label_room

ALT = {"reward_histograms": "Rewards measured from the ideal completion, by completion class"}
PLACE = "ranking"

IDEAL = "ideal"
COLUMNS = ("rm", "rm+rbr")
ALONE = ("rbr",)  # where there is no reward model
CLASSES = (  # the worse, the darker; classes of other rulebooks by name, in the lightest
    "minimum_acceptable_style",
    "unacceptable_completion",
    "illogical_completion",
    "disallowed_completion",
)
TONES = dict(zip(CLASSES, reversed(SLATES), strict=True))
BINS = 44
COLUMN_HEAD: dict[str, Any] = {"fontsize": 9.5, "fontweight": "bold"}
NOTE = (
    "Reward of each held-out completion minus that of the ideal completion of the same prompt, by "
    "completion class. Right of the line is wrong; the share of each class that lies there stands beside it. "
    "The outermost bins hold what lies further out."
)
# Inches: one class, right of the panels, where a response type's name begins.
STRIP, RIGHT, KIND = 0.36, 0.62, 0.41
WSPACE = 0.26  # of a panel, between two

Centred = dict[str, dict[str, dict[str, np.ndarray]]]  # response type -> class -> reward -> differences


def figures(results: ResultsFolder) -> dict[str, Figure]:
    centred = centre_on_ideal(results.rewards)
    return {"reward_histograms": _draw(centred)} if centred else {}


# Shares of completions above the ideal one stand in the ranking error's figure and tables, averaged in one way.
TITLE = "How far each class of completion earns less than the ideal one"


def centre_on_ideal(rows: Sequence[JsonRow]) -> Centred:
    """Each completion's reward minus the (mean) reward of its prompt's ideal one, in the reward's units.

    Prompts without an ideal completion, and unscored rewards, have no difference and are left out.
    """
    ideals: dict[tuple[int, str], list[JsonRow]] = defaultdict(list)
    for row in rows:
        if _is_ideal(row):
            ideals[row["seed"], row["prompt_id"]].append(row)
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for row in rows:
        ideal = ideals.get((row["seed"], row["prompt_id"]))
        if _is_ideal(row) or not ideal:
            continue
        for reward in (*COLUMNS, *ALONE):
            difference = number(row, reward) - float(np.mean([number(i, reward) for i in ideal]))
            if math.isfinite(difference):
                of_type = found.setdefault(row["response_type"], {})
                of_type.setdefault(row["completion_class"], {}).setdefault(reward, []).append(difference)
    return {
        kind: {name: {r: np.array(v) for r, v in rewards.items()} for name, rewards in _in_order(classes)}
        for kind, classes in sorted(found.items(), key=lambda item: type_order(item[0]))
    }


def _is_ideal(row: JsonRow) -> bool:
    """Of the best class, whatever its name."""
    return row["rank"] == 0 if "rank" in row else row["completion_class"] == IDEAL


def _in_order(classes: dict[str, dict[str, list[float]]]) -> list[tuple[str, dict[str, list[float]]]]:
    known = len(CLASSES)
    return sorted(classes.items(), key=lambda i: (CLASSES.index(i[0]) if i[0] in CLASSES else known, i[0]))


def _columns(centred: Centred) -> tuple[str, ...]:
    known = {reward for classes in centred.values() for values in classes.values() for reward in values}
    return tuple(reward for reward in COLUMNS if reward in known) or ALONE


def _draw(centred: Centred) -> Figure:
    columns = _columns(centred)
    heights = [max(len(classes), 1) * STRIP + 0.1 for classes in centred.values()]
    body = 0.75 + sum(heights) + 0.3 * len(heights)
    left = max(1.45, label_room(_class_label(name) for classes in centred.values() for name in classes))
    width = 6.55 + left
    panel = (width - left - RIGHT) / (len(columns) + WSPACE * (len(columns) - 1))
    figure, top = titled_figure(width, body, TITLE, NOTE)
    axes = figure.subplots(len(centred), len(columns), sharex="col", squeeze=False, height_ratios=heights)
    figure.subplots_adjust(
        left=left / width,
        right=1 - RIGHT / width,
        top=top * (1 - 0.42 / body),
        bottom=top * 0.46 / body,
        wspace=WSPACE,
        hspace=0.24,
    )
    for column, reward in enumerate(columns):
        limits = _limits(
            [values[reward] for c in centred.values() for values in c.values() if reward in values]
        )
        for row, (kind, classes) in enumerate(centred.items()):
            ax = axes[row, column]
            _ridges(ax, classes, reward, limits)
            if column == 0:
                ax.set_yticks(np.arange(len(classes)) - 0.3, [_class_label(name) for name in classes])
                ax.set_title(plain(kind), x=(KIND - left) / panel, pad=4)
            if row == 0:
                at: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
                ax.annotate(REWARDS[reward], (0.5, 1), xytext=(0, 5), ha="center", **at, **COLUMN_HEAD)
        axes[-1, column].set_xlabel("reward minus the ideal one's (reward units)")
    return figure


def _ridges(
    ax: Axes, classes: dict[str, dict[str, np.ndarray]], reward: str, limits: tuple[float, float]
) -> None:
    edges = np.linspace(*limits, BINS + 1)
    for y, (name, values) in enumerate(classes.items()):
        colour = TONES.get(name, SLATES[3])
        drawn = values.get(reward, np.empty(0))
        counts, _ = np.histogram(np.clip(drawn, *limits), edges)
        tops = y - 0.8 * counts / max(counts.max(), 1)
        ax.stairs(tops, edges, baseline=y, fill=True, color=colour, alpha=0.75, zorder=2)
        ax.stairs(tops, edges, baseline=None, color=darker(colour, 0.7), lw=0.7, zorder=2.5)
        if len(drawn):
            wrong = 100 * float(np.mean(drawn > 0))
            look: dict[str, Any] = {"color": INK, "fontweight": "bold"} if wrong >= 1 else {"color": GREY}
            text = f"{wrong:.1f} %" if 0 < wrong < 1 else f"{wrong:.0f} %"
            beside(ax, text, (1, y - 0.3), xycoords=ax.get_yaxis_transform(), fontsize=8, **look)
    ax.axvline(0, color=INK, lw=1.0, zorder=3)
    ax.set_xlim(*limits)
    ax.set_ylim(len(classes) - 0.9, -0.95)
    ax.set_yticks([])
    ax.tick_params(axis="y", length=0, colors=INK)
    ax.spines["left"].set_visible(False)
    quiet_grid(ax, "x")


def _limits(groups: list[np.ndarray]) -> tuple[float, float]:
    """All but the outer half percent on each side, zero always inside."""
    values = np.concatenate(groups) if groups else np.zeros(1)
    low, high = (float(v) for v in np.percentile(values, [0.5, 99.5]))
    span = max(high, 0.0) - min(low, 0.0) or 1.0
    return min(low, 0.0) - 0.04 * span, max(high, 0.0) + 0.08 * span


def _class_label(name: str) -> str:
    short = {"minimum_acceptable_style": "acceptable style"}
    return short.get(name, plain(name.removesuffix("_completion")))
