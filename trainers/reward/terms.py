"""The terms that a method's reward is the sum of, found by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from evals.graders import Grader
from evals.rules.rulebook import Rulebook
from evals.values.errors import InputError
from evals.values.kinds import code_of, find_kind, is_outside
from trainers.reward.reward import REWARD_MODEL, RULE_BASED, Reward, RuleBasedTerm
from trainers.reward.weights import RewardWeights


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
    term = _builder(kind)(parts)
    if not callable(term):
        problem = f"{kind!r} gave a {type(term).__name__}, which is no reward"
        raise InputError(problem, field="terms", fix="return a function of responses that gives a Breakdown")
    return term


def term_identity(kind: str) -> str:
    """What a term's value depends on besides its parts: one from outside its code. Raises InputError as above."""
    _builder(kind)
    return f"{kind} {code_of(kind)}" if is_outside(kind) else kind


def _builder(kind: str) -> Callable[[TermParts], Reward]:
    builder: Callable[[TermParts], Reward] = find_kind("reward term", kind, TERMS, "terms")
    if not callable(builder):
        raise InputError(f"{kind!r} cannot be called", field="terms", fix="name a function of TermParts")
    return builder
