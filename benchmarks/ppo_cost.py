"""What an update of PPO costs here, by batch size, response length and model size: a table and a plot.

    python benchmarks/ppo_cost.py [--out FOLDER] [--updates 3] [--threads 2]

Around one point (64 responses of 40 tokens to prompts of 24, 0.5 M parameters, 4 epochs, one minibatch)
one of the three is changed at a time. Policy, critic, reference and reward model are of one size, with
random weights; no response ends before its limit. The first update of each point is left out; shown are
medians of the others, with the range. Writes ppo_cost.md and ppo_cost.svg.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass, replace
from math import log10
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
import ppo_vs_trl as small  # noqa: E402  its tokenizer, prompts and sizes

# Phase of the plot -> phases of the trainer's clock.
PHASES = {"rollout": ("rollout",), "grade": ("grade", "evaluate"), "update": ("update",)}
EPOCHS = 4

LABEL_GAP = 0.15  # decades between two labels of the plot


@dataclass(frozen=True)
class Point:
    """One configuration; `width` and `layers` are those of every model."""

    batch: int = 64
    tokens: int = 40
    width: int = 128
    layers: int = 2


@dataclass(frozen=True)
class Cost:
    """Seconds of each timed update, in all and by phase, and the policy's parameters."""

    parameters: int
    seconds: list[float]
    phases: dict[str, list[float]]


BASE = Point()
SWEEPS: dict[str, list[Point]] = {
    "batch": [replace(BASE, batch=batch) for batch in (16, 32, 64, 128, 256)],
    "tokens": [replace(BASE, tokens=tokens) for tokens in (10, 20, 40, 80)],
    "parameters": [replace(BASE, width=w, layers=n) for w, n in ((64, 2), (128, 2), (256, 4), (384, 6))],
}
AXES = {
    "batch": "responses an update",
    "tokens": "tokens a response",
    "parameters": "parameters of the policy",
}


def main() -> None:
    options = _options()
    costs = {}
    for point in dict.fromkeys(point for points in SWEEPS.values() for point in points):
        costs[point] = measure(point, options.updates, options.threads)
        print(line(point, costs[point]), flush=True)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "ppo_cost.md").write_text(table(costs), encoding="utf-8")
    draw(costs, options.threads, out / "ppo_cost.svg")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=".", help="folder of the table and the plot")
    parser.add_argument("--updates", type=int, default=3, help="timed updates a point")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    return parser.parse_args()


# --- measuring -------------------------------------------------------------------------------


