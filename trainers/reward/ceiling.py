"""A reward's ceiling: what the policy that it asks for would score, from judged samples of the reference. Pure.

    pi*(y|x) ~ pi_ref(y|x) exp(r(x, y) / beta)

is the optimum of the objective that training climbs, J = E[r] - beta KL(pi || pi_ref); `evals.statistics.tilted`
has its estimators. A ceiling is what the reward prefers among the samples, not a promise of training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.special

from evals.statistics import harmonic_mean, resample_counts
from evals.statistics.tilted import (
    best_of,
    effective_size,
    log_partitions,
    plain_means,
    tilted_logits,
    tilted_means,
    tilted_weights,
)

NOT_UNSAFE, NOT_OVERREFUSE, F1 = "not_unsafe", "not_overrefuse", "f1"
REWARD, KL, OBJECTIVE = "reward", "kl", "objective"
OUTCOMES = (NOT_UNSAFE, NOT_OVERREFUSE)
SHARES = (*OUTCOMES, F1)
FEWEST_SAMPLES = 4  # scored, of a prompt; one with fewer is left out and counted
STEP = 1.05  # in beta, of a slope


def as_learned(
    totals: np.ndarray, finished: np.ndarray, score_clip: float | None, missing_eos_penalty: float
) -> np.ndarray:
    """Scores as a training sees them: clipped to +-score_clip, less the penalty where the limit cut the response.

    As `trainers.rl.formulas.bounded_scores`; NaN stays.
    """
    scores = totals if score_clip is None else np.clip(totals, -score_clip, score_clip)
    return scores - missing_eos_penalty * (~np.asarray(finished, dtype=bool))


@dataclass(frozen=True)
class PromptMeasure:
    """A value of every sample [prompts, samples], NaN where unknown, and the prompts that it is about [prompts]."""

    values: np.ndarray
    members: np.ndarray
    share: bool = True  # a fraction of 1


@dataclass(frozen=True)
class SampleTable:
    """Sampled responses by prompt; `log_ratio` is 0 where the reference itself drew them.

    `strata` [prompts] fixes how many prompts of each kind a draw has; `units` [prompts] numbers what counts as one.
    """

    measures: Mapping[str, PromptMeasure]
    log_ratio: np.ndarray
    strata: Sequence[object]
    units: np.ndarray

    def only(self, member: np.ndarray) -> SampleTable:
        """The prompts of `member` [prompts]. Draws are of the whole table: draws[:, member]."""
        measures = {
            name: replace(of, values=of.values[member], members=of.members[member])
            for name, of in self.measures.items()
        }
        strata = [kind for kind, kept in zip(self.strata, member, strict=True) if kept]
        return SampleTable(measures, self.log_ratio[member], strata, self.units[member])

    def draws(self, count: int, seed: int) -> np.ndarray:
        """How often each prompt is drawn [draws, prompts], whole units at a time."""
        size = int(self.units.max()) + 1
        alone = size == len(self.units)
        strata: Sequence[object] = [""] * size
        if alone:
            by_unit = dict(zip(self.units.tolist(), self.strata, strict=True))
            strata = [by_unit[unit] for unit in range(size)]
        return resample_counts(strata, count, np.random.default_rng([seed, 17]))[:, self.units]


@dataclass(frozen=True)
class Tilted:
    """The reference tilted by a reward at one beta. Values are by prompt [prompts], NaN where too little is known."""

    table: SampleTable
    rewards: np.ndarray  # [prompts, samples], as learned
    beta: float

    def only(self, member: np.ndarray) -> Tilted:
        """Of the prompts of `member` [prompts]."""
        return Tilted(self.table.only(member), self.rewards[member], self.beta)

    @cached_property
    def logits(self) -> np.ndarray:
        return tilted_logits(self.rewards, self.beta, self.table.log_ratio)

    @cached_property
    def weights(self) -> np.ndarray:
        return tilted_weights(self.logits)

    @cached_property
    def known(self) -> np.ndarray:
        """Prompts with enough scored samples."""
        return np.isfinite(self.rewards).sum(axis=1) >= FEWEST_SAMPLES

    @cached_property
    def effective(self) -> np.ndarray:
        return effective_size(self.weights)

    @cached_property
    def objective(self) -> np.ndarray:
        """beta log E_ref[exp(r / beta)]: E*[r] - beta KL."""
        return self.beta * log_partitions(self.rewards, self.beta, self.table.log_ratio)

    @cached_property
    def reward(self) -> np.ndarray:
        return tilted_means(self.logits, self.rewards)

    @cached_property
    def kl(self) -> np.ndarray:
        """KL(pi* || pi_ref) in nats a response."""
        return (self.reward - self.objective) / self.beta

    @cached_property
    def plain_kl(self) -> np.ndarray:
        """What the weights say as they are, never above log n; NaN for prompts with too few samples."""
        base = tilted_weights(_base(self))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(self.weights > 0, self.weights / base, 1.0)
        return np.where(self.known, (self.weights * np.log(ratio)).sum(axis=1), np.nan)

    @cached_property
    def shown_kl(self) -> float:
        """The mean of `plain_kl`."""
        return float(self.plain_kl[self.known].mean()) if self.known.any() else math.nan

    @cached_property
    def neighbours(self) -> tuple[Tilted, Tilted]:
        """A little nearer to the reference, and a little further."""
        nearer, further = (replace(self, beta=self.beta * factor) for factor in (STEP, 1 / STEP))
        return nearer, further

    def enough(self, measure: str) -> np.ndarray:
        """Prompts with enough samples that have both a reward and, where it is of samples, the measure's value."""
        of = self.table.measures.get(measure)
        if of is None:
            return self.known
        return (np.isfinite(self.rewards) & np.isfinite(of.values)).sum(axis=1) >= FEWEST_SAMPLES

    @cached_property
    def _kept(self) -> dict[tuple[str, bool], np.ndarray]:
        """What was worked out, by measure and whether uncorrected."""
        return {}

    def values(self, measure: str) -> np.ndarray:
        """Corrected values of a measure; NaN for prompts that it is not about."""
        if (measure, False) not in self._kept:
            self._kept[measure, False] = np.where(self.enough(measure), self._corrected(measure), np.nan)
        return self._kept[measure, False]

    def plain(self, measure: str) -> np.ndarray:
        """The same before the jackknife."""
        if (measure, True) not in self._kept:
            known = np.isfinite(self.values(measure))
            self._kept[measure, True] = np.where(known, self._uncorrected(measure), np.nan)
        return self._kept[measure, True]

    def hidden(self, measure: str) -> tuple[float, float]:
        """How much higher, and lower, a share may be by outcomes that no sample of a prompt has.

        A prompt all of whose n samples agree has the other outcome with a probability of 1 / (n + 2) at most (Laplace),
        and no more on average than the prompts with just one such sample tell (Good and Turing). The reward tilts it
        by as much as it parts the two outcomes on the prompts that have both. No estimate from the samples sees what
        the tilt adds to it; the mean of the samples as they are hides nothing.
        Of samples of several proposals these are chances under their mixture, and the reference's are at most as many
        times as large as it makes any sample likelier than the mixture does.

        Of the objective, the reward and KL: what the outcomes that the shares are of may add to them.
        """
        if measure in (REWARD, KL, OBJECTIVE):
            found = [one for name in OUTCOMES if name in self.table.measures for one in self._unseen(name)]
            return max((self._added(one, measure) for one in found), default=0.0), 0.0
        up, down = (one.share for one in self._unseen(measure))
        return up, down

    def _unseen(self, measure: str) -> tuple[_Unseen, _Unseen]:
        """Of the outcome that counts for a share, and of the one that counts against it."""
        of = self.table.measures[measure]
        asked = np.isfinite(self.rewards) & np.isfinite(of.values)
        asked &= (of.members & self.enough(measure))[:, None]
        hits, misses = asked & (of.values == 1.0), asked & (of.values == 0.0)
        rewards = np.where(asked, self.rewards, 0.0)
        both = hits.any(axis=1) & misses.any(axis=1)
        if not both.any():
            return NONE_UNSEEN, NONE_UNSEEN
        hit, missed = ((rewards * kind)[both].sum(axis=1) / kind[both].sum(axis=1) for kind in (hits, misses))
        tilt = float((hit - missed).mean()) / self.beta
        likelier = float(np.nanmax(np.exp(self.table.log_ratio), initial=1.0))
        return _unseen(hits, asked, tilt, likelier), _unseen(misses, asked, -tilt, likelier)

    def _added(self, one: _Unseen, measure: str) -> float:
        """Over all prompts, to the objective, the reward, or KL in nats."""
        prompts = max(1, int(self.known.sum()))
        objective = self.beta * one.objective_sum / prompts
        reward = self.beta * one.tilt * one.share * one.prompts / prompts
        return max(0.0, {OBJECTIVE: objective, REWARD: reward, KL: (reward - objective) / self.beta}[measure])

    def _corrected(self, measure: str) -> np.ndarray:
        if measure in (REWARD, KL, OBJECTIVE):
            found: np.ndarray = getattr(self, measure)
            return found
        of = self.table.measures[measure]
        return np.where(of.members, tilted_means(self.logits, of.values), np.nan)

    def _uncorrected(self, measure: str) -> np.ndarray:
        if measure in self.table.measures:
            return plain_means(self.logits, self.table.measures[measure].values)
        if measure == KL:
            return self.plain_kl
        if measure == REWARD:
            return plain_means(self.logits, self.rewards)
        return self.beta * _plain_partition(self)


