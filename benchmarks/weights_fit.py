"""Speed of the weights' fit and its objective, beside the recipe that the paper's authors released.

    python benchmarks/weights_fit.py [--quick]

First, one response type on growing numbers of prompts (10 completions each): here to the optimum,
without L2 and with the default, and with the recipe (AdamW, learning rate 1e-2, 1,000 iterations,
weight decay 0.05) on the same pairs. The last size is 30,000 completions; the target there is 5 s on
two cores. Then 60 small problems of four kinds, some separable, some with 0/1 features as a perfect
grader gives them: the fit's objective may never be above the recipe's. The recipe takes minutes in
all; `--quick` leaves it and the small problems out. Exit code 1 where an objective is above.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from evals.rules.features import Features, feature_names
from evals.rules.rulebook import Rulebook, load_rulebook
from evals.values.conversation import ResponseType
from trainers.reward.examples import FitExamples, ordered_pairs
from trainers.reward.hinge_solver import mean_hinge
from trainers.reward.weights import fit_weights, hinge_rows
from trainers.reward.weights_config import WeightsConfig

RULEBOOK = Path(__file__).parents[1] / "conf" / "rulebooks" / "sandbox.yaml"


def adamw_recipe(
    rows: np.ndarray,
    offsets: np.ndarray,
    *,
    steps: int = 1000,
    learning_rate: float = 1e-2,
    decay: float = 0.05,
) -> np.ndarray:
    """Weights [features] by the released recipe: full-batch AdamW on the mean hinge of the pairs."""
    a, b = torch.from_numpy(rows), torch.from_numpy(offsets)
    weights = torch.zeros(rows.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.AdamW([weights], lr=learning_rate, weight_decay=decay)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.relu(b - a @ weights).mean().backward()
        optimiser.step()
    return weights.detach().numpy()


def simulated(
    rulebook: Rulebook, prompts: int, per_prompt: int = 10, seed: int = 0, noise: float = 1.5
) -> FitExamples:
    """Hard refusals whose features tell the classes apart, with noise, and a weak reward model."""
    rng = np.random.default_rng(seed)
    names = feature_names(rulebook, ResponseType.HARD_REFUSE)
    classes = len(rulebook.class_order)
    rank = np.tile(np.arange(per_prompt) % classes, prompts)
    means = rng.random((classes, len(names)))
    logits = 4.0 * (means[rank] - 0.5) + noise * rng.normal(size=(len(rank), len(names)))
    values = 1.0 / (1.0 + np.exp(-logits))
    return FitExamples(
        ResponseType.HARD_REFUSE,
        tuple(f"p{i}" for i in np.repeat(np.arange(prompts), per_prompt)),
        tuple(rulebook.class_order[r] for r in rank),
        rank,
        Features(names, values),
        -0.2 * rank + rng.normal(size=len(rank)),
    )


def timed_fit(rulebook: Rulebook, examples: FitExamples, quick: bool) -> bool:
    """Print one line of the table; whether no objective is above the recipe's."""
    better, worse = ordered_pairs(examples.prompts, examples.rank)
    line = f"{len(examples):11,} {len(better):9,}"
    hinges = []
    for config in (WeightsConfig(holdout=0.0, l2=0.0), WeightsConfig(holdout=0.0)):
        start, busy = time.perf_counter(), time.process_time()
        report = fit_weights([examples], rulebook, config).fits[examples.response_type]
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        hinges.append(report.hinge)
        line += f" {seconds:8.2f} {busy:8.2f} {report.hinge:9.6f} {report.gap or 0.0:8.0e}"
    if quick:
        print(line, flush=True)
        return True
    rows, offsets = hinge_rows(examples, better, worse, WeightsConfig())
    start = time.perf_counter()
    recipe = mean_hinge(rows, offsets, adamw_recipe(rows, offsets))
    print(f"{line} {time.perf_counter() - start:8.2f} {recipe:9.6f}", flush=True)
    return hinges[0] <= recipe


def small_problems(rulebook: Rulebook, each: int = 15) -> bool:
    """Print, by kind, how often and by how much the fit's objective is below the recipe's."""
    print("\nsmall problems          below  equal  above   smallest lead   median lead")
    never_above = True
    kinds = {"overlapping": (1.5, 1.0), "nearly separable": (0.3, 0.2), "0/1 features": (0.0, 1.0)}
    for kind, (noise, model) in [*kinds.items(), ("with L2", (1.5, 1.0))]:
        leads = np.array([_lead(rulebook, seed, noise, model, kind) for seed in range(each)])
        near = np.abs(leads) <= 1e-9
        counts = [int((leads > 1e-9).sum()), int(near.sum()), int((leads < -1e-9).sum())]
        print(
            f"{kind:20}  {counts[0]:6} {counts[1]:6} {counts[2]:6} {leads.min():15.2e} {np.median(leads):13.2e}"
        )
        never_above &= counts[2] == 0
    return never_above


def _lead(rulebook: Rulebook, seed: int, noise: float, model: float, kind: str) -> float:
    """The recipe's objective less the fit's, on 40 prompts of 6 completions."""
    data = simulated(rulebook, 40, 6, seed, noise)
    data = replace(data, reward_model=model * data.reward_model)
    if kind == "0/1 features":
        data = replace(data, features=Features(data.features.names, np.round(data.features.values)))
    config = WeightsConfig(holdout=0.0, l2=1e-3 if kind == "with L2" else 0.0)
    better, worse = ordered_pairs(data.prompts, data.rank)
    rows, offsets = hinge_rows(data, better, worse, config)
    recipe = adamw_recipe(rows, offsets)
    peer = mean_hinge(rows, offsets, recipe) + config.l2 / 2.0 * float(recipe @ recipe)
    return peer - fit_weights([data], rulebook, config).fits[data.response_type].objective


def main(quick: bool) -> int:
    rulebook = load_rulebook(RULEBOOK)
    fit = "     s    cpu s     hinge      gap"
    print(f"{'':21} {'fit without L2':^37} {'fit with the default L2':^37} {'recipe':^18}")
    print(f"completions     pairs    {fit}    {fit}        s     hinge")
    good = all(
        [timed_fit(rulebook, simulated(rulebook, prompts), quick) for prompts in (375, 750, 1500, 3000)]
    )
    if not quick:
        good &= small_problems(rulebook)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak memory of the whole run: {peak:,.0f} MiB")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main("--quick" in sys.argv[1:]))
