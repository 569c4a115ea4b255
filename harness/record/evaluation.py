"""A finished evaluation as its folder holds it: what was asked and how, and each prompt's verdicts.

manifest.json   `evaluation`: suites with their versions, judges with their identities, models with template and
                decoding, the capability items
judges.json     each measured judge's card
samples/MODEL.jsonl      one row a response, as `harness.record.samples` says
                         A run's manifest has `measured` in its place: each method's last checkpoint, with suites and
                         judges of its own; its verdicts are those of verdicts/METHOD.jsonl.gz
capability/MODEL.jsonl   one row a task and metric: `outcomes`, {item: 0 to 1}, `higher_is_better`, `num_fewshot`;
                         of a run METHOD.jsonl.gz, with `seed` and `checkpoint`
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from evals.judges import Judgement
from evals.judges.card import JudgeCard
from evals.judges.measures import Reading, not_refused, not_unsafe
from evals.values.clusters import PLURAL, PROMPT
from evals.values.conversation import ResponseType
from evals.values.errors import InputError
from evals.values.json_text import read_json
from harness.keys.shared import file_name
from harness.record.finished_run import RunAddress, is_run
from harness.record.run import JsonRow, ResultsFolder
from harness.record.samples import VERDICTS

KIND, MEASURED = "evaluation", "measured"
GATE = "gate"  # what the manifest says where a baseline or requirements decide
CAPABILITY = "capability"  # the folder, and what the manifest says of the tasks
ABOUT = ("higher_is_better", "num_fewshot")
SHARES: Mapping[str, Reading] = {"not_unsafe": not_unsafe, "not_overrefuse": not_refused}


@dataclass(frozen=True)
class PromptShares:
    """One (model, suite, judge): {metric: {prompt: share of its scored samples}}, NaN where none is scored."""

    shares: Mapping[str, Mapping[str, float]]
    response_types: Mapping[str, str]
    clusters: Mapping[str, str] | None = None  # each prompt's category or topic, where these are counted


class Evaluation:
    """Reads each file on first use. `place` is a folder of results, of a run perhaps with METHOD and SEED (see
    `RunAddress`); a run's model is its last checkpoint or, with `every_checkpoint`, the mean of all that were
    measured. Raises InputError for a folder that is no finished evaluation, and for a run without verdicts.
    """

    def __init__(self, place: Path | str, *, every_checkpoint: bool = False) -> None:
        self.every_checkpoint = every_checkpoint
        address = RunAddress.parse(str(place))
        self.folder = ResultsFolder(address.folder)
        record = self.folder.manifest.get(KIND) or self.folder.manifest.get(MEASURED)
        if not isinstance(record, dict):
            older = is_run(address.folder)
            raise InputError(
                "this run kept no verdict of every response" if older else "no finished evaluation lies here",
                path=self.folder.path,
                fix="run it again, with its store at hand nothing is trained anew"
                if older
                else "name a folder that `rbrbench evaluate` or `rbrbench run` has written",
            )
        self.record: dict[str, Any] = _named(record, address)
        self.is_chosen = bool(address.method) or address.seed is not None  # of several models

    @property
    def models(self) -> list[str]:
        return list(self.record["models"])

    def about(self, model: str, what: str) -> dict[str, Any]:
        """`suites`, `judges` or `capability` of a model: a run of several seeds has a world, and judges, for each."""
        found: dict[str, Any] = self.record["models"][model].get(what) or self.record.get(what, {})
        return found

    def cluster(self, suite: str, model: str = "") -> str:
        """What the intervals of a suite, of one model's perhaps, count as one."""
        suites = self.about(model, "suites") if model else self.record["suites"]
        older = self.record.get("cluster")  # one for all suites
        found = suites.get(suite, {}).get("cluster", older)
        return found if found in PLURAL else PROMPT

    @property
    def suites(self) -> list[str]:
        return list(self.record["suites"])

    @property
    def judges(self) -> list[str]:
        return list(self.record["judges"])

    @cached_property
    def cards(self) -> dict[str, JudgeCard]:
        """Each measured judge's card."""
        return read_cards(self.folder.path)

    @cached_property
    def prompt_shares(self) -> dict[tuple[str, str, str], PromptShares]:
        """By (model, suite, judge)."""
        found = {}
        for model in self.models:
            by_suite: dict[str, list[JsonRow]] = {}
            for row in self._rows(model):
                by_suite.setdefault(str(row.get("suite", "")), []).append(row)
            for suite, rows in by_suite.items():
                for judge in self.judges:
                    found[model, suite, judge] = _shares(rows, judge, self.cluster(suite, model))
        return found

    def verdicts(self, suite: str, what: str, judges: Sequence[str]) -> list[list[float]]:
        """[judges, responses of every model]: 1 and 0 of `disallowed` or `refused`, NaN where a judge does not say."""
        rows = [row for model in self.models for row in self._rows(model) if row.get("suite", suite) == suite]
        said = [[row.get(judge) for row in rows] for judge in judges]
        return [
            [_as_number(one.get(what)) if isinstance(one, dict) else math.nan for one in of] for of in said
        ]

    def _rows(self, model: str) -> list[JsonRow]:
        """A row with verdicts a response of the model."""
        about = self.record["models"][model]
        if "method" not in about:
            return self.folder.samples.get(model, [])
        return self._of_run(VERDICTS, about, {"prompt_id": str})

    def _of_run(self, kept: str, about: JsonRow, fields: Mapping[str, type]) -> list[JsonRow]:
        """The rows of a run's model in a folder that has those of every seed and checkpoint."""
        rows = self.folder.rows(f"{kept}/{about['method']}.jsonl.gz", {"seed": int, **fields})
        mine = [row for row in rows if row["seed"] == about["seed"]]
        return [r for r in mine if self.every_checkpoint or r.get("checkpoint") == about["checkpoint"]]

    @cached_property
    def capability(self) -> dict[tuple[str, str, str], dict[str, float]]:
        """{item: outcome} by (model, task, metric)."""
        return {
            key: {
                str(item): _mean([float(row["outcomes"][item]) for row in rows])
                for item in rows[0]["outcomes"]
            }
            for key, rows in self._capability_rows.items()
        }

    def about_metric(self, model: str, task: str, metric: str) -> dict[str, Any]:
        """`higher_is_better` and `num_fewshot` of a capability task's metric, as far as they are known."""
        rows = self._capability_rows.get((model, task, metric), [])
        return {k: v for row in rows[:1] for k, v in row.items() if k in ABOUT}

    @cached_property
    def _capability_rows(self) -> dict[tuple[str, str, str], list[JsonRow]]:
        """One row a checkpoint."""
        fields: dict[str, type] = {"task": str, "metric": str, "outcomes": dict}
        found: dict[tuple[str, str, str], list[JsonRow]] = {}
        for model, about in self.record["models"].items():
            if "method" in about:
                rows = self._of_run(CAPABILITY, about, fields)
            else:
                rows = self.folder.rows(f"{CAPABILITY}/{model}.jsonl", fields)
            for row in rows:
                found.setdefault((model, row["task"], row["metric"]), []).append(row)
        return found


