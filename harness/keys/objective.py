"""`objective=[METHOD:METRIC[:JUDGE:SUITE]]`: what a run tells a sweeper, and the names that it may have."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from evals.values.errors import InputError
from harness.keys.data import DataSource
from harness.keys.evaluation import OWN_JUDGES, OWN_SUITE, CapabilityConfig, EvaluationConfig

# What `evals.judges.measures`, which loads numpy, says of a suite; NOT_UNSAFE of its prompts of each kind, too.
NOT_UNSAFE = "not_unsafe"
JUDGED = ("f1", NOT_UNSAFE, "not_overrefuse", "hard_refusal_style", "soft_refusal_style")
KINDS = ("comply", "hard_refuse", "soft_refuse")
EVERY_TASK, SOME_TASKS = "acc", "acc_norm"  # of the sandbox's own tasks
TASK, CORRECTED, ANY = "capability/", "+ppi", "*"


@dataclass(frozen=True)
class SweepObjective:
    """`judge` and `suite` are "" where they are not named: the first of the run's own then."""

    method: str
    metric: str
    judge: str = ""
    suite: str = ""

    def __str__(self) -> str:
        return ":".join((self.method, self.metric, self.judge, self.suite)).rstrip(":")


def read_objective(asked: str, methods: Sequence[str]) -> SweepObjective:
    """Raises InputError for another form, and for a method that is not one of these."""
    name, *rest = asked.split(":")
    if name not in methods or not 1 <= len(rest) <= 3:
        fix = f"write METHOD:METRIC, such as {methods[-1]}:f1, METHOD one of {', '.join(methods)}"
        raise InputError(f"is {asked!r}", field="objective", fix=fix)
    return SweepObjective(name, *rest)


Measurement = tuple[str, str, str]
"""A metric, the suite or task that it is of, and who judged; "" of a task."""


def check_objective(objective: SweepObjective, measured: Sequence[Measurement]) -> None:
    """Raises InputError for a metric, suite or judge that is not among what a run has, and for one of several tasks."""
    rows = list(measured)
    for place, name in enumerate(("metric", "suite", "judge")):
        given = getattr(objective, name)
        if given or name == "metric":
            known = list(dict.fromkeys(row[place] for row in rows))
            rows = [row for row in rows if row[place] in (given, ANY)]
            if not rows:
                raise _unknown(objective, name, given, known)
    tasks = [suite for metric, suite, _ in rows if metric == EVERY_TASK]
    if len(tasks) > 1:
        problem = f"is {str(objective)!r}, which {len(tasks)} tasks have"
        fix = f"name one: {objective.method}:{objective.metric}::{tasks[0]}"
        raise InputError(problem, field="objective", fix=fix)


def measured_by(
    source: DataSource, keys: EvaluationConfig, capability: CapabilityConfig
) -> list[Measurement]:
    """Every metric, suite and judge that a run may have: more than it has, as some suites lack some metrics.

    Real tasks have the metrics of lm-eval's files, which only a run reads: theirs is ANY.
    """
    judges = [*OWN_JUDGES[source], *keys.judges]
    judges += [f"{judge}{CORRECTED}" for judge in judges if keys.correction.by is not None]
    suites = [OWN_SUITE[source], *keys.suites]
    parts = [f"{suite}/{kind}" for suite in suites for kind in KINDS]
    tasks = [f"{TASK}{task}" for task in dict.fromkeys(capability.tasks)]
    metrics = (EVERY_TASK, SOME_TASKS) if capability.root is None else (ANY,)
    judged = [*product(JUDGED, suites, judges), *product([NOT_UNSAFE], parts, judges)]
    return [*judged, *product(metrics, tasks, [""])]


def _unknown(objective: SweepObjective, name: str, given: str, known: Sequence[str]) -> InputError:
    """The nearest names first."""
    of = "this run" if name == "metric" else objective.metric
    problem = f"is {str(objective)!r}, and no {name} of {of} is called {given!r}"
    named = [one for one in known if one not in ("", ANY)]
    near = difflib.get_close_matches(given, named, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    fix = f"{hint}use one of {', '.join(named)}" if named else f"leave it out: {objective.metric} has none"
    return InputError(problem, field="objective", fix=fix)
