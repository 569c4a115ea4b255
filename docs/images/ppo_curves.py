"""The plots of docs/ppo.md: a run without an alarm and a sick one, update by update.

    python docs/images/ppo_curves.py HEALTHY/metrics.jsonl SICK/metrics.jsonl

Writes ppo_healthy.svg and ppo_sick.svg beside this file. The rows of a results folder's training.jsonl
serve too, where it holds one method and one seed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure

from harness.report.plots.style import GREY, INK, RC, appearances, quiet_grid, titled_figure
from harness.report.plots.training_curves import smooth

Row = dict[str, Any]
PANELS = (
    ("objective/score", "Reward before KL", "reward units"),
    ("held_out/score", "Held-out score", "0 to 1"),
    ("objective/kl", "KL to the reference", "nats a response"),
    ("objective/entropy", "Entropy", "nats a token"),
    ("response/length", "Length", "tokens"),
    ("value/explained_variance", "Explained variance of the critic", ""),
)
# The held-out score's words are the data's: a heading may not call well what its panel shows falling.
TEXTS = {
    "healthy": "A run without an alarm: the reward rises and the KL stays low; the held-out score {moves}",
    "sick": "A sick run: the reward rises while the held-out score {moves}",
}
METHOD = "helpful_ppo"  # of both runs
HOLDS = 0.02  # a change of the held-out score up to this is called none


def moves(rows: list[Row]) -> str:
    """What the held-out score does, from the first look to the mean of the last two, as the alarm counts."""
    looks = [row["held_out/score"] for row in rows if row.get("held_out/score") is not None]
    start, end = looks[0], sum(looks[-2:]) / len(looks[-2:])
    if abs(end - start) <= HOLDS:
        return f"holds at {end:.2f}"
    return f"{'rises' if end > start else 'falls'} from {start:.2f} to {end:.2f}"


def draw(rows: list[Row], title: str) -> Figure:
    """Six panels over the updates; thin the values, thick their moving mean, dotted the first alarm."""
    colour = appearances([METHOD])[METHOD].colour
    note = "Helpful-PPO. Thin: each update; thick: moving mean over a twelfth of the run; dotted: the first alarm."
    figure, top = titled_figure(9.6, 4.6, title, note)
    axes = figure.subplots(2, 3)
    figure.subplots_adjust(left=0.07, right=0.98, top=top * 0.94, bottom=0.1, wspace=0.3, hspace=0.55)
    alarm = next((row["update"] for row in rows if row.get("alarm/reward_hacking")), None)
    for ax, (key, name, unit) in zip(axes.flat, PANELS, strict=True):
        points = [(row["update"], row[key]) for row in rows if row.get(key) is not None]
        updates, values = zip(*points, strict=True)
        dots = {"marker": "o", "ms": 3} if len(points) < len(rows) else {}
        ax.plot(updates, values, color=colour, lw=0.7, alpha=0.5, **dots)
        ax.plot(updates, smooth(list(values)), color=colour, lw=1.8)
        if alarm is not None:
            ax.axvline(alarm, color=INK, lw=1, ls=":")
        ax.set_title(name)
        ax.set_ylabel(unit, color=GREY)
        ax.set_xlabel("update")
        if unit == "0 to 1":
            ax.set_ylim(0, 1)
        quiet_grid(ax, "y")
    return figure


def main(healthy: str, sick: str) -> None:
    for name, path in (("healthy", healthy), ("sick", sick)):
        rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
        with matplotlib.style.context(["default", RC]):
            figure = draw(rows, TEXTS[name].format(moves=moves(rows)))
            figure.savefig(
                Path(__file__).with_name(f"ppo_{name}.svg"), metadata={"Date": None, "Creator": None}
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
