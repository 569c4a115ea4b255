"""results/NAME of a gate: everything that was found as figures, and both rewards as recorded.

gate.json         verdict, checks, flips, moves, shifts; no text of prompts and completions
baseline.jsonl    what the side says of every completion, in their order, as a later gate reads it; so candidate.jsonl
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evals.graders.recorded import asked
from evals.values.grades import Grades
from evals.values.jsonl_rows import write_jsonl
from harness.gate.ceilings import Ceilings
from harness.gate.flips import Flip
from harness.gate.gate import GateReport
from harness.gate.rewards import RewardSide
from harness.record.manifest import Kind, recording
from harness.record.run import spending_part
from harness.storage.digest import figures
from harness.storage.disk import write_json
from harness.subjects.completions import CompletionSet
from harness.subjects.recorded_rewards import reward_rows

GATE = "gate.json"


def write_record(report: GateReport, command: Sequence[str]) -> Path:
    """Write the folder, whose path it returns. Raises InputError where another command's results lie."""
    folder = Path(report.config.results) / report.config.name
    about = spending_part(report.spending)
    with recording(folder, Kind.GATE, report.config.name, command, report.notes, **about) as new:
        for name, side in report.sides.items():
            write_jsonl(new / f"{name}.jsonl", recorded_rows(report.completions, side))
        write_json(new / GATE, json_figures(report))
    return folder


def json_figures(report: GateReport) -> dict[str, Any]:
    """Everything but the texts; NaN is null."""
    completions, counted = report.completions, report.completions.counted(report.config.cluster)
    return {
        "verdict": report.outcome.verdict.value,
        "exit_code": report.outcome.verdict.exit_code,
        "reasons": list(report.outcome.reasons),
        "config": figures(asdict(report.config)),
        "completions": {
            "name": completions.name,
            "digest": completions.digest,
            "completions": len(completions),
            "prompts": len(set(completions.prompts)),
            "cluster": counted.kind,
            "units": len(set(counted.ids)),
            "left_out": completions.left_out,
            "truth": report.truth,
        },
        "has_classes": {name: side.classes is not None for name, side in report.sides.items()},
        "baseline": _about(report.baseline),
        "candidate": _about(report.candidate),
        "checks": [
            figures({**asdict(t), "change": {**asdict(t.change), "change": t.change.change}})
            for t in report.outcome.checks
        ],
        "flips": [
            figures({**asdict(f), "worst": [_flip_figures(report, flip) for flip in f.worst]})
            for f in report.flips
        ],
        "class_moves": [figures(asdict(move)) for move in report.moves],
        "shifts": [figures(asdict(shift)) for shift in report.shifts],
        "disagreements": [figures(asdict(d)) for d in report.disagreements],
        "unscored": [figures(asdict(u)) for u in report.unscored],
        "rule_changes": [figures(asdict(change)) for change in report.rule_changes],
        "notes": list(report.notes),
        **({} if report.ceilings is None else {"ceiling": _ceiling(report.ceilings)}),
    }


def _ceiling(asked: Ceilings) -> dict[str, Any]:
    samples = asked.samples
    about = {"samples": samples.name, "digest": samples.digest, "judge": samples.judge, "beta": asked.beta}
    return {**about, "prompts": len(samples.prompts), **figures(dict(asked.shares))}


def _about(side: RewardSide) -> dict[str, Any]:
    return {"source": side.source, "kind": side.kind, **side.about}


def _flip_figures(report: GateReport, flip: Flip) -> dict[str, Any]:
    completions = report.completions
    return {
        "prompt_id": completions.prompts[flip.better],
        "rows": [flip.better, flip.worse],
        "classes": [completions.classes[flip.better], completions.classes[flip.worse]],
        "baseline_gap": flip.baseline_gap,
        "candidate_gap": flip.candidate_gap,
        "deciding": dict(flip.deciding),
    }


def recorded_rows(completions: CompletionSet, side: RewardSide) -> list[dict[str, Any]]:
    """A side as the file that a later gate reads as its baseline, in the order of the completions."""
    rows = list(reward_rows(completions.responses, side.breakdown, side.classes))
    for response_type, grades in side.grades.items():
        for number, place in enumerate(completions.rows(response_type).tolist()):
            rows[place] |= _graded(side, grades, number)
    rows[0] |= asked(side.questions, side.template)
    return rows


def _graded(side: RewardSide, grades: Grades, row: int) -> dict[str, Any]:
    values = dict(zip(grades.propositions, grades.probability[row].tolist(), strict=True))
    reasons = {
        name: grades.reasons[row, j]
        for j, name in enumerate(grades.propositions)
        if (row, j) in grades.reasons
    }
    shown: dict[str, Any] = {
        "grader": side.grader,
        "grades": {n: v for n, v in values.items() if n not in reasons},
    }
    return shown | ({"reasons": reasons} if reasons else {})
