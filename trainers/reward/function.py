"""The reward as a `reward_funcs` entry of TRL's GRPOTrainer and RLOOTrainer (TRL 1.12 and later).

TRL calls it with lists, one entry a completion: `prompts` and `completions` (texts, or lists of messages
in the conversational format), `completion_ids`, and every other column of the data set. It wants one
number a completion, or None where there is none: such a completion leaves its group's baseline and
moves nothing.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evals.graders import Grader
from evals.models.thoughts import AUTO, of_completions
from evals.rules.rulebook import load_rulebook
from evals.values.conversation import (
    QUESTIONS_FIX,
    Message,
    Prompt,
    Question,
    Response,
    ResponseType,
    prompt_id,
    questions_of,
)
from evals.values.errors import InputError
from evals.values.grades import check_unscored
from evals.values.levels import LevelsError
from evals.values.ranges import SHARE, check_ranges
from trainers.reward.reward import Breakdown, Reward, SumOfTerms, pay
from trainers.reward.reward_weights import load_weights
from trainers.reward.rule_based_term import RuleBasedTerm

log = logging.getLogger(__name__)

Turns = str | Sequence[Mapping[str, Any]]


class RewardFunction:
    """`reward_function(prompts, completions, **columns)` -> one float or None a completion.

    The data set needs the column `response_type`, null for prompts off the safety areas: they are paid
    the reward model alone. `category`, `id` and `questions` are read where they are there. The prompts should be
    conversational; a plain text is read as one user's message.

    TRL drops a None from a sum of several functions, as if it were 0. Give it this function alone: other
    terms belong in `reward` (`trainers.reward.reward.SumOfTerms`), where one that fails leaves the sum unscored.

    Args:
        reward: any `trainers.reward.reward.Reward`.
        max_unscored: of one call's completions; above it UndecidableError ends the training.
        eos_token_id: tells finished completions from those that the length limit cut (the reward model
            reads EOS after the former). Without it all count as finished.
        name: what TRL logs the reward under, as rewards/NAME/mean.
        thoughts: how a thought is marked: `auto` knows the marks that open a completion (`<think>` and others);
            "<think> </think>" where the prompt has opened it, as some templates do; `none`. The answer alone is
            paid, and a thought that never ended is unscored.
    """

    def __init__(
        self,
        reward: Reward,
        max_unscored: float = 0.1,
        eos_token_id: int | None = None,
        name: str = "rule_based_reward",
        thoughts: str = AUTO,
    ) -> None:
        self.reward, self.max_unscored, self.eos_token_id = reward, max_unscored, eos_token_id
        check_ranges(self, "", {"max_unscored": SHARE})
        self.thoughts = of_completions(thoughts)
        self.__name__ = name
        self.scored = 0
        self.reasons: Counter[str] = Counter()  # of unscored completions, over all calls

    @property
    def unscored(self) -> int:
        """Completions without a reward, over all calls."""
        return self.reasons.total()

    def __call__(
        self, prompts: Sequence[Turns], completions: Sequence[Turns], **columns: Any
    ) -> list[float | None]:
        """Raises InputError for data without response types, UndecidableError for too many unscored."""
        responses = self.responses(prompts, completions, columns)
        breakdown = pay(self.reward, responses)
        self._count(breakdown)
        _log(breakdown, columns.get("log_metric"), columns.get("log_extra"))
        self._check_share(breakdown)
        return [None if np.isnan(value) else float(value) for value in breakdown.total]

    def responses(
        self, prompts: Sequence[Turns], completions: Sequence[Turns], columns: Mapping[str, Any]
    ) -> list[Response]:
        """What is paid, in order. Raises InputError for columns without response types."""
        if "response_type" not in columns:
            # Without it every rule would be silent, and every reward that of no rule: 0.
            raise InputError(
                "the data set has no such column",
                field="response_type",
                fix="add it, null for prompts off the safety areas, and keep remove_unused_columns=False",
            )
        count = len(prompts)
        types = [_response_type(value) for value in columns["response_type"]]
        categories = columns.get("category") or [None] * count
        ids = columns.get("id") or [None] * count
        questions = columns.get("questions") or [None] * count
        finished = self._finished(columns.get("completion_ids"), count)
        responses = []
        for row in range(count):
            # A completion without a message is an empty answer, not the prompt's last turn.
            answer = _messages(completions[row], "assistant") or (Message("assistant", ""),)
            turns = (*_messages(prompts[row], "user"), *answer)
            given = ids[row]
            prompt = Prompt(
                str(given) if given is not None else prompt_id(turns[:-1]),
                turns[:-1],
                types[row],
                str(categories[row] or "none"),
                questions=_questions(questions[row]),
            )
            responses.append(self.thoughts.part(turns[-1].content).response(prompt, row, finished[row]))
        return responses

    def _finished(self, completion_ids: Sequence[Sequence[int]] | None, count: int) -> list[bool]:
        if self.eos_token_id is None or completion_ids is None:
            return [True] * count
        return [self.eos_token_id in list(ids) for ids in completion_ids]

    def _count(self, breakdown: Breakdown) -> None:
        self.scored += len(breakdown) - len(breakdown.reasons)
        self.reasons.update(breakdown.reasons.values())
        for reason, times in Counter(breakdown.reasons.values()).items():
            log.warning("%d of %d completions have no reward: %s", times, len(breakdown), reason)

    def _check_share(self, breakdown: Breakdown) -> None:
        reasons = breakdown.reasons.values()
        what = "completions have no reward"
        check_unscored(len(reasons), len(breakdown), self.max_unscored, what, reasons)


def rule_based_reward(
    rulebook: Path | str,
    weights: Path | str,
    grader: Grader,
    reward_model: Reward | None = None,
    **options: Any,
) -> RewardFunction:
    """The reward function of a rulebook, the weights that `rbrbench fit` wrote for it, and a grader.

    `options` are those of `RewardFunction`. Raises InputError for files that do not load or do not fit
    each other.
    """
    rules = load_rulebook(rulebook)
    term = RuleBasedTerm(rules, grader, load_weights(weights, rules))
    return RewardFunction(SumOfTerms([term] if reward_model is None else [reward_model, term]), **options)


def _messages(turns: Turns, role: str) -> tuple[Message, ...]:
    """A text is one message of `role`; a completion of several turns keeps them all."""
    if isinstance(turns, str):
        return (Message(role, turns),)
    return tuple(Message(str(turn["role"]), _text(turn.get("content"))) for turn in turns)


def _text(content: Any) -> str:
    """A message's text; of content blocks those of type text."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(str(block.get("text", "")) for block in content if block.get("type") == "text")