def measure(point: Point, updates: int, threads: int) -> Cost:
    """Train `updates` + 1 times with a learning rate of 0, so that all of them do the same work."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    from evals.values.conversation import user_prompt
    from trainers.reward.reward import SumOfTerms
    from trainers.reward.reward_model_term import RewardModelTerm
    from trainers.rl.ppo import Models, PPOConfig, train_ppo

    torch.set_num_threads(threads)
    disable_progress_bar()
    policy, critic = make_models(point)
    tokenizer = small.make_tokenizer(small.VOCABULARY)
    reward = SumOfTerms([RewardModelTerm(copy.deepcopy(critic), tokenizer)])
    prompts = [user_prompt(str(i), " ".join(words)) for i, words in enumerate(small.prompt_words())]
    config = PPOConfig(
        updates=updates + 1,
        batch_size=point.batch,
        epochs=EPOCHS,
        max_new_tokens=point.tokens,
        learning_rate=0.0,
        critic_learning_rate=0.0,
        checkpoints=1,
        save_every=updates + 1,
    )
    with tempfile.TemporaryDirectory() as out:
        models = Models(policy, critic, copy.deepcopy(policy), tokenizer)
        train_ppo(models, prompts, reward, config, Path(out))
        text = (Path(out) / "timings.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(row) for row in text.splitlines()][1:]
    phases = {
        name: [sum(row[f"time/{part}_s"] for part in parts) for row in rows] for name, parts in PHASES.items()
    }
    seconds = [sum(times) for times in zip(*phases.values(), strict=True)]
    return Cost(sum(p.numel() for p in policy.parameters()), seconds, phases)


def make_models(point: Point) -> tuple[Any, Any]:
    """A policy that never ends a response by itself, and a critic of its shape."""
    sizes = (point.width, point.width * 43 // 16, point.layers, point.width // 32)
    return small.random_models(small.VOCABULARY, small.EOS_LOGIT["full"], *sizes, context=128)


# --- telling ---------------------------------------------------------------------------------


def line(point: Point, cost: Cost) -> str:
    """A row of the table."""
    seconds = statistics.median(cost.seconds)
    cells = [
        str(point.batch),
        str(point.tokens),
        f"{cost.parameters / 1e6:.2f} M",
        f"{point.batch / seconds:.1f}",
        f"{seconds:.2f} ({min(cost.seconds):.2f} to {max(cost.seconds):.2f})",
        *(f"{statistics.median(cost.phases[phase]):.2f}" for phase in PHASES),
    ]
    return f"| {' | '.join(cells)} |"


def table(costs: dict[Point, Cost]) -> str:
    names = ("responses", "tokens", "parameters", "responses/s", "seconds an update", *PHASES)
    head = [f"| {' | '.join(names)} |", f"|{' ---: |' * len(names)}"]
    return "\n".join([*head, *(line(point, cost) for point, cost in costs.items())]) + "\n"


def draw(costs: dict[Point, Cost], threads: int, path: Path) -> None:
    """Three panels, one a sweep."""
    import matplotlib.style

    from harness.report.plots.style import RC, titled_figure

    note = (
        f"Median of {len(next(iter(costs.values())).seconds)} updates, bars: their range; {threads} threads. "
        f"What is not on the axis: {BASE.batch} responses, {BASE.tokens} tokens, width {BASE.width}, "
        f"{BASE.layers} layers. Grade includes reference and critic."
    )
    with matplotlib.style.context(["default", RC]):
        figure, top = titled_figure(9.6, 2.7, "What an update of PPO costs", note)
        axes = figure.subplots(1, 3, sharey=True)
        figure.subplots_adjust(left=0.07, right=0.94, top=top * 0.97, bottom=0.17, wspace=0.28)
        for ax, (sweep, points) in zip(axes, SWEEPS.items(), strict=True):
            panel(ax, sweep, points, [costs[point] for point in points])
        axes[0].set_ylabel("seconds an update")
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def panel(ax: Any, sweep: str, points: list[Point], shown: list[Cost]) -> None:
    """Seconds an update in all (thick, with the range) and by phase, on log axes."""
    from matplotlib.ticker import NullFormatter, NullLocator

    from harness.report.plots.style import INK, SLATES, beside, darker, quiet_grid, spread

    x = [cost.parameters for cost in shown] if sweep == "parameters" else [getattr(p, sweep) for p in points]
    total = [statistics.median(cost.seconds) for cost in shown]
    below = [middle - min(cost.seconds) for middle, cost in zip(total, shown, strict=True)]
    above = [max(cost.seconds) - middle for middle, cost in zip(total, shown, strict=True)]
    ax.errorbar(x, total, yerr=[below, above], color=INK, lw=1.8, marker="o", ms=3.5)
    ends = {"all": (total[-1], INK)}
    for phase, colour in zip(PHASES, SLATES[:3], strict=True):
        times = [statistics.median(cost.phases[phase]) for cost in shown]
        ax.plot(x, times, color=colour, lw=1)
        ends[phase] = (times[-1], colour)
    places = spread([log10(end) for end, _ in ends.values()], LABEL_GAP, -3, 3)
    for (name, (_, colour)), place in zip(ends.items(), places, strict=True):
        beside(ax, name, (x[-1], 10**place), color=darker(colour))
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(x, [f"{value / 1e6:.2g} M" if sweep == "parameters" else str(value) for value in x])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(AXES[sweep])
    quiet_grid(ax, "y")


if __name__ == "__main__":
    main()
