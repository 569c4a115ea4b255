"""The keys of `rbrbench regress`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from evals.values.conversation import ResponseType
from evals.values.errors import InputError
from evals.values.ranges import SHARE, SHARE_BELOW_ONE, check_ranges
from harness.keys.shared import check_least, check_name, response_types


class Correction(str, Enum):
    """How p-values of many comparisons are adjusted."""

    HOLM = "holm"  # the chance of any false alarm stays below 1 - level; half of it is the whole set's
    FDR = "fdr"  # the share of false alarms among alarms does (Benjamini and Hochberg)


@dataclass
class ToleranceConfig:
    """A rise that still counts as no worse, as a fraction of 1; null leaves the measure out of the verdict."""

    ranking_error: float | None = 0.005  # share of (ideal, other) pairs of one prompt that are ranked wrong
    class_error: float | None = None  # share of completions whose class by grades is not the true one

    def __post_init__(self) -> None:
        for name in ("ranking_error", "class_error"):
            if getattr(self, name) is not None:
                check_ranges(self, "tolerance", {name: SHARE_BELOW_ONE})
        if self.ranking_error is None and self.class_error is None:
            raise InputError(
                "nothing is tested", field="tolerance", fix="give one of the tolerances a number"
            )


@dataclass
class RegressConfig:
    baseline: str = ""  # reward A: .yaml or .json description, .jsonl recorded, or results/NAME[:METHOD:SEED]
    candidate: str = ""  # reward B, the edited one: the same kinds
    on: str = "sandbox"  # frozen completions: labelled .jsonl, or the name of a set in conf/gate
    rulebook: str = ""  # what reads the completions' labels, for both sides; empty: the set's, else A's
    response_types: list[str] = field(default_factory=list)  # only these; empty: all of the set
    tolerance: ToleranceConfig = field(default_factory=ToleranceConfig)
    margin: float = 0.05  # a rise of this size must be ruled out before the gate says "no worse"
    level: float = 0.95  # of intervals and tests
    correction: Correction = Correction.HOLM  # holm or fdr
    min_prompts: int = 30  # fewer prompts of a response type: cannot tell
    max_unscored: float = 0.05  # a larger share of unscored completions: cannot tell
    draws: int = 2000  # bootstrap draws of an interval
    sign_flips: int = 10000  # of a test
    examples: int = 10  # worst flips shown of each response type
    seed: int = 0  # of draws and sign flips
    name: str = "gate"  # results/NAME
    results: str = "results"  # root folder of results

    def __post_init__(self) -> None:
        for name in ("baseline", "candidate"):
            if not getattr(self, name):
                fix = f"give {name}=FILE: a reward description, recorded rewards, or results/NAME"
                raise InputError("is not set", field=name, fix=fix)
        check_ranges(self, "", {"max_unscored": SHARE})
        check_least(self, min_prompts=2, draws=100, examples=0, seed=0)
        checks = {
            "margin": (0.0 < self.margin <= 1.0, "give a share above 0"),
            "level": (0.5 <= self.level < 1.0, "give a level from 0.5 up to, not including, 1"),
            "sign_flips": (self.sign_flips >= 1000, "give 1000 or more: fewer cannot pass the correction"),
        }
        for name, (good, fix) in checks.items():
            if not good:
                raise InputError(f"is {getattr(self, name)}", field=name, fix=fix)
        check_name(self.name)
        self.types  # noqa: B018  an unknown response type is refused at once

    @property
    def types(self) -> tuple[ResponseType, ...]:
        """The response types that are asked for; empty for all."""
        return response_types(self.response_types)
