"""One run's rows, and the tables of a run or of a sweep's runs that they are written to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.judges.card import JudgeCard
from evals.values.csv_rows import write_csv
from evals.values.jsonl_rows import write_jsonl
from evals.values.metrics_table import MetricRow, write_metrics
from harness.record.evaluation import CAPABILITY
from harness.record.reward_rows import TABLES, WORST
from harness.record.run import ATTRIBUTION, GRADER_BY_TYPE, SHARED_ERRORS, WRITING
from harness.record.samples import VERDICTS
from harness.record.to_label import COLUMNS, Written, to_label
from harness.record.to_label import FILE as TO_LABEL
from harness.storage.disk import write_json


@dataclass(frozen=True)
class Collected:
    """One run's rows, before they are written; `variant` tells runs of a sweep apart beside the seed."""

    metrics: list[MetricRow]
    training: list[dict[str, Any]]
    rewards: list[dict[str, Any]]
    calibration: list[dict[str, Any]]
    samples: dict[str, list[dict[str, Any]]]
    stages: list[dict[str, Any]]
    world: dict[str, Any]
    diagnosis: dict[str, list[dict[str, Any]]]  # by file name
    verdicts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by method
    models: list[dict[str, Any]] = field(default_factory=list)  # what a comparison with each must know
    notes: list[str] = field(default_factory=list)  # of responses that are missing
    cards: dict[str, JudgeCard] = field(default_factory=dict)  # by judge
    items: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # of capability tasks, by method
    by_type: list[dict[str, Any]] = field(default_factory=list)  # `calibration` by response type
    writing: list[dict[str, Any]] = field(default_factory=list)  # what a writer was asked for, and gave
    # Of the last checkpoints, where people label.
    answers: dict[str, list[Written]] = field(default_factory=dict)
    shared_errors: list[dict[str, Any]] = field(default_factory=list)  # of grader and judge
    ceilings: list[dict[str, Any]] = field(default_factory=list)  # how far each training went to its ceiling


def write_results(folder: Path, parts: Sequence[Collected], labels: int = 0) -> None:
    """Write the tables of one run, or of all runs of a sweep, under `folder`; with `labels`, what people label."""
    if labels:
        answers = {name: of for part in parts for name, of in part.answers.items()}
        write_csv(folder / TO_LABEL, to_label(answers, labels, parts[0].stages[0]["seed"]), COLUMNS)
    write_metrics(folder / "metrics.csv", [row for part in parts for row in part.metrics])
    write_jsonl(folder / "training.jsonl", (row for part in parts for row in part.training))
    # One sample of rewards a seed: the histograms pool responses, and variants would repeat them.
    first = {row["seed"]: part for part in reversed(parts) for row in part.rewards[:1]}
    write_jsonl(folder / "rewards.jsonl", (row for seed in sorted(first) for row in first[seed].rewards))
    for name in TABLES:
        write_csv(folder / name, [r for seed in sorted(first) for r in first[seed].diagnosis[name]])
    write_jsonl(folder / WORST, (row for seed in sorted(first) for row in first[seed].diagnosis[WORST]))
    write_jsonl(folder / "stages.jsonl", (row for part in parts for row in part.stages))
    write_csv(folder / "grader.csv", [row for part in parts for row in part.calibration])
    if typed := [row for part in parts for row in part.by_type]:
        write_csv(folder / GRADER_BY_TYPE, typed)
    shared = {
        part.shared_errors[0]["seed"]: part.shared_errors for part in reversed(parts) if part.shared_errors
    }
    if rows := [row for seed in sorted(shared) for row in shared[seed]]:
        write_csv(folder / SHARED_ERRORS, rows)
    if writing := [row for seed in sorted(first) for row in first[seed].writing]:
        write_csv(folder / WRITING, writing)
    if ceilings := [row for part in parts for row in part.ceilings]:
        write_jsonl(folder / ATTRIBUTION, ceilings)
    if cards := _cards(parts):
        write_json(folder / "judges.json", cards)
    (folder / "samples").mkdir(exist_ok=True)
    for name in dict.fromkeys(name for part in parts for name in part.samples):
        rows = [row for part in parts for row in part.samples.get(name, [])]
        write_jsonl(folder / "samples" / f"{name}.jsonl", rows)
    _write_packed(folder / VERDICTS, [part.verdicts for part in parts])
    _write_packed(folder / CAPABILITY, [part.items for part in parts])


def _cards(parts: Sequence[Collected]) -> dict[str, dict[str, Any]]:
    """By judge; of one that each run of a sweep has trained anew, by judge and number of the run."""
    found: dict[str, dict[str, Any]] = {}
    for i, part in enumerate(parts):
        for name, card in part.cards.items():
            alike = all(name in p.cards and p.cards[name].as_json() == card.as_json() for p in parts)
            found[name if alike else f"{name}-{i}"] = card.as_json()
    return found


def _write_packed(folder: Path, parts: Sequence[Mapping[str, list[dict[str, Any]]]]) -> None:
    """METHOD.jsonl.gz with the rows of every part."""
    folder.mkdir(exist_ok=True)
    for name in dict.fromkeys(name for part in parts for name in part):
        write_jsonl(folder / f"{name}.jsonl.gz", (row for part in parts for row in part.get(name, [])))
