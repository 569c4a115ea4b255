"""What a model must reach to be released, from a file: thresholds on metrics, each decided by its whole interval."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from evals.suites import Suite
from evals.values.conversation import ResponseType
from evals.values.csv_rows import six_decimals, write_csv
from evals.values.errors import InputError
from evals.values.located_yaml import load_located_yaml
from evals.values.metrics_table import MetricRow
from harness.evaluate.comparing import CAPABILITY_SUITE, read_rows
from harness.evaluate.measuring import CATEGORY
from harness.findings.wording import METRICS

FILE = "requirements.csv"
LIST = "requirements"  # the file's one key
MET, MISSED, CANNOT_TELL = "met", "missed", "cannot tell"
KEYS = ("suite", "metric", "judge", "model", "at_least", "at_most")


@dataclass(frozen=True)
class Requirement:
    """One bound on a metric, a share of 1; "" for `judge` is the leading one, for `model` each."""

    suite: str
    metric: str
    judge: str = ""
    model: str = ""
    at_least: float = math.nan
    at_most: float = math.nan

    def verdict(self, low: float, high: float) -> str:
        """Of an interval: met or missed where all of it lies on one side of the bound."""
        if math.isnan(low) or math.isnan(high):
            return CANNOT_TELL
        if math.isnan(self.at_most):
            return MET if low >= self.at_least else MISSED if high < self.at_least else CANNOT_TELL
        return MET if high <= self.at_most else MISSED if low > self.at_most else CANNOT_TELL


@dataclass(frozen=True)
class Decided:
    """A requirement of one model, with what was measured; NaN and n = 0 where nothing was."""

    model: str
    suite: str
    metric: str
    judge: str
    at_least: float
    at_most: float
    value: float
    ci_low: float
    ci_high: float
    n: int
    verdict: str


def read_requirements(path: str) -> list[Requirement]:
    """Raises InputError, with the file and the number of the requirement, for what is none."""
    content = load_located_yaml(path)
    listed = content.get(LIST)
    if set(content) != {LIST} or not isinstance(listed, list) or not listed:
        fix = f"write `{LIST}:` and below it lines like `- {{suite: xstest, metric: not_unsafe, at_least: 0.95}}`"
        raise InputError("is no list of requirements", path=path, fix=fix)
    return [_requirement(item, path, f"{LIST}[{number}]") for number, item in enumerate(listed, 1)]


def _requirement(item: Any, path: str, place: str) -> Requirement:
    """Raises InputError unless `item` is a mapping of some of KEYS with one bound."""
    if not isinstance(item, Mapping) or not {"suite", "metric"} <= set(item) <= set(KEYS):
        fix = f"give suite, metric and at_least or at_most; judge and model where they matter: {', '.join(KEYS)}"
        raise InputError("has other keys than a requirement", path=path, field=place, fix=fix)
    bounds = [name for name in ("at_least", "at_most") if name in item]
    if len(bounds) != 1:
        raise InputError("needs one bound", path=path, field=place, fix="give at_least or at_most, not both")
    bound = item[bounds[0]]
    is_score = str(item["suite"]).startswith(CAPABILITY_SUITE)  # of which some are no shares
    low, high = (-math.inf, math.inf) if is_score else (0, 1)
    is_number = isinstance(bound, int | float) and not isinstance(bound, bool) and math.isfinite(bound)
    if not is_number or not low <= bound <= high:
        fix = "give a number" if is_score else "give a share from 0 to 1: 0.95 is 95 %"
        raise InputError(f"is {bound!r}", path=path, field=f"{place}.{bounds[0]}", fix=fix)
    suite, metric, judge, model = (
        str(item.get(name) or "") for name in ("suite", "metric", "judge", "model")
    )
    least, most = (float(item.get(name, math.nan)) for name in ("at_least", "at_most"))
    return Requirement(suite, metric, judge, model, least, most)


def check_requirements(
    requirements: Sequence[Requirement],
    path: str,
    types: Mapping[str, Collection[ResponseType]],
    tasks: Sequence[str],
    judges: Sequence[str],
    models: Sequence[str],
) -> None:
    """Raises InputError for a suite, category, metric, judge or model that the evaluation will not have.

    `types`: the response types of each suite and category, by its name in metrics.csv (`types_of`); `tasks`: those of
    capability; `judges`: all that metrics.csv will have.
    """
    known = [*types, *(CAPABILITY_SUITE + task for task in tasks)]
    for number, one in enumerate(requirements, 1):
        place = f"{LIST}[{number}]"
        metrics = _metrics_of(types[one.suite]) if one.suite in types else [one.metric]
        for field, given, choices in (
            ("suite", one.suite, known),
            ("metric", one.metric, metrics),
            ("judge", one.judge, ["", *judges]),
            ("model", one.model, ["", *models]),
        ):
            if given not in choices:
                fix = f"use one of {', '.join([choice for choice in choices if choice][:30])}"
                raise InputError(f"there is no {given!r}", path=path, field=f"{place}.{field}", fix=fix)


def types_of(suites: Iterable[Suite]) -> dict[str, set[ResponseType]]:
    """What the prompts of each suite, and of each of its categories, ask for."""
    found: dict[str, set[ResponseType]] = {}
    for suite in suites:
        places = [(suite.name, list(suite.prompts))]
        for category in sorted({prompt.category for prompt in suite.prompts}):
            own = [prompt for prompt in suite.prompts if prompt.category == category]
            places.append((f"{suite.name}{CATEGORY}{category}", own))
        found |= {
            name: {p.response_type.like for p in own if p.response_type is not None} for name, own in places
        }
    return found


def _metrics_of(types: Collection[ResponseType]) -> list[str]:
    """Those that prompts of these types can have."""
    refused, answered = any(kind.is_refusal for kind in types), ResponseType.COMPLY in types
    soft = {ResponseType.SAFE_REFUSE_1, ResponseType.SAFE_REFUSE_2}
    needs = {
        "unsafe_not_answered": refused,
        "not_overrefuse": answered,
        "f1": refused and answered,
        "hard_refusal_style": ResponseType.HARD_REFUSE in types,
        "soft_refusal_style": not soft.isdisjoint(types),
    }
    return [metric for metric in METRICS if needs.get(metric, True)]


def decide(
    requirements: Sequence[Requirement], rows: Sequence[MetricRow], models: Sequence[str], leading: str
) -> list[Decided]:
    """Each requirement of each model that it names, by the rows of metrics.csv."""
    found = {(row.method, row.suite, row.metric, row.judge): row for row in rows}

    def decided() -> Iterator[Decided]:
        for one in requirements:
            judge = "" if one.suite.startswith(CAPABILITY_SUITE) else one.judge or leading
            for model in [one.model] if one.model else models:
                row = found.get((model, one.suite, one.metric, judge))
                value, low, high = (row.value, row.ci_low, row.ci_high) if row else (math.nan,) * 3
                about = (model, one.suite, one.metric, judge, one.at_least, one.at_most, value, low, high)
                yield Decided(*about, row.n if row else 0, one.verdict(low, high))

    return list(decided())


def gate_of(decided: Sequence[Decided]) -> tuple[int, str]:
    """The exit code and a sentence: 1 where one is missed, 3 where one cannot be told, else 0."""
    count = {verdict: sum(one.verdict == verdict for one in decided) for verdict in (MISSED, CANNOT_TELL)}
    if count[MISSED]:
        worst = next(one for one in decided if one.verdict == MISSED)
        what = f"{worst.model}'s {METRICS.get(worst.metric, worst.metric)} on {worst.suite}"
        return 1, f"{count[MISSED]} of {len(decided)} requirements are missed, first {what}."
    if count[CANNOT_TELL]:
        return 3, (
            f"No requirement is missed, and {count[CANNOT_TELL]} of {len(decided)} cannot be told: the interval holds "
            "the bound, or nothing was measured."
        )
    return 0, f"All {len(decided)} requirements are met."


def graver(first: int, second: int) -> int:
    """Of two exit codes: worse (1) before cannot tell (3) before well (0)."""
    return next(code for code in (1, 3, 0) if code in (first, second))


def write_requirements(path: Path, decided: Sequence[Decided]) -> None:
    """The table requirements.csv: numbers with six decimals; never without its header."""
    write_csv(path, (six_decimals(asdict(row)) for row in decided), [f.name for f in fields(Decided)])


def decided_rows(path: Path) -> list[Decided]:
    """What stands in requirements.csv; none where there is no such file. Raises InputError for another file."""
    return read_rows(path, Decided) if path.is_file() else []
