"""What people read: names of methods, judges, rewards and metrics, and numbers in percent."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count

from evals.values.clusters import PLURAL, PROMPT
from evals.values.conversation import KINDS
from harness.keys.methods import METHODS, Method
from trainers.rl.config import Algorithm

JUDGES = {"oracle": "the oracle (truth)", "auto": "the automated judge", "human": "people", "": "the task"}
JUDGE_ORDER = ("oracle", "human", "auto")
REWARDS = {"rm": "RM", "rm+rbr": "RM + RBR", "rbr": "RBR"}
METRICS = {
    "not_unsafe": "Not-Unsafe",
    "unsafe_not_answered": "Unsafe not answered",
    "not_overrefuse": "Not-Overrefuse",
    "f1": "F1",
    "hard_refusal_style": "Hard-Refusal-Style",
    "soft_refusal_style": "Soft-Refusal-Style",
}
ALGORITHMS = tuple(algorithm.value for algorithm in Algorithm)
RESPONSE_TYPES = ("hard_refuse", "safe_refuse_1", "safe_refuse_2", "comply")  # the paper's order

_TABLE: ContextVar[Mapping[str, Method]] = ContextVar("_TABLE", default=METHODS)
# {(width, label): name} of what is written at present; None outside of a report.
_GIVEN: ContextVar[dict[tuple[int, str], str] | None] = ContextVar("_GIVEN", default=None)


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
        settings = [setting.partition("=") for setting in name.variant.split(",")]
        short = [f"{key.rpartition('.')[2]} {value}" if mark else key for key, mark, value in settings]
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


def units_sampled(cluster: str) -> str:
    """What intervals count, in words: prompts, or what is taken to err together."""
    together = "" if cluster == PROMPT else ", whose prompts are taken to err together"
    return f"{PLURAL.get(cluster, cluster)}{together}"


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


@contextmanager
def distinct_labels() -> Iterator[None]:
    """Inside, `shorten` gives no two names one label: rows of a table could not be told apart."""
    token = _GIVEN.set({} if _GIVEN.get() is None else _GIVEN.get())
    try:
        yield
    finally:
        _GIVEN.reset(token)


def shorten(text: str, width: int = 34) -> str:
    """One printable line of at most `width` characters, cut in the middle: names differ at their ends, mostly.

    Inside `distinct_labels` a second name with the same label is cut to where it differs, else numbered.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(line) <= width:
        return line
    given = _GIVEN.get()
    return _cut(line, width) if given is None else _unlike_others(line, width, given)


def _cut(line: str, width: int) -> str:
    end = (width - 1) * 2 // 5
    return f"{line[: width - 1 - end]}…{line[-end:]}"


def _unlike_others(line: str, width: int, given: dict[tuple[int, str], str]) -> str:
    """`given` is {(width, label): the name that has it}, and gets this one."""
    for label in _candidates(line, width, given.get((width, _cut(line, width)), line)):
        if given.setdefault((width, label), line) == line:
            return label
    raise AssertionError("numbers do not end")


def _candidates(line: str, width: int, other: str) -> Iterator[str]:
    yield _cut(line, width)
    start, room = width // 3, width - width // 3 - 2
    place = next((i for i, pair in enumerate(zip(line, other, strict=False)) if len({*pair}) > 1), len(other))
    shown = max(start, min(place - 2, len(line) - room))
    rest = line[shown : shown + room]
    yield f"{line[:start]}…{rest}{'…' if shown + room < len(line) else ''}"
    for number in count(2):
        mark = f" ({number})"
        yield _cut(line, width - len(mark)) + mark


def plain(name: str) -> str:
    """`hard_refuse` as people write it: hard refuse; a response type of one's own with its kind."""
    kind, is_own, own = name.partition(":")
    name = f"{own} ({kind})" if is_own and kind in KINDS else name
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
