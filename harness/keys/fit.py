"""The keys of `rbrbench fit`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from evals.models.server import GraderServerSettings
from evals.values.errors import InputError
from evals.values.ranges import SHARE_BELOW_ONE, Range
from harness.keys.graders import RENAMED, GraderKeys, RewardModelKeys, check_grader
from harness.keys.shared import Bootstrap, Recorded, Seed, Threads, TypesAsked, UnscoredLimit, least
from trainers.reward.weights_config import MAX_UNSCORED, WeightsConfig

ORACLE = "oracle"


@dataclass(kw_only=True)
class FitConfig(Recorded, Bootstrap, Seed, Threads, UnscoredLimit, TypesAsked):
    on: str = ""  # labelled completions (.jsonl), several a prompt, or a set of conf/gate by name
    test: str | None = None  # others to judge the reward on; without it: weights.holdout of the prompts
    rulebook: str = "sandbox"  # a YAML file, or the name of one in conf/rulebooks
    grader: GraderKeys = field(default_factory=lambda: GraderKeys(ORACLE))
    server: GraderServerSettings = field(default_factory=GraderServerSettings)  # of grader.kind=server
    reward_model: RewardModelKeys = field(default_factory=RewardModelKeys)
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    refit: bool = True  # fit anew without each rule, to say what leaving it out costs
    orders: int = 5  # random orders of the prompts for the learning curve; 0: none
    worst: int = 10  # wrongly ranked pairs shown of each response type
    max_unscored: float = MAX_UNSCORED
    name: str = "fit"

    RENAMED: ClassVar[dict[str, str]] = RENAMED
    RANGES: ClassVar[dict[str, Range]] = {
        "orders": least(0),
        "worst": least(0),
        "max_unscored": SHARE_BELOW_ONE,  # with none left there is no fit
    }

    def __post_init__(self) -> None:
        if not self.on:
            raise InputError("is not set", field="on", fix="give labelled completions: on=FILE.jsonl")
        check_grader(self.grader.kind, self.grader.path, "grader", ("server", ORACLE))
        if self.grader.kind == "server":
            self.server.require()
        super().__post_init__()
        if self.reward_model.kind and not self.weights.reward_model:
            raise InputError(
                "is false, and a reward model is given",
                field="weights.reward_model",
                fix="leave out one of the two; the ablations show the rules alone",
            )
        if self.test is None and self.weights.holdout == 0.0:
            raise InputError(
                "is 0: no prompt is left to judge the reward on",
                field="weights.holdout",
                fix="give a share above 0, or other completions with test=FILE",
            )
