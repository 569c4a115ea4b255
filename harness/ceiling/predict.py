"""What two rewards ask for among the same samples: curves, points, differences, turned prompts. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from evals.judges.measures import GROUPS, not_refused, not_unsafe
from evals.statistics.tilted import best_of_kl, plain_means, tilted_weights
from harness.storage.digest import figures
from harness.subjects.sample_set import SampleSet
from harness.subjects.sample_table import (
    HARD_STYLE,
    REFUSED,
    SOFT_STYLE,
    WORDS,
    Learning,
    asked_shares,
    blind_problems,
    by_prompt,
    right,
)
from trainers.reward.ceiling import (
    F1,
    FEWEST_SAMPLES,
    KL,
    NOT_OVERREFUSE,
    NOT_UNSAFE,
    OBJECTIVE,
    REWARD,
    SHARES,
    PromptMeasure,
    SampleTable,
    Tilted,
    best_of_shares,
    beta_of_kl,
)
from trainers.reward.ceiling_limits import Predicted, TellingLimits, difference, predicted

POINT = (*SHARES, HARD_STYLE, SOFT_STYLE, REFUSED, WORDS, REWARD, KL, OBJECTIVE)
COMPARED = (*SHARES, HARD_STYLE, SOFT_STYLE)
GROUPED = tuple(NOT_UNSAFE + suffix for suffix in GROUPS if suffix)
PAID = "paid"  # what the reference's own responses are paid
GRID = tuple(2.0**step for step in range(-3, 6))  # times the run's beta
FINE = 4  # points of the drawn curve between two of the grid


@dataclass(frozen=True)
class Asking:
    """One reward among the samples: its scores as learned, and its terms, [prompts, samples] each."""

    source: str
    rewards: np.ndarray
    terms: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class CeilingSetting:
    """What both rewards are asked by."""

    samples: SampleSet
    table: SampleTable
    learning: Learning
    betas: Sequence[float]
    draws: np.ndarray
    limits: TellingLimits
    max_blind: float

    @property
    def most_kl(self) -> float:
        """No KL above this can be shown: all weight on one sample of each prompt, the reference's least likely one.

        log n of the reference's own samples; more of those of other proposals, which may weigh less than 1 / n.
        """
        if self.samples.own.all():
            return math.log(self.samples.index.shape[1])
        ratio = self.table.log_ratio
        weights = tilted_weights(np.where(np.isfinite(ratio), ratio, -np.inf))
        least = np.where(weights > 0, weights, np.inf).min(axis=1)
        return float(-np.log(least).mean())


def reward_figures(setting: CeilingSetting, asking: Asking) -> dict[str, Any]:
    """Everything that is said of one reward, as a record keeps it."""
    at = Tilted(setting.table, asking.rewards, setting.learning.beta)
    return {
        "source": asking.source,
        "point": point(setting, at),
        "grid": [grid_point(setting, asking, beta) for beta in setting.betas],
        "curve": curve(setting, asking),
        "best_of": best_of_rows(setting, asking),
        "terms": terms(setting, asking, at),
        "effective": figures(
            {"mean": _mean(at.effective, at.known), "low": _share(at.effective < 2.0, at.known)}
        ),
        "problems": problems(setting, at),
    }


def point(setting: CeilingSetting, at: Tilted) -> dict[str, Any]:
    """Every measure of the policy that the reward asks for, and of the reference beside it."""
    rows = {name: as_row(predicted(at, name, setting.draws, setting.limits)) for name in (*POINT, *GROUPED)}
    everyone = np.ones(len(at.rewards), dtype=bool)
    paid = {PAID: PromptMeasure(at.rewards, everyone, share=False)}
    table = replace(setting.table, measures={**setting.table.measures, **paid})
    flat = Tilted(table, np.where(np.isfinite(at.rewards), 0.0, np.nan), 1.0)
    reference = {
        name: as_row(predicted(flat, name, setting.draws, setting.limits))
        for name in (*POINT, *GROUPED, PAID)
        if name not in (REWARD, KL, OBJECTIVE)
    }
    # Its KL is none, so that what it is paid is its objective too.
    reference[REWARD] = reference[OBJECTIVE] = reference.pop(PAID)
    return {"beta": at.beta, "shown_kl": at.shown_kl, "measures": rows, "reference": reference}


def grid_point(setting: CeilingSetting, asking: Asking, beta: float) -> dict[str, Any]:
    at = Tilted(setting.table, asking.rewards, beta)
    rows = {name: as_row(predicted(at, name, setting.draws, setting.limits)) for name in (*SHARES, KL)}
    return {"beta": beta, "shown_kl": at.shown_kl, "measures": rows}


def curve(setting: CeilingSetting, asking: Asking) -> list[dict[str, float]]:
    """Not-Unsafe and Not-Overrefuse along beta, large to small, as the drawn line: values alone."""
    low, high = math.log(min(setting.betas)), math.log(max(setting.betas) * 8)
    count = FINE * len(setting.betas)
    found = []
    for beta in np.exp(np.linspace(high, low, count)).tolist():
        at = Tilted(setting.table, asking.rewards, beta)
        shares = {
            name: float(np.clip(np.nanmean(at.values(name)), 0.0, 1.0))
            for name in (NOT_UNSAFE, NOT_OVERREFUSE)
            if np.isfinite(at.values(name)).any()
        }
        found.append({"beta": beta, "kl": at.shown_kl, **shares})
    return found


def best_of_rows(setting: CeilingSetting, asking: Asking) -> list[dict[str, Any]]:
    """Best-of-k by reward for k = 1, 2, 4, ... up to the samples of a prompt: what the reward buys without training."""
    if np.nan_to_num(setting.table.log_ratio).any():
        return []  # samples of several proposals are no best-of-k of the reference
    most, rows, k = setting.samples.index.shape[1], [], 1
    while k <= most:
        rows.append(
            figures({"k": k, "kl_bound": best_of_kl(k), **best_of_shares(setting.table, asking.rewards, k)})
        )
        k *= 2
    return rows


def terms(setting: CeilingSetting, asking: Asking, at: Tilted) -> dict[str, dict[str, float]]:
    """Mean of each term under the tilted policy and under the reference."""
    flat = Tilted(setting.table, np.where(np.isfinite(at.rewards), 0.0, np.nan), 1.0)
    found: dict[str, dict[str, float]] = {}
    for name, values in asking.terms.items():
        means = {
            label: float(np.nanmean(np.where(of.known, plain_means(of.logits, values), np.nan)))
            for label, of in (("ceiling", at), ("reference", flat))
            if of.known.any()
        }
        found[name] = figures(means)
    return found


def problems(setting: CeilingSetting, at: Tilted) -> list[str]:
    """Why the run's point cannot be told; empty where it can. Of prompts that a set has none of, nothing is asked."""
    found: list[str] = []
    for name in asked_shares(setting.table):
        one = predicted(at, name, setting.draws, setting.limits)
        if not one.told and (name != F1 or not found):
            found.append(f"{name}: {one.problem}")
    return found + blind_problems(setting.samples, setting.max_blind)


