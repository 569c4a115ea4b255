"""rbrbench from a program: `from rbrbench import load_rulebook, rule_based_reward, evaluate, train_ppo`.

These names are the public face, and docs/api.md describes them. All else, the whole of `evals`, `trainers`,
`harness` and `conf`, is internal and may change with any version. A name is imported when it is first asked
for, so that `import rbrbench` loads neither torch nor anything else.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rbrbench.neighbours import foreign_neighbour, is_command_line

# ruff: noqa: F401
if TYPE_CHECKING:
    from evals.graders import Grader, GraderSpec, build_grader, grade_in_batches
    from evals.models.load import load_causal_lm, load_reward_model, load_tokenizer
    from evals.rules.propositions import Proposition
    from evals.rules.rulebook import Rulebook, load_rulebook
    from evals.values.conversation import Message, Prompt, Question, Response, ResponseType, user_prompt
    from evals.values.errors import InputError, UndecidableError
    from evals.values.grades import Grades, Unscored
    from evals.values.levels import ScoredLevel, levels_of
    from harness.serve.clients import RewardEnvironment, compute_score, compute_score_batch
    from rbrbench.results import evaluate, read_results
    from trainers.reward.function import RewardFunction, rule_based_reward
    from trainers.reward.reward import Breakdown, Reward, SumOfTerms
    from trainers.reward.reward_model_term import RewardModelTerm
    from trainers.reward.reward_weights import RewardWeights, load_weights
    from trainers.reward.rule_based_term import RuleBasedTerm
    from trainers.rl.config import PPOConfig
    from trainers.rl.ppo import train_ppo

# {chapter of docs/api.md: {public name: the module that holds it}}; the imports above say the same to type checkers.
CHAPTERS: Mapping[str, Mapping[str, str]] = {
    "Rules": {
        "load_rulebook": "evals.rules.rulebook",
        "Rulebook": "evals.rules.rulebook",
        "Proposition": "evals.rules.propositions",
        "ScoredLevel": "evals.values.levels",
        "levels_of": "evals.values.levels",
    },
    "Conversations": {
        "user_prompt": "evals.values.conversation",
        "Prompt": "evals.values.conversation",
        "Question": "evals.values.conversation",
        "Message": "evals.values.conversation",
        "Response": "evals.values.conversation",
        "ResponseType": "evals.values.conversation",
    },
    "Grades": {
        "Grader": "evals.graders",
        "GraderSpec": "evals.graders",
        "build_grader": "evals.graders",
        "grade_in_batches": "evals.graders",
        "Grades": "evals.values.grades",
        "Unscored": "evals.values.grades",
    },
    "The reward": {
        "rule_based_reward": "trainers.reward.function",
        "RewardFunction": "trainers.reward.function",
        "Reward": "trainers.reward.reward",
        "Breakdown": "trainers.reward.reward",
        "RuleBasedTerm": "trainers.reward.rule_based_term",
        "RewardModelTerm": "trainers.reward.reward_model_term",
        "SumOfTerms": "trainers.reward.reward",
        "load_weights": "trainers.reward.reward_weights",
        "RewardWeights": "trainers.reward.reward_weights",
        "compute_score": "harness.serve.clients",
        "compute_score_batch": "harness.serve.clients",
        "RewardEnvironment": "harness.serve.clients",
    },
    "PPO": {
        "train_ppo": "trainers.rl.ppo",
        "PPOConfig": "trainers.rl.config",
        "load_causal_lm": "evals.models.load",
        "load_reward_model": "evals.models.load",
        "load_tokenizer": "evals.models.load",
    },
    "Results": {
        "evaluate": "rbrbench.results",
        "read_results": "rbrbench.results",
    },
    "Errors": {
        "InputError": "evals.values.errors",
        "UndecidableError": "evals.values.errors",
    },
}
_MODULES = {name: module for names in CHAPTERS.values() for name, module in names.items()}

__all__ = [*_MODULES]

if (_problem := foreign_neighbour()) and not is_command_line():  # the command says it without a traceback
    raise ImportError(_problem)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"rbrbench has no {name!r}; docs/api.md lists what it has")
    if _problem:
        raise ImportError(_problem)
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