def clusters_counted(folder: ResultsFolder) -> dict[str, str]:
    """{suite: what its intervals count as one}; {} for a record that does not say what it asked."""
    asked = KIND in folder.manifest or MEASURED in folder.manifest
    record = Evaluation(folder.path) if asked else None
    return {suite: record.cluster(suite) for suite in record.suites} if record else {}


def read_cards(folder: Path) -> dict[str, JudgeCard]:
    """Each measured judge's card of a record; of `rbrbench xstest`, older ones have them listed in cards.json."""
    path = next((p for p in (folder / "judges.json", folder / "cards.json") if p.is_file()), None)
    if path is None:
        return {}
    found = read_json(path, "evaluate again")
    if isinstance(found, list):
        found = {card["judge"]: card for card in found}
    return {str(name): JudgeCard.of_json(values) for name, values in found.items()}


def finished_evaluation(folder: Path) -> Evaluation:
    """What `rbrbench evaluate` wrote. Raises InputError for other results: they say less of their models."""
    evaluation = Evaluation(folder)
    if KIND not in evaluation.folder.manifest:
        raise InputError(
            "is not of an evaluation", path=folder, fix="evaluate the run's models: rbrbench evaluate run="
        )
    return evaluation


def measured(models: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A run's models under their names: the method's, with the seed where there are several seeds."""
    seeds = {model["seed"] for model in models}
    names = [m["method"] if len(seeds) == 1 else f"{m['method']}-{m['seed']}" for m in models]
    shared = {what: models[0][what] if models else {} for what in ("suites", "judges")}
    return {**shared, "models": {file_name(n): m for n, m in zip(names, models, strict=True)}}


def _named(record: dict[str, Any], address: RunAddress) -> dict[str, Any]:
    """The record with the models that `address` names. Raises InputError where it names none of them."""
    models = record["models"]
    if not address.method and address.seed is None:
        return record
    kept = {n: m for n, m in models.items() if address.fits(m.get("method", n), m.get("seed", -1))}
    if not kept:
        known = dict.fromkeys(
            f"{m.get('method', n)}:{m['seed']}" if "seed" in m else n for n, m in models.items()
        )
        raise InputError("there is no such model", path=address.folder, fix=f"use one of {', '.join(known)}")
    return record | {"models": kept}


def _shares(rows: Iterable[JsonRow], judge: str, cluster: str) -> PromptShares:
    types: dict[str, str] = {}
    clusters: dict[str, str] | None = None if cluster == PROMPT else {}
    verdicts: dict[str, dict[str, list[float]]] = {name: {} for name in SHARES}
    for row in rows:
        id, judgement = str(row["prompt_id"]), _judgement(row, judge)
        types[id] = judgement.response_type.value
        if clusters is not None:
            clusters[id] = str(row.get(cluster, id))
        for name, verdict in SHARES.items():
            if name == "not_overrefuse" and judgement.response_type.is_refusal:
                continue
            value = verdict(judgement)
            verdicts[name].setdefault(id, []).append(math.nan if value is None else float(value))
    return PromptShares(
        {name: {id: _mean(v) for id, v in of.items()} for name, of in verdicts.items()}, types, clusters
    )


def _judgement(row: JsonRow, judge: str) -> Judgement:
    said = row.get(judge)
    said = said if isinstance(said, dict) else {}
    kind = ResponseType.parse(str(row["response_type"]))
    return Judgement(str(row["prompt_id"]), kind, said.get("disallowed"), said.get("refused"), None)


def _as_number(verdict: object) -> float:
    return float(verdict) if isinstance(verdict, bool) else math.nan


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
