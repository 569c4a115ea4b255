"""Training curves: the reward by term, the KL, the entropy and the length of responses, per method."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from harness.findings.wording import algorithm_of, in_order, method_label, plain
from harness.record.run import JsonRow, ResultsFolder, number
from harness.report.plots.legend import Legend
from harness.report.plots.style import Appearance, appearances, quiet_grid, spread, titled_figure
from trainers.rl.looks import OVER_REFUSAL, STYLES, WIDEST_GAP
from trainers.rl.looks import SCORE as SCORE_HELD_OUT

ALT = {"training": "Training curves of reinforcement learning"}
PLACE = "training"

MAX_DIRECT_LABELS = 5  # more lines than that, or long names, get a legend
SCORE = "score/"


@dataclass(frozen=True)
class Quantity:
    key: str
    title: str
    unit: str
    scale: float = 1.0


FIXED = (
    Quantity("objective/kl", "KL to the reference", "nats a response"),
    Quantity("objective/entropy", "Entropy of the policy", "nats a token"),
    Quantity("response/length", "Length of responses", "tokens"),
    Quantity("response/eos_share", "Responses that end by themselves", "%", 100.0),
    Quantity(SCORE_HELD_OUT, "Held-out score, by no one who pays", "0 to 1"),
    Quantity(OVER_REFUSAL, "Held-out over-refusal", "%", 100.0),
    *(Quantity(key, f"Held-out {plain(key.rpartition('/')[2])}", "%", 100.0) for key in STYLES),
    Quantity(WIDEST_GAP, "Payer and judge apart, at most", "points", 100.0),
)
TERM_TITLES = {"reward_model": "Reward model's score", "rule_based": "Rule-based score"}


@dataclass(frozen=True)
class TrainingCurve:
    """One method's quantity by update: the mean over seeds, and the lowest and highest seed."""

    updates: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: int


def figures(results: ResultsFolder) -> dict[str, Figure]:
    quantities = [q for q in _quantities(results.training) if _curves(results.training, q)]
    return {"training": _draw(results.training, quantities)} if quantities else {}


def _quantities(rows: Sequence[JsonRow]) -> list[Quantity]:
    terms = sorted({key[len(SCORE) :] for row in rows for key in row if key.startswith(SCORE)})
    named = [Quantity(SCORE + term, TERM_TITLES.get(term, plain(term)), "reward units") for term in terms]
    return [*named, *FIXED]