def _response_type(value: Any) -> ResponseType | None:
    if value is None or isinstance(value, ResponseType):
        return value
    try:
        return ResponseType.parse(str(value))
    except ValueError:
        known = ", ".join(t.value for t in ResponseType)
        raise InputError(
            f"unknown response type {value!r}", field="response_type", fix=f"use one of {known}, or null"
        ) from None


def _questions(value: Any) -> tuple[Question, ...]:
    try:
        return questions_of([_without_nulls(one) for one in value or []])
    except ValueError as error:
        fix = error.fix if isinstance(error, LevelsError) else QUESTIONS_FIX
        raise InputError(str(error), field="questions", fix=fix) from None


def _without_nulls(one: Any) -> Any:
    """A question without the words that only other rows' levels have: in a data set's column every row has all."""
    if not isinstance(one, dict) or not isinstance(one.get("levels"), dict):
        return one
    return one | {
        "levels": {word: score for word, score in one["levels"].items() if score is not None} or None
    }


def _log(
    breakdown: Breakdown,
    log_metric: Callable[[str, float], None] | None,
    log_extra: Callable[[str, list[Any]], None] | None,
) -> None:
    """Means by term and rule under the names that PPO logs, and each completion's reason."""
    if log_metric is not None:
        missing = len(breakdown.reasons)
        log_metric("reward/unscored_share", missing / max(len(breakdown), 1))
        parts = {f"score/{name}": values for name, values in breakdown.terms.items()}
        parts |= {f"contribution/{name}": values for name, values in breakdown.contributions.items()}
        for name, values in parts.items():
            if np.isfinite(values).any():
                log_metric(name, float(np.nanmean(values)))
    if log_extra is not None:
        log_extra("unscored", [breakdown.reasons.get(row, "") for row in range(len(breakdown))])