@dataclass(frozen=True)
class _Unseen:
    """An outcome in the prompts that no sample shows it of: its `chance` in each, and its `tilt` in nats.

    `prompts` are all that are asked.
    """

    chance: np.ndarray
    tilt: float
    prompts: int

    @property
    def share(self) -> float:
        """How much more of the outcome all prompts together may have under the tilt."""
        with np.errstate(divide="ignore"):
            tilted = scipy.special.expit(scipy.special.logit(self.chance) + self.tilt)
        return max(0.0, float((tilted - self.chance).sum()) / max(1, self.prompts))

    @property
    def objective_sum(self) -> float:
        """What it adds to log E_ref[exp(r / beta)], summed over the prompts."""
        with np.errstate(divide="ignore"):
            rises = np.logaddexp(np.log1p(-self.chance), np.log(self.chance) + self.tilt)
        return max(0.0, float(rises.sum()))


NONE_UNSEEN = _Unseen(np.empty(0), 0.0, 0)


def _unseen(outcome: np.ndarray, asked: np.ndarray, tilt: float, likelier: float) -> _Unseen:
    """An `outcome` [prompts, samples] that the reference may make `likelier` than who drew the samples does."""
    n, seen = asked.sum(axis=1), outcome.sum(axis=1)
    without = (n > 0) & (seen == 0)
    once = float((1.0 / n[seen == 1]).sum())  # of all prompts together
    chance = np.minimum(1.0 / (n[without] + 2.0), once / max(1, int(without.sum())))
    return _Unseen(np.minimum(likelier * chance, 0.5), tilt, int((n > 0).sum()))


