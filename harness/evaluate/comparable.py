"""Which models of two evaluations are compared with each other, and what forbids it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evals.values.errors import InputError
from harness.record.evaluation import CAPABILITY, Evaluation


@dataclass(frozen=True)
class ModelSide:
    """One model of one evaluation; `name` is how tables call it."""

    evaluation: Evaluation
    model: str
    name: str


def obstacles(first: ModelSide, second: ModelSide) -> list[str]:
    """What differs between two evaluations besides the model: each would be taken for the model's doing."""
    a, b = first.evaluation.record, second.evaluation.record
    suites = [side.evaluation.about(side.model, "suites") for side in (first, second)]
    judges = [side.evaluation.about(side.model, "judges") for side in (first, second)]
    found = []
    for name in suites[0].keys() & suites[1].keys():
        ours, theirs = suites[0][name]["version"], suites[1][name]["version"]
        if ours != theirs:
            found.append(f"version of suite {name} ({ours} against {theirs})")
    if not judges[0].keys() & judges[1].keys():
        found.append(f"judge ({', '.join(judges[0])} against {', '.join(judges[1])})")
    for name in judges[0].keys() & judges[1].keys():
        if judges[0][name]["identity"] != judges[1][name]["identity"]:
            found.append(f"judge {name} (other settings or another version)")
    ours, theirs = a["models"][first.model], b["models"][second.model]
    for what in ("template", "decoding"):
        if ours[what] != theirs[what]:
            found.append(f"{what} ({_said(ours[what])} against {_said(theirs[what])})")
    tasks = [side.evaluation.about(side.model, CAPABILITY) for side in (first, second)]
    if all(tasks):
        found += _capability_obstacles(*tasks)
    return sorted(found)


def _capability_obstacles(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Of the tasks that both have; other tasks are not compared."""
    if isinstance(a["tasks"], list) or isinstance(b["tasks"], list):  # written before tasks had versions
        return [] if a == b else ["items of the capability tasks"]
    found = []
    if any(a[key] != b[key] for key in ("limit", "seed")):
        found.append("items of the capability tasks (limit or seed)")
    for name in a["tasks"].keys() & b["tasks"].keys():
        for key, what in (("version", "version"), ("num_fewshot", "few-shot examples")):
            ours, theirs = a["tasks"][name][key], b["tasks"][name][key]
            if ours != theirs:
                found.append(f"{what} of capability task {name} ({_said(ours)} against {_said(theirs)})")
    return found


def pair_with_baseline(ours: Evaluation, baseline: Evaluation) -> list[tuple[ModelSide, ModelSide]]:
    """Models by name; where the baseline names one, or no name is in common, each with the only one that the baseline
    has, of its own seed where it has several seeds. Raises InputError where no model has a partner.
    """
    label = baseline.folder.name
    names = (
        [] if baseline.is_chosen else [(model, model) for model in ours.models if model in baseline.models]
    )
    names = names or [(a, b) for a in ours.models if (b := _only_one(ours, a, baseline))]
    if not names:
        raise InputError(
            f"the baseline has the models {', '.join(baseline.models)}, none of {', '.join(ours.models)}",
            field="baseline",
            fix="name one of them (of a run: baseline=results/NAME:METHOD:SEED), or give both the same names",
        )
    return [(ModelSide(ours, a, a), ModelSide(baseline, b, f"{b} ({label})")) for a, b in names]


def _only_one(ours: Evaluation, model: str, baseline: Evaluation) -> str:
    """The baseline's one model, of the seed of ours where there are several; else ""."""
    of, theirs = ours.record["models"][model], baseline.record["models"]
    mine = [name for name, about in theirs.items() if "seed" in of and about.get("seed") == of["seed"]]
    fitting = list(theirs) if len(theirs) == 1 else mine
    return fitting[0] if len(fitting) == 1 else ""


def check_comparable(pairs: Sequence[tuple[ModelSide, ModelSide]], anyway: bool) -> list[str]:
    """The obstacles of all pairs, to be shown. Raises InputError naming them unless told to go on."""
    found = sorted({obstacle for pair in pairs for obstacle in obstacles(*pair)})
    common = [pair for pair in pairs if _common(*pair)]
    if not common:
        raise InputError(
            "the two evaluations have neither a suite nor a capability task in common",
            field="baseline",
            fix="evaluate the same suites",
        )
    if found and not anyway:
        raise InputError(
            f"the evaluations differ in more than the model: {'; '.join(found)}",
            field="baseline",
            fix="evaluate both alike, or set compare_anyway=true",
        )
    return found


def _common(first: ModelSide, second: ModelSide) -> bool:
    suites = first.evaluation.about(first.model, "suites")
    tasks = [{key[1:] for key in side.evaluation.capability} for side in (first, second)]
    return any(twin(name, first, second) for name in suites) or bool(tasks[0] & tasks[1])


def _said(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return str(value)


def twin(suite: str, first: ModelSide, second: ModelSide) -> str:
    """What `second` calls the suite: the same name, else the suite of the same prompts, else ""."""
    ours, theirs = (side.evaluation.about(side.model, "suites") for side in (first, second))
    if suite in theirs:
        return suite
    version = ours.get(suite, {}).get("version")
    return next((name for name, about in theirs.items() if about["version"] == version), "")
