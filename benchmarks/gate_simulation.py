"""How often the gate cries wolf, and how often it sees one: simulated rewards whose true change is known.

    python benchmarks/gate_simulation.py [--resamplings 200] [--prompts 500] [--seed 0] [--only TEXT] [--limits]
                                         [--cluster auto]

Each resampling draws a new set of prompts, one to four completions worse than the ideal one, and two
rewards that share most of their noise, then asks the gate (default tolerances, all its tests). Under no
change the two rewards have the same distribution; elsewhere the candidate's own noise is raised until
its true ranking error, found on 200,000 prompts, is higher by what the row says.

Targets: "worse" in at most 5 % of 200 resamplings without a change; a rise of 3 points caught in at
least 80 % on 500 prompts. Exit code 1 where one is missed. One pair a prompt, 500 pairs in all, is shown
for what it is and has no target of its own; so is a rise of the margin in one small response type, where
"no worse" is nominally said in 5 %.

Rows of topics have a fifth as many topics as prompts, of all response types; the share `topical` of each reward's own
noise is common to the completions of one class in a topic. The gate counts topics there; --cluster prompt shows what
comes of taking the prompts as independent.

--limits shows that level alone, at every size: how often a true rise of the margin, by whole prompts, is ruled out; and
by topics of one to some twelve prompts, whole or in halves.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import brentq

from evals.judges.measures import SOFT_REFUSE
from evals.statistics import wilson
from evals.values.conversation import LabelledResponse, Response, ResponseType, user_prompt
from harness.gate.gate import judge
from harness.gate.measures import Pairs
from harness.gate.paired import Errors, rise_limit
from harness.gate.rewards import RewardSide
from harness.keys.gate import GateVerdict, RegressConfig
from harness.subjects.completions import CompletionSet
from trainers.reward.reward import Breakdown

ORDER = (
    "ideal",
    "minimum_acceptable_style",
    "unacceptable_completion",
    "illogical_completion",
    "disallowed_completion",
)
SHARES = {
    ResponseType.COMPLY: 0.4,
    ResponseType.HARD_REFUSE: 0.4,
    ResponseType.SAFE_REFUSE_1: 0.1,
    ResponseType.SAFE_REFUSE_2: 0.1,
}
CALIBRATION_PROMPTS = 200_000


@dataclass(frozen=True)
class Scenario:
    """`rise` is the true rise of the ranking error, overall; `only` confines it to some response types.

    `shared` and `own` are standard deviations of the noise that both rewards have in common and that
    each has alone, in units of the mean distance of two neighbouring classes.
    """

    name: str
    rise: float
    others: int = 3  # completions beside the ideal one
    shared: float = 0.5
    own: float = 0.3
    only: tuple[ResponseType, ...] = ()
    topical: float = 0.0


SCENARIOS = (
    Scenario("no change", 0.0),
    Scenario("no change, rewards far apart", 0.0, shared=0.3, own=0.55),
    Scenario("no change, one pair a prompt", 0.0, others=1),
    Scenario("a rise of the tolerance", 0.005),
    Scenario("a rise of 3 points", 0.03),
    Scenario("a rise of 3 points, rewards far apart", 0.03, shared=0.3, own=0.55),
    Scenario("a rise of 3 points, one pair a prompt", 0.03, others=1),
    Scenario("a rise of 3 points: 7.5 of hard refusals", 0.03, only=(ResponseType.HARD_REFUSE,)),
    Scenario("a rise of 5 points in 50 of 500 prompts", 0.005, only=(ResponseType.SAFE_REFUSE_1,)),
    Scenario("the same, one pair a prompt", 0.005, others=1, only=(ResponseType.SAFE_REFUSE_1,)),
    Scenario("a rise of 5 points in both soft refusals", 0.01, only=SOFT_REFUSE),
    Scenario("topics, no change", 0.0, topical=0.75),
    Scenario("topics, no change, rewards far apart", 0.0, shared=0.3, own=0.55, topical=0.75),
    Scenario("topics, a rise of the tolerance", 0.005, topical=0.75),
    Scenario("topics, a rise of 3 points", 0.03, topical=0.75),
    Scenario("topics, a rise of 5 points", 0.05, topical=0.75),
)
PROMPTS_OF_A_TOPIC = 5


def ranks(prompts: int, others: int, rng: np.random.Generator) -> np.ndarray:
    """[prompts, 1 + others] ranks of completions: 0 first, then drawn from 1..4."""
    return np.concatenate(
        [np.zeros((prompts, 1), dtype=int), rng.integers(1, len(ORDER), size=(prompts, others))], axis=1
    )


def rewards(
    rank: np.ndarray, scenario: Scenario, extra: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Both rewards, like `rank`; `extra` [prompts] is the candidate's additional noise."""
    base = -rank + scenario.shared * rng.normal(size=rank.shape)
    baseline = base + scenario.own * own_noise(rank, scenario.topical, rng)
    own = np.sqrt(scenario.own**2 + extra[:, None] ** 2)
    return baseline, base + own * own_noise(rank, scenario.topical, rng)


