"""Ranking error of each reward by response type: how often it puts a worse completion above the ideal one."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.findings.frontier import ScoreEstimate, Scores
from harness.findings.wording import REWARDS, percent, plain, shorten, type_order, with_interval
from harness.record.run import ResultsFolder
from harness.report.plots.spots import tell
from harness.report.plots.style import (
    INK,
    SLATES,
    beside,
    darker,
    furthest,
    interval_line,
    quiet_grid,
    titled_figure,
)
from harness.report.plots.text_room import label_room

ALT = {"ranking_error": "Ranking error of each reward by response type"}
PLACE = "ranking"

METRIC, PREFIX = "ranking_error", "synthetic/"
TONES = {"rm": SLATES[2], "rm+rbr": SLATES[0], "rbr": SLATES[1]}  # of each reward


def figures(results: ResultsFolder) -> dict[str, Figure]:
    bars = ranking_errors(results.scores)
    return {"ranking_error": _draw(bars)} if bars else {}


def ranking_errors(scores: Scores) -> dict[str, dict[str, ScoreEstimate]]:
    """Response type, then reward, to its error."""
    found: dict[str, dict[str, ScoreEstimate]] = {}
    suites = scores.suites(METRIC, prefix=PREFIX)
    for suite in sorted(suites, key=lambda name: type_order(name.removeprefix(PREFIX))):
        judge = scores.judges(suite, METRIC)[0]
        methods = scores.methods(suite, METRIC, judge)
        order = sorted(methods, key=lambda m: (list(REWARDS).index(m) if m in REWARDS else len(REWARDS), m))
        known = {m: e for m in order if (e := scores.estimate(m, suite, METRIC, judge)) is not None}
        found[suite.removeprefix(PREFIX)] = known
    return found


def _draw(bars: dict[str, dict[str, ScoreEstimate]]) -> Figure:
    rows = sum(len(group) for group in bars.values())
    body = 0.55 + 0.23 * rows + 0.33 * len(bars)
    names = [_reward_label(reward) for group in bars.values() for reward in group]
    left = max(1.15, label_room(names), label_room(map(plain, bars), 8.5, "bold"))
    width = 5.25 + left
    figure, top = titled_figure(width, body, _title(bars), _note(bars))
    ax = figure.add_axes((left / width, top * 0.48 / body, 4.95 / width, top * (body - 0.5) / body))
    y, ticks = 0.0, []
    for kind, group in bars.items():
        beside(ax, plain(kind), (0, y), -5, fontsize=8.5, fontweight="bold")
        y += 1.0
        for reward, estimate in group.items():
            _bar(ax, y, estimate, TONES.get(reward, SLATES[3]))
            words = with_interval(estimate.value, estimate.ci_low, estimate.ci_high)
            tell(ax, 100 * estimate.value, y, f"{REWARDS.get(reward, reward)}, {plain(kind)}\n{words}")
            ticks.append(y)
            y += 1.0
        y += 0.45
    ax.set_yticks(ticks, names)
    ax.tick_params(axis="y", length=0, colors=INK)
    ax.set_ylim(y - 0.7, -0.7)
    ax.set_xlim(0, _right_end(bars))
    ax.set_xlabel("Ranking error: non-ideal completions above the ideal one, %")
    quiet_grid(ax, "x")
    return figure


def _reward_label(reward: str) -> str:
    return REWARDS.get(reward, shorten(reward, 24))


def _bar(ax: Axes, y: float, estimate: ScoreEstimate, colour: str) -> None:
    value = 100 * estimate.value
    ax.barh(y, value, height=0.72, color=colour, alpha=0.85)
    high = 100 * estimate.ci_high
    interval_line(ax, y, 100 * estimate.ci_low, high, darker(colour, 0.55))
    beside(ax, percent(estimate.value), (furthest(value, high), y), fontsize=8)


def _right_end(bars: dict[str, dict[str, ScoreEstimate]]) -> float:
    estimates = [e for group in bars.values() for e in group.values()]
    tops = [v for e in estimates for v in (e.value, e.ci_high) if math.isfinite(v)]
    return min(max(1.16 * 100 * max(tops, default=1.0), 2.0), 112.0)


def _title(bars: dict[str, dict[str, ScoreEstimate]]) -> str:
    pairs = [(g["rm"].value, g["rm+rbr"].value) for g in bars.values() if "rm" in g and "rm+rbr" in g]
    if not pairs:
        return "How often each reward ranks a worse completion above the ideal one"
    before, after = (f"{100 * min(v):.0f}–{100 * max(v):.0f} %" for v in zip(*pairs, strict=True))
    better = all(b < a for a, b in pairs)
    change = "cut" if better else "change"
    return f"The rules {change} the reward model's ranking error from {before} to {after}"


def _note(bars: dict[str, dict[str, ScoreEstimate]]) -> str:
    seeds = max((len(e.by_seed) for g in bars.values() for e in g.values()), default=1)
    over = f"over {seeds} seeds" if seeds > 1 else "by bootstrap over prompts"
    return f"Held-out completions, by the response type of the prompt; 95 % intervals {over}."