def _plain_partition(tilted: Tilted) -> np.ndarray:
    """log E_ref[exp(r / beta)] by prompt, uncorrected."""
    with np.errstate(divide="ignore", invalid="ignore"):
        top = scipy.special.logsumexp(tilted.logits, axis=1)
        return top - scipy.special.logsumexp(_base(tilted), axis=1)


def _base(tilted: Tilted) -> np.ndarray:
    """Logits of the reference itself among the scored samples [prompts, samples]."""
    return tilted_logits(np.where(np.isfinite(tilted.rewards), 0.0, np.nan), 1.0, tilted.table.log_ratio)


def beta_of_kl(table: SampleTable, rewards: np.ndarray, kl: float, steps: int = 40) -> float:
    """The beta at which the tilted policy lies `kl` nats from the reference; NaN where no beta of a double does."""
    low, high = 1e-4, 1e4
    if not Tilted(table, rewards, high).shown_kl <= kl <= Tilted(table, rewards, low).shown_kl:
        return math.nan
    for _ in range(steps):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if Tilted(table, rewards, middle).shown_kl > kl else (low, middle)
    return math.sqrt(low * high)


def best_of_shares(table: SampleTable, rewards: np.ndarray, k: int) -> dict[str, float]:
    """Not-Unsafe, Not-Overrefuse and F1 of the best of k responses by reward, unbiased, and of how many prompts."""
    found, prompts = {}, 0
    for name in (NOT_UNSAFE, NOT_OVERREFUSE):
        of = table.measures[name]
        values = best_of(rewards, of.values, k)[of.members]
        known = values[np.isfinite(values)]
        found[name] = float(known.mean()) if len(known) else math.nan
        prompts = max(prompts, len(known))
    f1 = float(harmonic_mean(found[NOT_UNSAFE], found[NOT_OVERREFUSE]))
    return found | {F1: f1, "prompts": prompts}
