"""The terms that a method's reward is the sum of, found by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from evals.graders import Grader
from evals.rules.rulebook import Rulebook
from evals.values.errors import InputError
from evals.values.kinds import code_of, find_builder, is_outside
from trainers.reward.kinds import REWARD_MODEL, RULE_BASED
from trainers.reward.reward import Reward
from trainers.reward.reward_weights import RewardWeights
from trainers.reward.rule_based_term import RuleBasedTerm


@dataclass(frozen=True)
class TermParts:
    """What a training has for its reward's terms; what loads a model is called by the term that wants it.

    `reward_model` is normalised. `weights` raises InputError where the method has no rule-based term.
    """

    rulebook: Rulebook
    seed: int
    reward_model: Callable[[], Reward]
    grader: Callable[[], Grader]
    weights: Callable[[], RewardWeights]


def _rule_based(parts: TermParts) -> Reward:
    return RuleBasedTerm(parts.rulebook, parts.grader(), parts.weights())


# Adding a term is one line here, or MODULE:ATTRIBUTE: a function of TermParts.
TERMS: Mapping[str, Callable[[TermParts], Reward]] = {
    REWARD_MODEL: lambda parts: parts.reward_model(),
    RULE_BASED: _rule_based,
}


def build_term(kind: str, parts: TermParts) -> Reward:
    """The term of a kind. Raises InputError for an unknown kind, and for what builds no term."""
    return check_reward(_builder(kind)(parts), kind, "terms")


def check_reward(made: object, kind: str, field: str) -> Reward:
    """What the function of a kind made. Raises InputError unless it is a reward."""
    if not callable(made):
        problem = f"{kind!r} gave a {type(made).__name__}, which is no reward"
        raise InputError(problem, field=field, fix="return a function of responses that gives a Breakdown")
    return made


def term_identity(kind: str) -> str:
    """What a term's value depends on besides its parts: one from outside its code. Raises InputError as above."""
    _builder(kind)
    return f"{kind} {code_of(kind)}" if is_outside(kind) else kind


def _builder(kind: str) -> Callable[[TermParts], Reward]:
    return find_builder("reward term", kind, TERMS, "terms", "TermParts")
