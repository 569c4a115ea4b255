"""Fitted weights of the rule-based reward: the value, its checks and its JSON file."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from evals.rules.features import Features, feature_names
from evals.rules.rulebook import Rulebook
from evals.values.conversation import ResponseType, types_in_order
from evals.values.errors import InputError
from evals.values.json_text import read_json
from trainers.reward.boosted_trees import RegressionTree, TreeEnsemble

FORMAT = 1


@dataclass(frozen=True)
class FitReport:
    """What one fit was made of, and how close to the optimum it is (`gap`, relative)."""

    objective: float
    hinge: float
    gap: float | None  # None where nothing is claimed: fixed weights, trees
    iterations: int
    prompts: int
    responses: int
    pairs: int
    dropped: int  # unscored responses left out
    held_out_prompts: int
    fitted: str = ""  # digests of the prompts' ids: which were fitted on, and which held out
    held_out: str = ""


@dataclass(frozen=True)
class RewardWeights:
    """One weight per feature and response type, and where they come from."""

    by_type: dict[ResponseType, dict[str, float]]
    rulebook_digest: str
    grader: str = ""
    data: str = ""
    seed: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    fits: dict[ResponseType, FitReport] = field(default_factory=dict)
    trees: dict[ResponseType, TreeEnsemble] = field(default_factory=dict)  # in place of weights
    reward_model: str = ""  # that the rules were fitted beside

    @property
    def response_types(self) -> tuple[ResponseType, ...]:
        """Response types that have weights or trees."""
        return tuple(types_in_order([*self.by_type, *self.trees]))

    def contributions(self, response_type: ResponseType, features: Features) -> np.ndarray:
        """Each feature's part of the reward [responses, features]; weight times value, where linear."""
        if response_type in self.trees:
            return self.trees[response_type].contributions(features.values)
        return features.values * self.vector(response_type, features.names)

    def uses(self, response_type: ResponseType, name: str) -> bool:
        """Whether the feature can change the reward."""
        return response_type in self.trees or self.for_type(response_type)[name] != 0.0

    def for_type(self, response_type: ResponseType) -> dict[str, float]:
        """Raises InputError when no weights were fitted for the response type."""
        if response_type not in self.by_type:
            have = ", ".join(t.value for t in self.response_types) or "none"
            raise InputError(
                f"the weights have no response type {response_type.value} (they have: {have})",
                field="weights",
                fix=f"fit weights on completions of {response_type.value} prompts",
            )
        return self.by_type[response_type]

    def vector(self, response_type: ResponseType, names: Sequence[str]) -> np.ndarray:
        """Weights in the order of `names`, [features]."""
        weights = self.for_type(response_type)
        return np.array([weights[name] for name in names])


def check_weights(weights: RewardWeights, rulebook: Rulebook, path: Path | None = None) -> None:
    """Raises InputError unless the weights were fitted for this rulebook and its features."""
    if weights.rulebook_digest != rulebook.digest:
        raise InputError(
            f"the weights are for rulebook {weights.rulebook_digest}, not for this one ({rulebook.digest})",
            path=path,
            fix="fit the weights again, or use the rulebook they were fitted for",
        )
    for response_type in weights.response_types:
        expected = feature_names(rulebook, response_type)
        ensemble = weights.trees.get(response_type)
        have = ensemble.features if ensemble is not None else tuple(weights.by_type[response_type])
        odd = sorted(set(expected) ^ set(have))
        # Trees find features by place, weights by name.
        if ensemble is not None and not odd and have != expected:
            odd = [have[0]]
        if odd:
            problem = "unknown feature" if odd[0] not in expected else "missing or misplaced feature"
            raise InputError(
                f"{problem} '{odd[0]}' among the weights of {response_type.value}",
                path=path,
                field=odd[0],
                fix="fit the weights again with this rulebook",
            )


