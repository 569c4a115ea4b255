"""How often a ceiling's limits hold the truth, and how often it says that it cannot tell, where the optimum is known.

    python benchmarks/ceiling_simulation.py [--draws 400] [--prompts 200]

A simulated prompt has six responses with known probabilities, rewards and verdicts, so the policy that the reward asks
for is known; half of the prompts are to be answered. The truth is that of 400,000 such prompts.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from evals.statistics import harmonic_mean
from trainers.reward.ceiling import F1, NOT_OVERREFUSE, NOT_UNSAFE, PromptMeasure, SampleTable, Tilted
from trainers.reward.ceiling_limits import TellingLimits, predicted

RESPONSES, TRUTH = 6, 400_000


@dataclass(frozen=True)
class Case:
    """`evenness` of the reference (a Dirichlet's), the reward's noise beside what is right, its scale, and the rest."""

    evenness: float
    noise: float
    scale: float
    samples: int
    beta: float
    hotter: float = 0.0  # temperature at which half of the samples are drawn; 0: all are the reference's


CASES = tuple(
    Case(evenness, noise, scale, samples, beta)
    for evenness, noise, scale in (
        (1.0, 0.5, 1.0),
        (0.3, 0.5, 1.0),
        (1.0, 1.5, 1.0),
        (1.0, 0.2, 4.0),
        (0.1, 0.5, 1.0),
        (0.1, 0.2, 4.0),
    )
    for samples in (8, 16, 32)
    for beta in (2.0, 1.0, 0.5, 0.2)
)


@dataclass(frozen=True)
class Prompts:
    """[prompts, responses] each, and which prompts are to be answered [prompts]."""

    probability: np.ndarray
    right: np.ndarray
    reward: np.ndarray
    comply: np.ndarray


@dataclass(frozen=True)
class Tally:
    """Over draws: shares that were told, that held the truth where told; mean errors with and without the jackknife."""

    told: float
    held: float
    error: float
    plain_error: float


def prompts_of(case: Case, count: int, rng: np.random.Generator) -> Prompts:
    size = (count, RESPONSES)
    probability = rng.dirichlet(np.full(RESPONSES, case.evenness), count)
    right = (rng.random(size) > rng.beta(1, 2, count)[:, None]).astype(float)
    reward = case.scale * (case.noise * rng.normal(size=size) + 1.5 * right)
    return Prompts(probability, right, reward, np.arange(count) % 2 == 0)


def truth(case: Case, prompts: int = TRUTH, seed: int = 1) -> dict[str, float]:
    """Of the policy that the reward asks for, all responses counted."""
    all_of = prompts_of(case, prompts, np.random.default_rng([seed, 1]))
    raw = np.log(np.maximum(all_of.probability, 1e-300)) + all_of.reward / case.beta
    weights = np.exp(raw - raw.max(axis=1, keepdims=True))
    by_prompt = (weights * all_of.right).sum(axis=1) / weights.sum(axis=1)
    safe, useful = float(by_prompt.mean()), float(by_prompt[all_of.comply].mean())
    return {NOT_UNSAFE: safe, NOT_OVERREFUSE: useful, F1: float(harmonic_mean(safe, useful))}


def picks(probability: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Responses [prompts, samples], drawn."""
    drawn = rng.random((len(probability), samples))
    picked = (np.cumsum(probability, axis=1)[:, None, :] < drawn[:, :, None]).sum(axis=2)
    return np.minimum(picked, RESPONSES - 1)


def sampled(case: Case, count: int, rng: np.random.Generator) -> Tilted:
    """The estimate's own view: samples of the reference."""
    asked = prompts_of(case, count, rng)
    half = case.samples // 2 if case.hotter else 0
    hot = asked.probability ** (1 / (case.hotter or 1.0))
    hot /= hot.sum(axis=1, keepdims=True)
    picked = np.concatenate(
        [picks(asked.probability, case.samples - half, rng), picks(hot, half, rng)], axis=1
    )
    mixture = ((case.samples - half) * asked.probability + half * hot) / case.samples
    ratio = np.log(np.maximum(asked.probability, 1e-300)) - np.log(np.maximum(mixture, 1e-300))
    right = np.take_along_axis(asked.right, picked, axis=1)
    table = SampleTable(
        {
            NOT_UNSAFE: PromptMeasure(right, np.ones(count, dtype=bool)),
            NOT_OVERREFUSE: PromptMeasure(right, asked.comply),
        },
        np.take_along_axis(ratio, picked, axis=1),
        asked.comply.tolist(),
        np.arange(count),
    )
    return Tilted(table, np.take_along_axis(asked.reward, picked, axis=1), case.beta)


def simulate(
    case: Case, draws: int, prompts: int, measure: str = F1, seed: int = 0, known_by: int = TRUTH
) -> Tally:
    """`known_by` prompts tell the truth."""
    rng, known = np.random.default_rng([seed, 2]), truth(case, known_by)[measure]
    told, held, errors, plain = 0, 0, [], []
    for draw in range(draws):
        tilted = sampled(case, prompts, rng)
        counts = tilted.table.draws(300, draw)
        found = predicted(tilted, measure, counts, TellingLimits())
        told += found.told
        held += found.told and found.low <= known <= found.high
        errors.append(found.value - known)
        plain.append(found.value + found.correction - known)
    mean, plain_mean = float(np.mean(errors)), float(np.mean(plain))
    return Tally(told / draws, held / told if told else float("nan"), mean, plain_mean)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--measure", default=F1, choices=(F1, NOT_UNSAFE, NOT_OVERREFUSE))
    given = parser.parse_args()
    print(
        "| evenness, noise, scale | samples | beta | told | held where told | error | before the jackknife |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for case in CASES:
        found = simulate(case, given.draws, given.prompts, given.measure)
        kind = f"{case.evenness:g}, {case.noise:g}, {case.scale:g}"
        print(
            f"| {kind} | {case.samples} | {case.beta:g} | {100 * found.told:.0f} % | {100 * found.held:.1f} % | "
            f"{100 * found.error:+.2f} | {100 * found.plain_error:+.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
