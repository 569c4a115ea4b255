"""What PPO reports of each update: means over responses or tokens, over all processes.

Names: objective/* per response (kl, k3, score, reward) or per token (entropy), policy/* and value/*
per token over all passes of the update, response/* (length counts thought and answer; thought_length,
answer_length and unanswered stand where there are thoughts), reward/unscored_share, score/<term>,
contribution/<feature>.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from trainers.devices.processes import Processes
from trainers.reward.reward import Breakdown
from trainers.rl import formulas
from trainers.rl.experience import Experience
from trainers.rl.rollout import Samples


class Averages:
    """Weighted sums by name, turned into means once all processes have added theirs."""

    def __init__(self) -> None:
        self._sums: dict[str, list[Tensor | float]] = {}

    def add(self, name: str, total: Tensor | float, weight: Tensor | float) -> None:
        entry = self._sums.setdefault(name, [0.0, 0.0])
        entry[0], entry[1] = entry[0] + total, entry[1] + weight

    def add_all(self, name: str, values: np.ndarray | Tensor) -> None:
        """Each of `values` with weight 1; NaN does not count."""
        kept = torch.as_tensor(values, dtype=torch.float64).flatten()
        kept = kept[~kept.isnan()]
        self.add(name, kept.sum(), float(len(kept)))

    def merge(self, other: Averages) -> None:
        for name, (total, weight) in other._sums.items():
            self.add(name, total, weight)

    def means(self, processes: Processes) -> dict[str, float | None]:
        """None where nothing was counted."""
        local = {name: (float(total), float(weight)) for name, (total, weight) in self._sums.items()}
        parts = processes.gather(local)
        sums: dict[str, tuple[float, float]] = {}
        for part in parts:
            for name, (total, weight) in part.items():
                before = sums.get(name, (0.0, 0.0))
                sums[name] = (before[0] + total, before[1] + weight)
        return {name: total / weight if weight else None for name, (total, weight) in sums.items()}


def add_reward(averages: Averages, samples: Samples, breakdown: Breakdown) -> None:
    """Score by term and feature, lengths, and how much is unscored: over all sampled responses."""
    averages.add_all("response/length", samples.lengths)
    averages.add_all("response/eos_share", samples.finished)
    if any(response.thought for response in samples.responses):
        thoughts = np.array([response.thought_tokens for response in samples.responses], dtype=float)
        averages.add_all("response/thought_length", thoughts)
        averages.add_all("response/answer_length", samples.lengths.cpu().numpy() - thoughts)
        averages.add_all(
            "response/unanswered", np.array([bool(r.unanswered) for r in samples.responses], float)
        )
    total = np.asarray(breakdown.total)
    averages.add_all("reward/unscored_share", np.isnan(total).astype(float))
    averages.add_all("objective/score", total)
    for name, values in breakdown.terms.items():
        averages.add_all(f"score/{name}", values)
    for name, values in breakdown.contributions.items():
        averages.add_all(f"contribution/{name}", values)


def add_experience(averages: Averages, samples: Samples, experience: Experience) -> None:
    """KL, entropy and reward of the scored responses, and moments for value/explained_variance."""
    mask, rows = experience.mask, experience.scored
    old, reference = experience.log_probs[rows], experience.reference_log_probs[rows]
    for name, kl in (("kl", formulas.kl_k1(old, reference)), ("k3", formulas.kl_k3(old, reference))):
        averages.add_all(f"objective/{name}", torch.where(mask[rows], kl, 0.0).sum(1))
    averages.add_all("objective/entropy", samples.entropy[mask])
    if samples.elsewhere:  # How far the sampler's log-probabilities are from the trainer's.
        averages.add_all("rollout/log_prob_gap", (experience.log_probs - samples.log_probs)[mask].abs())
    averages.add_all("objective/reward", experience.rewards[rows].sum(1))


def explained_variance(experience: Experience, processes: Processes) -> float | None:
    """1 - Var(returns - values) / Var(returns) over the round's tokens; None when returns do not vary."""
    returns = experience.returns[experience.mask].double()
    errors = returns - experience.values[experience.mask].double()
    count = processes.sum(torch.tensor(float(len(returns)), device=returns.device))
    spread = [
        float(processes.sum((x - processes.sum(x.sum()) / count).square().sum())) for x in (errors, returns)
    ]
    return 1.0 - spread[0] / spread[1] if spread[1] > 0 else None


class PhaseClock:
    """Wall-clock seconds of each phase of an update."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def row(self, tokens: int) -> dict[str, float]:
        """time/<phase>_s and tokens_per_second/<phase>, of `tokens` response tokens."""
        times = {f"time/{name}_s": seconds for name, seconds in self.seconds.items()}
        speeds = {
            f"tokens_per_second/{name}": tokens / seconds for name, seconds in self.seconds.items() if seconds
        }
        return times | speeds
