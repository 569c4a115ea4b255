"""Capability by task: one bar a method, with its interval and, where it is known, the line of chance."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.findings.capability import capability_metrics
from harness.findings.frontier import ScoreEstimate
from harness.findings.wording import (
    algorithm_of,
    in_order,
    method_label,
    percent,
    plain,
    shorten,
    with_interval,
)
from harness.record.run import ResultsFolder
from harness.report.plots.spots import tell
from harness.report.plots.style import (
    GREY,
    INK,
    Appearance,
    appearances,
    beside,
    darker,
    draw_mark,
    furthest,
    interval_line,
    paler,
    quiet_grid,
    titled_figure,
)
from harness.report.plots.text_room import label_room, text_width, wrapped

ALT = {"capability": "Accuracy on the capability tasks"}
PLACE = "capability"

CHANCE = {"mmlu": 0.25, "hellaswag": 0.25, "gpqa": 0.25, "arc_": 0.25}  # four answers each
MAX_COLUMNS = 5

Panel = tuple[str, str, dict[str, ScoreEstimate]]  # task, metric, method -> accuracy


def figures(results: ResultsFolder) -> dict[str, Figure]:
    """None of an evaluation, whose models were not trained here."""
    panels = [] if results.is_evaluation else capability_panels(results)
    return {"capability": _draw(panels)} if panels else {}


def capability_panels(results: ResultsFolder) -> list[Panel]:
    """Each task with an accuracy; those measured by perplexity and the like stand in metrics.csv alone."""
    scores = results.scores
    panels = []
    for suite, (metric, judge) in capability_metrics(scores).items():
        methods = in_order(scores.methods(suite, metric, judge))
        bars = {m: e for m in methods if (e := scores.estimate(m, suite, metric, judge)) is not None}
        panels.append((suite.removeprefix("capability/"), metric, bars))
    return panels


def _draw(panels: list[Panel]) -> Figure:
    methods = in_order(list(dict.fromkeys(m for _, _, bars in panels for m in bars)))
    looks = appearances(methods)
    columns = min(len(panels), MAX_COLUMNS)
    rows = -(-len(panels) // columns)
    inner = 0.45 + 0.27 * len(methods)
    names = label_room(look.label for look in looks.values())
    heads = max(len(_heading(task)) for task, _, _ in panels)  # lines
    above = 0.7 + 0.15 * heads
    width, body = 0.2 + names + 1.72 * columns, rows * (inner + above)
    figure, top = titled_figure(width, body, _title(panels), _note(panels))
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    figure.subplots_adjust(
        left=names / width,
        right=1 - 0.2 / width,
        top=top * (1 - (0.15 + 0.15 * heads) / body),
        bottom=top * 0.46 / body,
        wspace=0.16,
        hspace=above / inner,
    )
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, panel in zip(axes.flat, panels, strict=False):
        _draw_task(ax, panel, methods, looks)
    return figure


def _draw_task(ax: Axes, panel: Panel, methods: list[str], looks: dict[str, Appearance]) -> None:
    task, metric, bars = panel
    for y, method in enumerate(methods):
        if method in bars:
            _bar(ax, y, bars[method], looks[method])
            known = bars[method]
            words = with_interval(known.value, known.ci_low, known.ci_high)
            tell(ax, 100 * known.value, y, f"{looks[method].label}, {plain(task)}\n{words}", method)
    line = next((v for name, v in CHANCE.items() if name in task.lower()), None)
    if line is not None:
        ax.axvline(100 * line, color=GREY, lw=1, ls=(0, (3, 2)), zorder=3)
        beside(ax, "chance", (100 * line, -0.72), 2, fontsize=7, color=GREY)
    ax.set_title("\n".join(_heading(task)), pad=6)
    ax.set_xlim(0, 119)
    ax.set_xticks([0, 25, 50, 75, 100])
    ax.set_yticks(range(len(methods)), [looks[m].label for m in methods])
    ax.tick_params(axis="y", length=0, colors=INK)
    ax.set_ylim(len(methods) - 0.4, -0.95)
    ax.set_xlabel(f"{'accuracy' if metric == 'acc' else plain(metric)}, %")
    quiet_grid(ax, "x")


def _heading(task: str) -> list[str]:
    """A task's name in lines as wide as its panel; words that are wider are cut."""
    lines = wrapped(plain(task), 1.5, 9, "bold")
    return [shorten(line, 18) if text_width(line, 9, "bold") > 1.5 else line for line in lines]


def _bar(ax: Axes, y: float, estimate: ScoreEstimate, look: Appearance) -> None:
    value = 100 * estimate.value
    face = paler(look.colour, 0.45) if look.filled else "white"
    ax.barh(y, value, height=0.66, facecolor=face, edgecolor=look.colour, lw=1.1)
    low, high = 100 * estimate.ci_low, 100 * estimate.ci_high
    interval_line(ax, y, low, high, darker(look.colour, 0.6))
    draw_mark(ax, (value, y), look, 26.0)
    beside(ax, f"{value:.0f}", (furthest(value, high), y), 6)


def _title(panels: list[Panel]) -> str:
    means = {
        method: sum(bars[method].value for _, _, bars in panels) / len(panels)
        for method in panels[0][2]
        if all(method in bars for _, _, bars in panels) and not method.endswith("_sft")
    }
    if len(means) < 2:
        return "What the models know: accuracy by task"
    low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    spread = 100 * (means[high] - means[low])
    tasks = f"mean of {len(panels)} task{'s' if len(panels) > 1 else ''}"
    if spread < 2:
        trained = f"All methods know about as much after {algorithm_of(means)}"
        return f"{trained}: within {max(spread, 0.1):.1f} points ({tasks})"
    return (
        f"Capability ({tasks}) runs from {percent(means[low])} ({method_label(low)}) "
        f"to {percent(means[high])} ({method_label(high)})"
    )


def _note(panels: list[Panel]) -> str:
    seeds = max((len(e.by_seed) for _, _, bars in panels for e in bars.values()), default=1)
    over = f"over {seeds} seeds" if seeds > 1 else "of one seed"
    algorithm = algorithm_of(method for _, _, bars in panels for method in bars)
    return f"Hollow: SFT models; filled: after {algorithm}; lines: 95 % intervals {over}."
