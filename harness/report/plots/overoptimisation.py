"""The over-optimisation curve: the reward that is paid, the F1 that is meant, and capability, against the KL spent.

After Gao et al. 2022 (arXiv 2210.10760): where the reward rises and the F1 falls, the policy exploits the reward; where
capability falls with KL, it forgets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.findings.capability import capability_metrics
from harness.findings.frontier import BALANCE, SAFETY, USEFULNESS
from harness.findings.wording import in_order, judge_label, sft_of, shorten
from harness.record.run import JsonRow, ResultsFolder, number
from harness.report.plots.legend import Legend
from harness.report.plots.style import Appearance, appearances, quiet_grid, titled_figure
from harness.report.plots.training_curves import smooth

ALT = {"kl": "Reward, F1 and capability against the KL from the reference"}
PLACE = "training"
KL, REWARD = "objective/kl", "objective/score"
Places = list[tuple[float, float]]  # KL in nats, and the value there


def figures(results: ResultsFolder) -> dict[str, Figure]:
    """None of a run whose record keeps no KL, or no F1."""
    spent = _spent(results.training, KL)
    suite = next(iter(results.scores.suites(SAFETY, USEFULNESS, BALANCE)), "")
    if results.is_evaluation or not spent or not suite:
        return {}
    judge = results.scores.judges(suite, BALANCE)[0]
    panels = {
        "Reward that is paid, reward units": _rewards(results.training, spent),
        f"{shorten(f'F1 by {judge_label(judge)}', 30)}, %": _checkpoints(results, spent, suite, judge),
        "Mean capability, %": _capability(results, spent),
    }
    return {"kl": _draw({title: of for title, of in panels.items() if of}, list(spent))}


def _spent(rows: Sequence[JsonRow], key: str) -> dict[str, dict[int, float]]:
    """{method: {update: moving mean, the mean over seeds}}."""
    found: dict[str, dict[int, dict[int, float]]] = {}
    for row in rows:
        if math.isfinite(value := number(row, key)):
            found.setdefault(row["method"], {}).setdefault(row["seed"], {})[row["update"]] = value
    curves = {}
    for method, seeds in found.items():
        smoothed = [_smoothed(of) for of in seeds.values()]
        common = sorted(set.intersection(*(set(of) for of in smoothed)))
        curves[method] = {update: fmean(of[update] for of in smoothed) for update in common}
    return curves


def _smoothed(by_update: Mapping[int, float]) -> dict[int, float]:
    updates = sorted(by_update)
    return dict(zip(updates, smooth(np.array([by_update[u] for u in updates])).tolist(), strict=True))


def _rewards(rows: Sequence[JsonRow], spent: Mapping[str, Mapping[int, float]]) -> dict[str, Places]:
    paid = _spent(rows, REWARD)
    return {
        method: [(kl[update], of[update]) for update in sorted(kl) if update in of]
        for method, kl in spent.items()
        if (of := paid.get(method))
    }


def _checkpoints(
    results: ResultsFolder, spent: Mapping[str, Mapping[int, float]], suite: str, judge: str
) -> dict[str, Places]:
    """From the SFT model, at no KL, to every checkpoint that was judged."""
    values: dict[str, dict[int, list[float]]] = {}
    for row in results.metrics:
        if (row.suite, row.metric, row.judge) == (suite, BALANCE, judge) and row.checkpoint.isdigit():
            values.setdefault(row.method, {}).setdefault(int(row.checkpoint), []).append(100 * row.value)
    found = {}
    for method, kl in spent.items():
        places = [(kl[u], fmean(of)) for u, of in sorted(values.get(method, {}).items()) if u in kl]
        start = results.scores.estimate(_start(results, method, suite, judge), suite, BALANCE, judge)
        if places:
            found[method] = ([(0.0, 100 * start.value)] if start else []) + places
    return found


def _start(results: ResultsFolder, method: str, suite: str, judge: str) -> str:
    return sft_of(method, list(results.scores.methods(suite, BALANCE, judge))) or ""


def _capability(results: ResultsFolder, spent: Mapping[str, Mapping[int, float]]) -> dict[str, Places]:
    """The SFT model and the last checkpoints, by the mean over tasks."""
    scores, tasks = results.scores, capability_metrics(results.scores)
    methods = list(dict.fromkeys(m for task, of in tasks.items() for m in scores.methods(task, *of)))

    def mean(method: str) -> float | None:
        known = [scores.estimate(method, task, *of) for task, of in tasks.items()]
        return fmean(100 * e.value for e in known if e) if known and all(known) else None

    found = {}
    for method, kl in spent.items():
        start, end = sft_of(method, methods), mean(method)
        if start and (before := mean(start)) is not None and end is not None:
            found[method] = [(0.0, before), (kl[max(kl)], end)]
    return found


def _draw(panels: Mapping[str, Mapping[str, Places]], methods: Sequence[str]) -> Figure:
    looks = appearances(in_order(sorted(methods)))
    width = 3.2 * len(panels) + 0.3
    legend = Legend.of([look.label for look in looks.values()], width)
    body = 2.5 + legend.height
    note = (
        "Moving means over a twelfth of the run, means over seeds; F1 and capability begin at the SFT model."
    )
    figure, top = titled_figure(width, body, "What the distance from the reference buys", note)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    figure.subplots_adjust(
        left=0.6 / width,
        right=1 - 0.2 / width,
        top=top * (1 - 0.28 / body),
        bottom=top * (0.46 + legend.height) / body,
        wspace=0.36,
    )
    for ax, (title, of) in zip(axes, panels.items(), strict=True):
        _panel(ax, title, of, looks)
    handles = [
        Line2D([], [], color=look.colour, ls=look.line, marker=look.marker, ms=4.5) for look in looks.values()
    ]
    legend.draw(figure, handles)
    return figure


def _panel(ax: Axes, title: str, of: Mapping[str, Places], looks: Mapping[str, Appearance]) -> None:
    for method, places in of.items():
        look = looks[method]
        xs, ys = zip(*places, strict=True)
        few = len(places) < 12
        ax.plot(
            xs,
            ys,
            color=look.colour,
            ls=look.line,
            lw=1.4,
            marker=look.marker,
            ms=4.5,
            markevery=None if few else [-1],
            zorder=3,
        )
    ax.set_title(title, fontsize=8.5)
    ax.set_xlabel("KL to the reference, nats a response")
    ax.margins(x=0.04, y=0.1)
    quiet_grid(ax, "both")
