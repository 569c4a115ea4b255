"""Small frozen completions with recorded grades of the sandbox's rulebook: what the gate is tested on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from conf import CONF
from evals.graders.recorded import write_grades
from evals.rules.check import find_truth
from evals.rules.rulebook import Rulebook, load_rulebook
from evals.values.conversation import LabelledResponse, Response, user_prompt
from evals.values.grades import Grades
from evals.values.jsonl_rows import labelled_as_json, write_jsonl

SANDBOX = CONF / "rulebooks" / "sandbox.yaml"
RULES = load_rulebook(SANDBOX)


def labelled(prefix: str, prompts: int, rulebook: Rulebook = RULES) -> list[LabelledResponse]:
    """`prompts` of each response type, one completion of every class each; the texts are unlike each other."""
    rows = []
    for response_type in rulebook.response_types:
        for number in range(prompts):
            prompt = user_prompt(
                f"{prefix}-{response_type.value}-{number}", f"{prefix} asks {number}", response_type
            )
            for name, condition in rulebook.conditions_for(response_type).items():
                known = find_truth([(condition, True)]) or {}
                truth = {p: known.get(p, False) for p in rulebook.propositions}
                assert rulebook.class_of(response_type, truth) == name
                text = f"{prompt.id} <b>{name}</b> & more"
                rows.append(LabelledResponse(Response(prompt, text), truth, name))
    return rows


def grades_of(rows: list[LabelledResponse], noise: float, seed: int, names: tuple[str, ...]) -> Grades:
    """Grades near the truth, as a fair grader gives them."""
    truth = np.array([[float(row.propositions[name]) for name in names] for row in rows])
    moved = np.abs(truth - 0.03) + noise * np.random.default_rng(seed).normal(size=truth.shape)
    return Grades(names, np.clip(moved, 0.01, 0.99))


def write_world(folder: Path, prompts: int = 30, noise: float = 0.12) -> Path:
    """completions, fitting, grades, rules and reward.yaml in one folder; returns the description's path."""
    folder.mkdir(parents=True, exist_ok=True)
    completions, fitting = labelled("gate", prompts), labelled("fit", 12)
    write_jsonl(folder / "completions.jsonl", map(labelled_as_json, completions))
    bare = [LabelledResponse(row.response, row.propositions) for row in fitting]
    write_jsonl(folder / "fitting.jsonl", map(labelled_as_json, bare))
    everything = completions + fitting
    grades = grades_of(everything, noise, 0, tuple(RULES.propositions))
    responses = [row.response for row in everything]
    write_grades(folder / "grades.jsonl", "fair", responses, grades, list(RULES.propositions.values()))
    (folder / "rules.yaml").write_text(SANDBOX.read_text(encoding="utf-8"), encoding="utf-8")
    return write_description(folder / "reward.yaml", "rules.yaml")


def write_description(path: Path, rulebook: str, **changes: Any) -> Path:
    content: Mapping[str, Any] = {
        "rulebook": rulebook,
        "grader": {"kind": "recorded", "path": "grades.jsonl"},
        "weights": {"data": "fitting.jsonl"},
        **changes,
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def edited_rules(folder: Path, name: str, old: str, new: str, count: int = 1) -> Path:
    """The rulebook with one edit, and a description that uses it; returns the description's path."""
    text = (folder / "rules.yaml").read_text(encoding="utf-8")
    assert old in text
    (folder / f"{name}.yaml").write_text(text.replace(old, new, count), encoding="utf-8")
    return write_description(folder / f"{name}_reward.yaml", f"{name}.yaml")


def read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))