def save_weights(weights: RewardWeights, path: Path | str) -> None:
    """Write JSON; the same weights give the same bytes."""
    content = {
        "format": FORMAT,
        "rulebook": weights.rulebook_digest,
        "grader": weights.grader,
        "reward_model": weights.reward_model,
        "data": weights.data,
        "seed": weights.seed,
        "config": weights.config,
        "weights": {t.value: by_name for t, by_name in weights.by_type.items()},
        "fits": {t.value: asdict(report) for t, report in weights.fits.items()},
        "trees": {t.value: asdict(ensemble) for t, ensemble in weights.trees.items()},
    }
    Path(path).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_weights(path: Path | str, rulebook: Rulebook) -> RewardWeights:
    """Read weights fitted for `rulebook`.

    Raises InputError for a malformed file, and for weights of another rulebook or other features.
    """
    path = Path(path)
    content = _read(path)
    content = {"trees": {}, "seed": 0} | content
    vectors, fits, trees = (_mapping(path, content, name) for name in ("weights", "fits", "trees"))
    weights = RewardWeights(
        {_type(path, t): _numbers(path, t, by_name) for t, by_name in vectors.items()},
        str(content.get("rulebook", "")),
        str(content.get("grader", "")),
        str(content.get("data", "")),
        _seed(path, content["seed"]),
        dict(_mapping(path, content, "config")),
        {_type(path, t): _report(path, t, body) for t, body in fits.items()},
        {_type(path, t): _ensemble(path, t, body) for t, body in trees.items()},
        str(content.get("reward_model", "")),
    )
    check_weights(weights, rulebook, path)
    return weights


def _read(path: Path) -> dict[str, Any]:
    fix = "name a file that rbrbench fit wrote"
    try:
        content = read_json(path, fix)
    except InputError as error:
        problem = error.problem.removeprefix("cannot be read").strip(" ()")
        raise InputError(f"cannot be read ({problem})", path=path, line=error.line, fix=fix) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(
            f"is not a weights file of format {FORMAT}",
            path=path,
            field="format",
            fix="fit the weights again",
        )
    return content


def _mapping(path: Path, content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = content.get(name)
    if not isinstance(value, dict):
        raise InputError("is missing or is not an object", path=path, field=name, fix="fit the weights again")
    return value


def _seed(path: Path, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(
            f"is {value!r}, not a whole number", path=path, field="seed", fix="fit the weights again"
        )
    return value


def _type(path: Path, name: str) -> ResponseType:
    try:
        return ResponseType(name)
    except ValueError:
        known = ", ".join(t.value for t in ResponseType)
        raise InputError(
            f"unknown response type '{name}'", path=path, field="weights", fix=f"use one of {known}"
        ) from None


def _numbers(path: Path, response_type: str, by_name: Any) -> dict[str, float]:
    for name, value in by_name.items() if isinstance(by_name, dict) else [("", None)]:
        # A whole number of JSON may be too large for a float.
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not abs(value) <= sys.float_info.max
        ):
            raise InputError(
                f"is {value!r}, not a finite number",
                path=path,
                field=f"weights.{response_type}.{name}",
                fix="fit the weights again",
            )
    return {name: float(value) for name, value in by_name.items()}


def _report(path: Path, response_type: str, body: Any) -> FitReport:
    names = {f.name for f in fields(FitReport)}
    needed = {f.name for f in fields(FitReport) if f.default is MISSING}
    if not isinstance(body, dict) or not needed <= set(body) <= names:
        raise InputError(
            "does not describe a fit", path=path, field=f"fits.{response_type}", fix="fit the weights again"
        )
    return FitReport(**body)


def _ensemble(path: Path, response_type: str, body: Any) -> TreeEnsemble:
    try:
        trees = tuple(
            RegressionTree(**{name: tuple(row) for name, row in tree.items()}) for tree in body["trees"]
        )
        return TreeEnsemble(tuple(body["features"]), trees)
    except (TypeError, KeyError, AttributeError, ValueError):
        raise InputError(
            "does not describe trees", path=path, field=f"trees.{response_type}", fix="fit the weights again"
        ) from None
