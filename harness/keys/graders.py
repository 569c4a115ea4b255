"""Which grader or reward model a command asks: its kind, of the product's own or from outside, and where it lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evals.graders import GRADERS
from evals.values.choice import Choice
from evals.values.errors import InputError
from evals.values.kinds import check_kind, is_outside, kinds_known

GRADER_KINDS: Mapping[str, str] = {**GRADERS, "oracle": "harness.worlds.sandbox.oracle:build"}
REWARD_MODELS: Mapping[str, str] = {
    "recorded": "harness.subjects.description:recorded_scores",
    "model": "harness.subjects.description:scoring_model",
}
# Kinds that are a causal language model, with its chat template; then all that load a model here.
CAUSAL = ("language_model", "granite_guardian")
MODELS = (*CAUSAL, "encoder")
RENAMED = {"grader": "grader.kind", "model": "grader", "server.base_url": "server.url"}  # of gold and fit


class AskedBy(Choice):
    """How a language model is asked."""

    MODEL = "model"
    RULEBOOK = "rulebook"


@dataclass
class GraderKeys:
    """The grader. One of kind server is described by `server`."""

    kind: str = ""  # language_model, granite_guardian, encoder, server, recorded, oracle, or MODULE:ATTRIBUTE
    path: str | None = None  # folder or hub id; recorded: its file; oracle: the sandbox's world
    chat_template: dict[str, Any] = field(default_factory=dict)  # of a language model: .enable_thinking=false

    def __post_init__(self) -> None:
        check_template_keys(self.kind, self.chat_template, "grader")


@dataclass
class RewardModelKeys:
    """The reward model that the rules are fitted beside; without one they are fitted alone."""

    path: str | None = None  # folder or hub id of a one-output classifier, or a .jsonl of recorded scores
    kind: str = ""  # recorded, model, or package.module:attribute; empty: what lies at the path

    def __post_init__(self) -> None:
        if self.path is not None and not self.kind:
            self.kind = "recorded" if self.path.endswith((".jsonl", ".jsonl.gz")) else "model"
        if self.kind:
            check_kind("reward model", self.kind, REWARD_MODELS, "reward_model.kind")
        if self.path is None and self.kind in REWARD_MODELS:
            problem = f"a reward model of kind {self.kind} has no path"
            raise InputError(problem, field="reward_model.path", fix="give its folder or file")


def check_template_keys(kind: str, keys: Mapping[str, Any], place: str) -> None:
    """Raises InputError for keys of a chat template where the grader has none."""
    if keys and kind not in CAUSAL:
        fix = f"leave it out, or say {place}.kind=language_model"
        if kind == "server":
            fix = f"say server.chat_template, or {place}.server.chat_template in a run"
        raise InputError("is a language model's, of a path", field=f"{place}.chat_template", fix=fix)


def check_grader(kind: str, path: str | None, place: str, no_path: tuple[str, ...] = ("server",)) -> None:
    """Raises InputError for an unknown kind, and for a grader that lies nowhere but of a kind in `no_path`.

    `place` is the group of the two keys.
    """
    if not kind:
        fix = f"use one of {kinds_known(GRADER_KINDS)}"
        raise InputError("no grader is named", field=f"{place}.kind", fix=fix)
    check_kind("grader", kind, GRADER_KINDS, f"{place}.kind")
    if path is None and kind not in no_path and not is_outside(kind):
        problem = f"a grader of kind {kind} has no path"
        raise InputError(problem, field=f"{place}.path", fix="give its folder or file")
