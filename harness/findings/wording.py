"""What people read: names of methods, judges, rewards and metrics, and numbers in percent."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from harness.keys.methods import METHODS, Method
from trainers.rl.config import Algorithm

JUDGES = {"oracle": "the oracle (truth)", "auto": "the automated judge", "human": "people", "": "the task"}
JUDGE_ORDER = ("oracle", "human", "auto")
REWARDS = {"rm": "RM", "rm+rbr": "RM + RBR", "rbr": "RBR"}
METRICS = {
    "not_unsafe": "Not-Unsafe",
    "not_overrefuse": "Not-Overrefuse",
    "f1": "F1",
    "hard_refusal_style": "Hard-Refusal-Style",
    "soft_refusal_style": "Soft-Refusal-Style",
}
ALGORITHMS = tuple(algorithm.value for algorithm in Algorithm)
RESPONSE_TYPES = ("hard_refuse", "safe_refuse_1", "safe_refuse_2", "comply")  # the paper's order

_TABLE: ContextVar[Mapping[str, Method]] = ContextVar("_TABLE", default=METHODS)


@contextmanager
def method_table(methods: Mapping[str, Method]) -> Iterator[None]:
    """Inside, methods are called, ordered and drawn by this table: a record's, with methods from outside."""
    token = _TABLE.set(methods)
    try:
        yield
    finally:
        _TABLE.reset(token)


@dataclass(frozen=True)
class MethodName:
    """A name taken apart: `rbr_ppo[ppo.kl_coef=0.1]` is base `rbr_ppo`, family `rbr`, stage `ppo`."""

    base: str
    family: str
    stage: str
    variant: str

    @classmethod
    def parse(cls, name: str) -> MethodName:
        base, _, variant = name.partition("[")
        match = re.fullmatch(rf"(.+)_(sft|{'|'.join(ALGORITHMS)})", base)
        family, stage = (match[1], match[2]) if match else (base, "")
        return cls(base, family, stage, variant.removesuffix("]"))

    @property
    def method(self) -> Method | None:
        """Its row in the methods table, whose trained methods are named after PPO: `rbr_ppo` for `rbr_grpo`."""
        return _TABLE.get().get(f"{self.family}_ppo" if self.stage in ALGORITHMS else self.base)


def method_label(method: str) -> str:
    """`rbr_ppo` is RBR-PPO, a sweep's variant of it RBR-PPO (kl_coef 0.1); unknown names stay."""
    name = MethodName.parse(method)
    text = name.method.label if name.method else name.base
    if text.endswith("PPO") and name.method and name.stage in ALGORITHMS:
        text = f"{text.removesuffix('PPO')}{name.stage.upper()}"
    if name.variant:
        settings = [setting.rpartition("=") for setting in name.variant.split(",")]
        short = [f"{key.rpartition('.')[2]} {value}".strip() for key, _, value in settings]
        text += f" ({', '.join(short)})"
    return shorten(text)


def algorithm_of(methods: Iterable[str]) -> str:
    """What the models were trained by after SFT: PPO, GRPO, ...; RL where that is not one algorithm."""
    found = {MethodName.parse(method).stage for method in methods} & {*ALGORITHMS}
    return found.pop().upper() if len(found) == 1 else "RL"


def judge_label(judge: str) -> str:
    return JUDGES.get(judge, shorten(judge))


def judge_order(judge: str) -> tuple[int, str]:
    """Sort key of judges: oracle, human, auto, then the others by name."""
    return (JUDGE_ORDER.index(judge) if judge in JUDGE_ORDER else len(JUDGE_ORDER)), judge


def metric_label(metric: str) -> str:
    return METRICS.get(metric, plain(metric))


def sft_of(method: str, methods: Sequence[str]) -> str | None:
    """The SFT model that this trained model started from, where it is among `methods`."""
    name = MethodName.parse(method)
    if name.stage in ("", "sft"):
        return None
    start = name.method.start if name.method else f"{name.family}_sft"
    same_variant = method.replace(name.base, start, 1)
    return next((m for m in (same_variant, start) if m in methods), None)


def in_order(methods: Sequence[str]) -> list[str]:
    """SFT models first, then the trained ones; known methods in their table's order, others by name."""
    known = [method.name for method in _TABLE.get().values()]

    def place(method: str) -> tuple[bool, int, str]:
        name = MethodName.parse(method)
        return name.stage != "sft", known.index(name.method.name) if name.method else len(known), method

    return sorted(methods, key=place)


def type_order(name: str) -> tuple[int, str]:
    """Sort key of response types: the paper's order, others after."""
    return (RESPONSE_TYPES.index(name) if name in RESPONSE_TYPES else len(RESPONSE_TYPES)), name


def shorten(text: str, width: int = 34) -> str:
    """One printable line of at most `width` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def plain(name: str) -> str:
    """`hard_refuse` as people write it: hard refuse."""
    return shorten(name.replace("_", " "), 40)


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction as `96.3 %`; a dash where there is none."""
    return f"{100 * fraction:.{digits}f} %" if math.isfinite(fraction) else "–"


def points(difference: float, digits: int = 1) -> str:
    """A difference of fractions in percentage points, signed."""
    if not math.isfinite(difference):
        return "–"
    text = f"{100 * difference:+.{digits}f}"
    return text.replace("-", "−") if float(text) else f"{0:.{digits}f}"


def with_interval(value: float, low: float, high: float) -> str:
    """A fraction with its 95 % interval, as percent; without it where it is not known."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return percent(value)
    return f"{percent(value)} ({100 * low:.1f} to {100 * high:.1f})"