def own_noise(rank: np.ndarray, topical: float, rng: np.random.Generator) -> np.ndarray:
    """Of variance 1, like `rank`; the share `topical` of it by topic and class."""
    noise = rng.normal(size=rank.shape)
    if not topical:
        return noise
    topic = topics_of(len(rank))
    common = rng.normal(size=(topic.max() + 1, len(ORDER)))[topic[:, None], rank]
    return np.sqrt(topical) * common + np.sqrt(1.0 - topical) * noise


def topics_of(prompts: int) -> np.ndarray:
    """[prompts] Every topic has prompts of several response types, which run one after another."""
    return np.arange(prompts) % max(1, prompts // PROMPTS_OF_A_TOPIC)


def true_rise(scenario: Scenario, extra: float, affected: np.ndarray, rank: np.ndarray) -> float:
    """Rise of the ranking error, on many prompts and always the same draws."""
    baseline, candidate = rewards(rank, scenario, extra * affected, np.random.default_rng(2))
    errors = [(reward[:, :1] < reward[:, 1:]).mean() for reward in (baseline, candidate)]
    return float(errors[1] - errors[0])


def calibrate(scenario: Scenario) -> float:
    """The additional noise that makes the scenario's rise."""
    if scenario.rise == 0.0:
        return 0.0
    rng = np.random.default_rng(1)
    rank, affected = ranks(CALIBRATION_PROMPTS, scenario.others, rng), np.ones(CALIBRATION_PROMPTS)
    if scenario.only:
        share = sum(SHARES[kind] for kind in scenario.only)
        affected = (np.arange(CALIBRATION_PROMPTS) < share * CALIBRATION_PROMPTS).astype(float)
    rise = lambda extra: true_rise(scenario, extra, affected, rank) - scenario.rise  # noqa: E731
    return float(brentq(rise, 0.0, 20.0, xtol=1e-3))


def types_of(prompts: int) -> list[ResponseType]:
    return [t for t, share in SHARES.items() for _ in range(round(share * prompts))]


def completion_set(rank: np.ndarray, types: list[ResponseType], topical: bool) -> CompletionSet:
    labelled, classes, topics = [], [], topics_of(len(rank))
    for number, (row, response_type) in enumerate(zip(rank.tolist(), types, strict=True)):
        prompt = user_prompt(f"p{number}", f"request {number}", response_type)
        prompt = replace(prompt, topic=f"t{topics[number]}") if topical else prompt
        for place, level in enumerate(row):
            labelled.append(
                LabelledResponse(Response(prompt, f"completion {place}", place), {}, ORDER[level])
            )
            classes.append(ORDER[level])
    return CompletionSet(
        Path("simulated"), "simulated", "", tuple(labelled), tuple(classes), rank.ravel(), ORDER
    )


def verdicts(
    scenario: Scenario, resamplings: int, prompts: int, seed: int, cluster: str
) -> Iterator[GateVerdict]:
    extra = calibrate(scenario)
    types = types_of(prompts)
    affected = np.array([not scenario.only or t in scenario.only for t in types], dtype=float)
    for number in range(resamplings):
        rng = np.random.default_rng([seed, number])
        rank = ranks(len(types), scenario.others, rng)
        baseline, candidate = rewards(rank, scenario, extra * affected, rng)
        config = RegressConfig(baseline="A", candidate="B", seed=number, cluster=cluster)
        completions = completion_set(rank, types, scenario.topical > 0)
        sides = side(baseline), side(candidate)
        yield judge(config, completions, Pairs.of(completions), *sides, missing=[]).verdict


def side(reward: np.ndarray) -> RewardSide:
    total = reward.ravel()
    return RewardSide("simulated", "recorded", Breakdown(total, {"simulated": total}))


SIZES = (30, 40, 60, 80, 100, 150, 200, 500)
TURNED = ((0.05, 0.0), (0.10, 0.05), (0.20, 0.15))  # prompts that turn wrong, and right: 5 points in all


def ruled_out(prompts: int, turned: float, back: float, sets: int, rng: np.random.Generator) -> float:
    """The share of `sets` in which a rise of the margin, which is there, is ruled out; three pairs a prompt."""
    draws, trials = rng.random((sets, prompts)), np.full(prompts, 3.0)
    limits = [rise_limit(Errors(3.0 * (d > 1 - back), 3.0 * (d < turned), trials), 0.95) for d in draws]
    return float(np.mean([limit <= 0.05 for limit in limits]))


def ruled_out_by_topic(topics: int, turned: float, part: float, sets: int, rng: np.random.Generator) -> float:
    """The same where the share `turned` of topics turn, the part `part` of each one's prompts; a topic has one prompt
    and Poisson(4) more, of three pairs each.
    """
    passed = 0
    for _ in range(sets):
        trials = 3.0 * (1 + rng.poisson(4, size=topics))
        wrong = part * trials * (rng.random(topics) < turned)
        passed += rise_limit(Errors(np.zeros(topics), wrong, trials), 0.95) <= 0.05
    return passed / sets


def show_limits(seed: int, sets: int = 2000) -> None:
    print(f"A true rise of 5 points is ruled out (nominal 5 %), {sets} sets of each size, seed {seed}")
    print(f"{'turned wrong, right':24}" + "".join(f"{size:>8}" for size in SIZES))
    rng = np.random.default_rng(seed)
    for turned, back in TURNED:
        shares = [ruled_out(size, turned, back, sets, rng) for size in SIZES]
        print(f"{turned:9.0%} {back:7.0%}{'':7}" + "".join(f"{share:8.1%}" for share in shares), flush=True)
    for turned, part in ((0.05, 1.0), (0.1, 0.5)):
        shares = [ruled_out_by_topic(size, turned, part, sets, rng) for size in SIZES]
        name = f"{turned:.0%} of topics, {part:.0%} of each"
        print(f"{name:24}" + "".join(f"{share:8.1%}" for share in shares), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Error rates of the gate on simulated rewards.")
    parser.add_argument("--resamplings", type=int, default=200)
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--cluster", default="auto", help="what the gate counts: auto (topics where named), prompt"
    )
    parser.add_argument("--only", default="", help="scenarios whose name has this text")
    parser.add_argument(
        "--limits", action="store_true", help="only how often a rise of the margin is ruled out"
    )
    options = parser.parse_args()
    if options.limits:
        show_limits(options.seed)
        return 0
    print(f"{options.prompts} prompts, {options.resamplings} resamplings, seed {options.seed}")
    print(f"{'':42}    worse (95 % interval)   no worse   cannot tell")
    missed = []
    start = time.perf_counter()
    for scenario in (s for s in SCENARIOS if options.only in s.name):
        asked = options.resamplings, options.prompts, options.seed, options.cluster
        found = Counter(verdicts(scenario, *asked))
        worse = found[GateVerdict.WORSE] / options.resamplings
        low, high = wilson(found[GateVerdict.WORSE], options.resamplings)
        others = [found[v] / options.resamplings for v in (GateVerdict.NO_WORSE, GateVerdict.CANNOT_TELL)]
        figures = f"{worse:8.1%} ({low:.1%} to {high:.1%})".ljust(26) + f"{others[0]:9.1%} {others[1]:13.1%}"
        print(f"{scenario.name:42} {figures}", flush=True)
        caught = scenario.rise == 0.03 and scenario.others > 1 and not scenario.topical
        if (scenario.rise == 0.0 and worse > 0.05) or (caught and worse < 0.8):
            missed.append(scenario.name)
    print(f"{time.perf_counter() - start:.0f} s; targets missed: {', '.join(missed) or 'none'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
