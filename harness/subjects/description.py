"""A reward as a file: rulebook, grader, weights, reward model.

    rulebook: rules.yaml            # a file, or the name of one in conf/rulebooks
    grader:
      kind: recorded                # recorded, language_model, encoder, server or oracle
      path: grades.jsonl            # server: `server: {url: URL, model: NAME}` instead, with more of its keys
    weights: weights.json           # what `rbrbench fit` wrote, or fitted here and now:
    # weights: {data: labelled.jsonl, l2: 0.001, sign_constraints: true}
    reward_model:                   # may be left out
      kind: recorded                # or model: a folder or hub name of a one-output classifier; or MODULE:ATTRIBUTE
      path: scores.jsonl

Paths are relative to the file. JSON is YAML, so `.json` works too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

from evals.graders import GraderSpec
from evals.models.server import GraderServerSettings, moved_key
from evals.values.errors import InputError
from evals.values.kinds import check_kind, find_builder, is_outside, kinds_known
from evals.values.located_yaml import LocatedMapping, load_located_yaml
from evals.values.settings import renamed, settings_from
from harness.keys.compose import rulebook_path
from harness.keys.graders import CAUSAL, GRADER_KINDS, REWARD_MODELS
from harness.runtime.libraries import no_progress_bars
from harness.subjects.recorded_rewards import RecordedScores
from trainers.reward.reward import Reward
from trainers.reward.terms import check_reward
from trainers.reward.weights_config import FitMethod, WeightsConfig

RECORDED = "recorded"
KEYS = ("rulebook", "grader", "weights", "reward_model")


@dataclass(frozen=True)
class RewardModelSpec:
    """A reward model that is not loaded yet: its kind, where it lies, and its other keys.

    One from outside, MODULE:ATTRIBUTE, is a function of this; its `path` may be "".
    """

    kind: str
    path: str = ""
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FitDescription:
    """Weights that are fitted when the reward is loaded, on labelled completions."""

    data: Path
    config: WeightsConfig


@dataclass(frozen=True)
class RewardDescription:
    path: Path
    rulebook: Path
    grader: GraderSpec
    weights: Path | FitDescription
    reward_model: RewardModelSpec | None


def load_description(path: Path) -> RewardDescription:
    """Read a description. Raises InputError, naming file, line and key, for whatever does not fit."""
    reader = _Reader(path)
    top = load_located_yaml(path)
    reader.known(top, KEYS, "the reward")
    missing = [key for key in KEYS[:3] if top.get(key) is None]
    if missing:
        reader.fail("is missing", f"write '{missing[0]}: ...'", None, missing[0])
    return RewardDescription(
        path,
        reader.rulebook(top),
        reader.grader(top),
        reader.weights(top),
        reader.reward_model(top) if top.get("reward_model") is not None else None,
    )


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, problem: str, fix: str, line: int | None, key: str) -> NoReturn:
        raise InputError(problem, path=self.path, line=line, field=key, fix=fix)

    def known(self, mapping: LocatedMapping, keys: Sequence[str], what: str) -> None:
        for key in mapping:
            if key not in keys:
                self.fail(f"unknown key of {what}", f"use {', '.join(keys)}", mapping.lines[key], key)

    def beside(self, name: str) -> Path:
        """A path as seen from the description's folder."""
        return self.path.parent / name

    def text(self, mapping: LocatedMapping, key: str, fix: str) -> str:
        value = mapping.get(key)
        if not isinstance(value, str) or not value:
            self.fail("is missing or is not a text", fix, mapping.lines.get(key), key)
        return value

    def rulebook(self, top: LocatedMapping) -> Path:
        name = self.text(top, "rulebook", "name a rulebook: a YAML file, or one of conf/rulebooks")
        packaged = rulebook_path(name)
        return packaged if packaged != Path(name) else self.beside(name)

    def grader(self, top: LocatedMapping) -> GraderSpec:
        body = self.mapping(top, "grader", "write 'kind: recorded' and 'path: grades.jsonl' below it")
        kind = self.kind(body, "grader", GRADER_KINDS)
        if kind == "server":
            return GraderSpec(kind, server=self.server(body))
        templated = kind in CAUSAL
        self.known(body, ("kind", "path", *(["chat_template"] if templated else [])), f"a {kind} grader")
        if is_outside(kind) and "path" not in body:
            return GraderSpec(kind)
        keys = (
            self.mapping(body, "chat_template", "write keys of the model's template below it")
            if "chat_template" in body
            else {}
        )
        return GraderSpec(kind, self.place(body, kind == "recorded"), chat_template=dict(keys))

    def server(self, body: LocatedMapping) -> GraderServerSettings:
        for key in body:
            if (new := moved_key(key)) is not None:
                raise renamed(f"grader.{key}", f"grader.{new}").inside("", self.path, body.lines[key])
        self.known(body, ("kind", "server"), "a server grader")
        keys = self.mapping(body, "server", "write 'url: URL' and 'model: NAME' below it")
        try:
            server = settings_from(GraderServerSettings, keys, "grader.server")
            server.require("grader.server")
        except InputError as error:
            key = str(error.field).rpartition(".")[2]
            raise error.inside("", self.path, keys.lines.get(key, body.lines["server"])) from None
        return server

    def reward_model(self, top: LocatedMapping) -> RewardModelSpec:
        body = self.mapping(top, "reward_model", "write 'kind: recorded' and 'path: scores.jsonl' below it")
        kind = self.kind(body, "reward model", REWARD_MODELS)
        numbers = () if kind == RECORDED else ("mean", "scale")
        self.known(body, ("kind", "path", *numbers), f"a {kind} reward model")
        options = {key: self.number(body, key) for key in numbers if key in body}
        if is_outside(kind) and "path" not in body:
            return RewardModelSpec(kind, options=options)
        return RewardModelSpec(kind, self.place(body, kind == RECORDED), options)

    def kind(self, body: LocatedMapping, family: str, table: Iterable[str]) -> str:
        kind = self.text(body, "kind", f"use one of {kinds_known(table)}")
        try:
            check_kind(family, kind, table, "kind")
        except InputError as error:
            raise error.inside("", self.path, body.lines["kind"]) from None
        return kind

    def weights(self, top: LocatedMapping) -> Path | FitDescription:
        value, line = top["weights"], top.lines["weights"]
        if isinstance(value, str):
            return self.beside(value)
        if not isinstance(value, LocatedMapping) or "data" not in value:
            self.fail(
                "is neither a file nor a fit", "name a weights file, or write {data: FILE}", line, "weights"
            )
        settings = {key: setting for key, setting in value.items() if key != "data"}
        known = {f.name: type(getattr(WeightsConfig(), f.name)) for f in fields(WeightsConfig)}
        self.known(value, ("data", *known), "a fit of weights")
        for key in settings:
            self.typed(value, key, str if known[key] is FitMethod else known[key])
        if isinstance(margins := value.get("margins"), LocatedMapping):
            for pair in margins:
                self.number(margins, pair)
        try:
            method = {"method": FitMethod(settings["method"])} if "method" in settings else {}
            config = WeightsConfig(**{"holdout": 0.0, **settings, **method})
        except (TypeError, ValueError) as error:
            self.fail(f"does not describe a fit ({error})", "mend the value", line, "weights")
        return FitDescription(self.beside(self.text(value, "data", "name labelled completions")), config)

    def mapping(self, top: LocatedMapping, key: str, fix: str) -> LocatedMapping:
        body = top.get(key)
        if not isinstance(body, LocatedMapping):
            self.fail("is not a mapping", fix, top.lines.get(key), key)
        return body

    def typed(self, body: LocatedMapping, key: str, wanted: type) -> None:
        """Refuse a value of another type; a whole number is also a float."""
        value = body[key]
        fits = isinstance(value, (int, float) if wanted is float else wanted)
        if not fits or isinstance(value, bool) is not (wanted is bool):
            self.fail(f"is {value!r}", f"write a value of type {wanted.__name__}", body.lines[key], key)

    def place(self, body: LocatedMapping, is_file: bool) -> str:
        """A file beside the description; a model may also be a hub name, which is left as it is."""
        name = self.text(body, "path", "name where it lies")
        near = self.beside(name)
        if is_file and not near.is_file():
            self.fail(f"no such file: {near}", "mend the path", body.lines["path"], "path")
        return str(near) if near.exists() else name

    def number(self, body: LocatedMapping, key: str) -> float:
        value = body[key]
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(f"is {value!r}", "write a number", body.lines[key], key)
        return float(value)


def recorded_scores(spec: RewardModelSpec) -> Reward:
    return RecordedScores(spec.path)


def scoring_model(spec: RewardModelSpec) -> Reward:
    # torch, which recorded scores do without
    from evals.models.load import load_reward_model, load_tokenizer
    from trainers.reward.reward_model_term import RewardModelTerm

    no_progress_bars()
    tokenizer = load_tokenizer(spec.path, needs_padding=False)
    return RewardModelTerm(load_reward_model(spec.path), tokenizer, **spec.options)


def load_reward_model_term(spec: RewardModelSpec) -> Reward:
    """The reward model that a description names. Raises InputError, for what builds no reward too."""
    field = "reward_model.kind"
    build = find_builder("reward model", spec.kind, REWARD_MODELS, field, "its specification")
    return check_reward(build(spec), spec.kind, field)