def _curves(rows: Sequence[JsonRow], quantity: Quantity) -> dict[str, TrainingCurve]:
    values: dict[str, dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        value = number(row, quantity.key)
        if np.isfinite(value):
            values[row["method"]][row["seed"]][row["update"]] = quantity.scale * value
    return {method: _curve(list(by_seed.values())) for method, by_seed in values.items()}


def _curve(seeds: list[dict[int, float]]) -> TrainingCurve:
    """Smoothed seed by seed, then joined over the updates that every seed has."""
    common = sorted(set.intersection(*(set(s) for s in seeds)))
    updates = np.array(common if common else sorted(seeds[0]))
    kept = seeds if common else seeds[:1]
    lines = np.array([smooth(np.array([s[u] for u in updates])) for s in kept])
    return TrainingCurve(updates, lines.mean(axis=0), lines.min(axis=0), lines.max(axis=0), len(kept))


def smooth(values: np.ndarray) -> np.ndarray:
    """Centred moving mean over about a twelfth of the run; the window shrinks at both ends."""
    half = len(values) // 24
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    left, right = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (total[right] - total[left]) / (right - left)


def _draw(rows: Sequence[JsonRow], quantities: list[Quantity]) -> Figure:
    looks = appearances(in_order(sorted({row["method"] for row in rows})))
    columns = min(3, len(quantities))
    lines = -(-len(quantities) // columns)
    direct = len(looks) <= MAX_DIRECT_LABELS and all(len(look.label) <= 14 for look in looks.values())
    width = 3.2 * columns + 0.3
    legend = Legend.of([look.label for look in looks.values()], width)
    below = 0.0 if direct else legend.height
    body = 2.35 * lines + below
    figure, top = titled_figure(width, body, _title(rows), _note(rows))
    axes = figure.subplots(lines, columns, squeeze=False)
    figure.subplots_adjust(
        left=0.66 / width,
        right=1 - (0.9 if direct else 0.2) / width,
        top=top * (1 - 0.28 / body),
        bottom=top * (0.46 + below) / body,
        wspace=0.8 if direct else 0.36,
        hspace=0.5,
    )
    for ax in axes.flat[len(quantities) :]:
        ax.set_visible(False)
    for ax, quantity in zip(axes.flat, quantities, strict=False):
        _panel(ax, quantity, _curves(rows, quantity), looks, direct)
    if not direct:
        legend.draw(figure, [Line2D([], [], **_line_look(look)) for look in looks.values()])
    return figure


def _panel(
    ax: Axes, quantity: Quantity, curves: dict[str, TrainingCurve], looks: dict[str, Appearance], direct: bool
) -> None:
    for method, curve in curves.items():
        look = looks[method]
        ax.plot(curve.updates, curve.mean, markevery=[-1], zorder=3, **_line_look(look))
        if curve.seeds > 1:
            ax.fill_between(
                curve.updates, curve.low, curve.high, color=look.colour, alpha=0.15, lw=0, zorder=2
            )
    ax.set_title(quantity.title)
    ax.set_ylabel(quantity.unit, labelpad=2)
    ax.set_xlabel(f"{algorithm_of(curves)} update")
    ax.margins(x=0.01, y=0.08)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    quiet_grid(ax, "y")
    if direct:
        _end_labels(ax, curves, looks)


def _line_look(look: Appearance) -> dict[str, Any]:
    """Its line, with its mark where the line ends."""
    return {"color": look.colour, "ls": look.line, "lw": 1.7, "marker": look.marker, "ms": 4.5}


def _end_labels(ax: Axes, curves: dict[str, TrainingCurve], looks: dict[str, Appearance]) -> None:
    """Each method's name at the end of its line, moved apart where lines end together."""
    low, high = ax.get_ylim()
    heights = [(curve.mean[-1] - low) / (high - low) for curve in curves.values()]
    places = spread(heights, 0.085, 0.03, 0.97)
    for (method, curve), height, place in zip(curves.items(), heights, places, strict=True):
        look = looks[method]
        ends = {
            "arrowstyle": "-",
            "color": look.colour,
            "lw": 0.6,
            "shrinkA": 0,
            "shrinkB": 1,
            "relpos": (0, 0.5),
        }
        ax.annotate(
            look.label,
            (curve.updates[-1], low + height * (high - low)),
            xytext=(1.07, place),
            textcoords="axes fraction",
            va="center",
            fontsize=7.6,
            fontweight="bold",
            color=look.ink,
            arrowprops=ends,
            annotation_clip=False,
        )


def _title(rows: Sequence[JsonRow]) -> str:
    """Whether the reward rose, and the KL that it took."""
    scores, kl = _curves(rows, Quantity("objective/score", "", "")), _curves(rows, FIXED[0])
    fell = [method_label(m) for m, c in scores.items() if c.mean[-1] <= c.mean[0]]
    said = f"The reward did not rise for {', '.join(fell)}" if fell else "The reward rose for every method"
    ends = sorted(c.mean[-1] for c in kl.values())
    if not scores or not ends or any(len(curve.updates) < 2 for curve in scores.values()):
        return f"What changed during {algorithm_of(row['method'] for row in rows)}"
    price = f"{ends[0]:.1f}" if len(ends) == 1 else f"{ends[0]:.1f} to {ends[-1]:.1f}"
    return f"{said}; at the end the policies are {price} nats a response from their references"


def _note(rows: Sequence[JsonRow]) -> str:
    seeds = len({row["seed"] for row in rows})
    band = f"lines: means over {seeds} seeds; bands: lowest to highest seed" if seeds > 1 else "one seed"
    held_out = any(SCORE_HELD_OUT in row for row in rows)
    kinds = " Held-out prompts are of the kinds that a method trains on: without safety prompts, other ones."
    return f"Moving means over a twelfth of the run; {band}.{kinds if held_out else ''}"