def comparison_figures(setting: CeilingSetting, a: Asking, b: Asking) -> dict[str, Any]:
    """Paired differences, b less a, at equal beta and at equal KL."""
    beta = setting.learning.beta
    equal = []
    for one in dict.fromkeys((beta, *setting.betas)):
        first, second = (Tilted(setting.table, side.rewards, one) for side in (a, b))
        equal.append({"beta": one, "measures": _differences(setting, first, second)})
    kls = [Tilted(setting.table, a.rewards, one).shown_kl for one in dict.fromkeys((beta, *setting.betas))]
    matched = []
    for kl in kls:
        betas = [beta_of_kl(setting.table, side.rewards, kl) for side in (a, b)]
        if all(map(math.isfinite, betas)):
            first, second = (
                Tilted(setting.table, side.rewards, own) for side, own in zip((a, b), betas, strict=True)
            )
            measures = _differences(setting, first, second, equal_kl=True)
            matched.append({"kl": kl, "betas": betas, "measures": measures})
    return {"equal_beta": equal, "equal_kl": matched, "turned": turned(setting, a, b)}


def _differences(
    setting: CeilingSetting, first: Tilted, second: Tilted, equal_kl: bool = False
) -> dict[str, Any]:
    by = setting.draws, setting.limits, equal_kl
    return {name: as_row(difference(first, second, name, *by)) for name in COMPARED}


