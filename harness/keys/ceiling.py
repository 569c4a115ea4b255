"""The keys of `rbrbench ceiling`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from evals.values.clusters import AUTO
from evals.values.errors import InputError
from evals.values.ranges import NOT_NEGATIVE, POSITIVE, SHARE, Range, check_ranges
from harness.keys.shared import Bootstrap, Clusters, Recorded, Seed, TypesAsked, UnscoredLimit, least

PRICE = Range(lambda v: 1e-12 <= v <= 1e12, "a number from 1e-12 to 1e12")


@dataclass(kw_only=True)
class CeilingConfig(Recorded, Bootstrap, Clusters, Seed, UnscoredLimit, TypesAsked):
    reward: str = ""  # .yaml or .json description, .jsonl recorded, or results/NAME[:METHOD:SEED]
    candidate: str | None = None  # another reward, compared with it: the same kinds
    on: str = "sandbox"  # samples: what `rbrbench samples` wrote, or the name of a set in conf/sample_sets
    judge: str = ""  # whose verdicts count; empty: the first that the samples name
    beta: float | None = None  # price of a nat of KL (ppo.kl_coef); null: the run's, else the samples'
    betas: list[float] = field(default_factory=list)  # the grid; empty: from an eighth of beta to 32 times it
    score_clip: float | None = None  # bound on a response's reward (ppo.score_clip); null: as for beta
    missing_eos_penalty: float | None = None  # off the reward of a response that was cut; null: as for beta
    proposals: bool = True  # use samples of other policies too, reweighted, where they tell more
    leave_out: bool = True  # leave out each proposition in turn
    level: float = 0.95  # of intervals
    min_prompts: int = 30  # fewer prompts (or topics) with enough scored samples: cannot tell
    max_blind: float = 0.25  # share of prompts none of whose samples does right, beyond which nothing is said
    cluster: str = AUTO
    examples: int = 12  # prompts shown with their samples
    name: str = "ceiling"

    RANGES: ClassVar[dict[str, Range]] = {
        "min_prompts": least(2),
        "examples": least(0),
        "max_blind": SHARE,
        "level": Range(lambda v: 0.5 <= v < 1, "a level from 0.5 up to, not including, 1"),
    }

    def __post_init__(self) -> None:
        if not self.reward:
            fix = "give reward=FILE: a reward description, recorded rewards, or results/NAME"
            raise InputError("is not set", field="reward", fix=fix)
        known = {"beta": PRICE, "score_clip": POSITIVE}
        check_ranges(self, "", {n: range for n, range in known.items() if getattr(self, n) is not None})
        if self.missing_eos_penalty is not None:
            check_ranges(self, "", {"missing_eos_penalty": NOT_NEGATIVE})
        if not all(1e-12 <= beta <= 1e12 for beta in self.betas):
            problem = "holds what is not from 1e-12 to 1e12"
            raise InputError(problem, field="betas", fix="give prices of a nat")
        super().__post_init__()
