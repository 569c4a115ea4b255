"""The rewards that `benchmarks/ceiling.py` trains beside those of the table: methods and terms from outside.

An edited rulebook pays here as a term of its own, so that all rewards of a seed have one world, grader and judge, and
one SFT model where they start from the same: a run's own `rulebook` makes all of them anew.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from evals.rules.features import Features, feature_names
from evals.rules.rulebook import Rulebook, load_rulebook
from harness.keys.compose import CONF
from harness.keys.methods import Data, Method
from harness.record.finished_run import RunStages
from trainers.reward.examples import FitExamples, load_examples
from trainers.reward.kinds import REWARD_MODEL
from trainers.reward.reward import Reward
from trainers.reward.reward_weights import load_weights, save_weights
from trainers.reward.rule_based_term import RuleBasedTerm
from trainers.reward.terms import TermParts
from trainers.reward.weights import fit_weights
from trainers.reward.weights_config import WeightsConfig

FOLDER = "RBRBENCH_CEILING_EDITS"  # the environment variable that says where the edits lie
# By name of the edit, the order of the completion classes.
ORDERS = {
    # What a refusal of a safe request, or a poor one of a harmful request, is: before answers and styles that will do.
    "swapped": (
        "ideal",
        "unacceptable_completion",
        "minimum_acceptable_style",
        "illogical_completion",
        "disallowed_completion",
    ),
    # Forbidden content comes before nonsense and before what is neither it nor a refusal.
    "lax": (
        "ideal",
        "minimum_acceptable_style",
        "disallowed_completion",
        "unacceptable_completion",
        "illogical_completion",
    ),
}


def _edited(name: str) -> Method:
    terms = (REWARD_MODEL, f"{__name__}:{name}")
    return Method(f"{name}_rbr_ppo", f"RBR-PPO, {name} classes", Data.RBR, Data.HELPFUL, terms=terms)


# The helpful reward model alone, on safety prompts too, so that its ceiling is of the same prompts as the others'.
HELPFUL = Method("helpful_safety_ppo", "Helpful-PPO on all prompts", Data.HELPFUL, Data.HELPFUL)
SWAPPED, LAX = _edited("swapped"), _edited("lax")


def swapped(parts: TermParts) -> Reward:
    return _term(parts, "swapped")


def lax(parts: TermParts) -> Reward:
    return _term(parts, "lax")


def _term(parts: TermParts, name: str) -> Reward:
    rules = load_rulebook(_rules_of(Path(os.environ[FOLDER]), name))
    weights = load_weights(_weights_of(Path(os.environ[FOLDER]), name, parts.seed), rules)
    return RuleBasedTerm(rules, parts.grader(), weights)


def _rules_of(folder: Path, name: str) -> Path:
    return folder / f"{name}.yaml"


def _weights_of(folder: Path, name: str, seed: int) -> Path:
    return folder / f"{name}-{seed}.json"


def fit_edits(run: Path, seed: int, folder: Path) -> None:
    """Write each edit's rules, and its weights as `run` fits its own: to the same graded completions."""
    folder.mkdir(parents=True, exist_ok=True)
    stages = RunStages(run)
    (row,) = stages.having("weights")
    examples = load_examples(stages.find("weights", str(row["key"])).path / "examples.jsonl")
    for name, order in ORDERS.items():
        path = _rules_of(folder, name)
        path.write_text(in_order(order), encoding="utf-8")
        rules = load_rulebook(path)
        config = WeightsConfig(sign_constraints=True, holdout=0.0, seed=seed)  # those of experiment=demo
        weights = fit_weights([_ranked(group, rules) for group in examples], rules, config)
        save_weights(weights, _weights_of(folder, name, seed))


def in_order(order: tuple[str, ...]) -> str:
    """The sandbox's rules with another order of the completion classes."""
    text = (CONF / "rulebooks" / "sandbox.yaml").read_text(encoding="utf-8")
    head, mark, tail = text.partition("completion_class_order:\n")
    rows = tail.split("\n\n", 1)
    if not mark or sorted(row.strip(" -") for row in rows[0].splitlines()) != sorted(order):
        raise SystemExit("the edits no longer fit the sandbox's rulebook")
    return head + mark + "".join(f"  - {name}\n" for name in order) + "\n" + rows[1]


def _ranked(group: FitExamples, rules: Rulebook) -> FitExamples:
    """The same completions under another order of their classes."""
    names, of = feature_names(rules, group.response_type), group.features
    columns = [of.names.index(name) for name in names]
    rank = np.array([rules.class_order.index(name) for name in group.classes])
    return replace(group, rank=rank, features=Features(names, of.values[:, columns], of.reasons))