def turned(setting: CeilingSetting, a: Asking, b: Asking) -> list[dict[str, Any]]:
    """Prompts whose likelier outcome, right or not, turns from a to b; the widest change first."""
    beta = setting.learning.beta
    does = by_prompt(setting.samples.index, right(setting.samples))
    enough = (np.isfinite(a.rewards) & np.isfinite(does)).sum(axis=1) >= FEWEST_SAMPLES
    shares = [plain_means(Tilted(setting.table, side.rewards, beta).logits, does) for side in (a, b)]
    before, after = shares
    crossed = ((before > 0.5) != (after > 0.5)) & enough
    rows = np.flatnonzero(crossed).tolist()
    prompts = setting.samples.prompts
    return [
        {"prompt_id": prompts[i].id, "before": float(before[i]), "after": float(after[i])}
        for i in sorted(rows, key=lambda i: -abs(after[i] - before[i]))
    ]


def prompt_rows(
    setting: CeilingSetting, asked: Sequence[Asking], chosen: Sequence[str]
) -> list[dict[str, Any]]:
    """The chosen prompts with their samples, the heaviest first, and each reward's weights."""
    beta, places = setting.learning.beta, {p.id: i for i, p in enumerate(setting.samples.prompts)}
    weights = [Tilted(setting.table, side.rewards, beta).weights for side in asked]
    found = []
    for id in chosen:
        prompt, row = setting.samples.prompts[places[id]], setting.samples.index[places[id]]
        rows = [
            _sample_row(
                setting.samples,
                place,
                [w[places[id], j] for w in weights],
                [a.rewards[places[id], j] for a in asked],
            )
            for j, place in enumerate(row.tolist())
            if place >= 0
        ]
        rows.sort(key=lambda one: -max((w for w in one["weights"] if w is not None), default=0.0))
        turns = [{"role": m.role, "content": m.content} for m in prompt.messages]
        kind = prompt.response_type.value if prompt.response_type else ""
        found.append({"prompt_id": id, "response_type": kind, "prompt": turns, "samples": rows})
    return found


def _sample_row(
    samples: SampleSet, place: int, weights: Sequence[float], rewards: Sequence[float]
) -> dict[str, Any]:
    response, judgement = samples.responses[place], samples.judgements[place]
    safe, answered = not_unsafe(judgement), not_refused(judgement)
    return figures(
        {
            "response": response.text,
            "finished": response.finished,
            "disallowed": None if safe is None else not safe,
            "refused": None if answered is None else not answered,
            "weights": [float(w) for w in weights],
            "rewards": [float(r) for r in rewards],
        }
    )


def left_out_counts(samples: SampleSet, rewards: Sequence[np.ndarray]) -> dict[str, int]:
    """Samples without a reward or a judgement, and prompts with fewer than FEWEST_SAMPLES that have both, or none."""
    scored = np.all([np.isfinite(one) for one in rewards], axis=0) & (samples.index >= 0)
    judged = (
        by_prompt(samples.index, np.array([float(not_unsafe(j) is not None) for j in samples.judgements]))
        == 1.0
    )
    return {
        "unscored": int(((samples.index >= 0) & ~scored).sum()),
        "unjudged": int(((samples.index >= 0) & ~judged).sum()),
        "prompts": samples.silent + int(((scored & judged).sum(axis=1) < FEWEST_SAMPLES).sum()),
    }


def as_row(one: Predicted) -> dict[str, Any]:
    return figures(asdict(one))


def _mean(values: np.ndarray, known: np.ndarray) -> float:
    return float(values[known].mean()) if known.any() else math.nan


def _share(values: np.ndarray, known: np.ndarray) -> float:
    return float(values[known].mean()) if known.any() else math.nan
