"""Fit the rule-based reward's weights, one vector per response type.

The objective is the paper's (arXiv 2411.01111): over ordered pairs of responses to the same prompt,

    mean max(0, margin + R(worse) - R(better)) + l2 / 2 |w|^2,   R = reward model + w . features

and with sign constraints the weights also keep what the rulebook says of each proposition and of the classes' order.
It is convex, and is solved to its optimum with a certificate (`trainers.reward.hinge_solver`). Prompts,
never pairs, are split into a fitting and a held-out part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np

from evals.rules.directions import polarities
from evals.rules.propositions import Polarity
from evals.rules.rulebook import Rulebook
from evals.rules.rulebook_file import CLASS_PREFIX, QUESTIONS
from evals.values.conversation import ResponseType
from evals.values.errors import InputError
from trainers.reward.boosted_trees import TreeEnsemble, boost
from trainers.reward.examples import FitExamples, margins_of, ordered_pairs, prompts_digest, split_by_prompt
from trainers.reward.hinge_solver import Optimum, mean_hinge, minimise_hinge
from trainers.reward.reward_weights import FitReport, RewardWeights
from trainers.reward.weights_config import FitMethod, WeightsConfig

CERTIFIED_GAP = 1e-6  # relative; what a fit must reach
TOLERANCE = 1e-7  # what the solver stops at


def fit_weights(
    examples: Sequence[FitExamples],
    rulebook: Rulebook,
    config: WeightsConfig,
    *,
    grader: str = "",
    data: str = "",
    reward_model: str = "",
    progress: Callable[[int], None] | None = None,
) -> RewardWeights:
    """Fit each response type on the first part of `split_by_prompt(.., config.holdout, config.seed)`.

    `grader`, `data` and `reward_model` name where the examples come from; they are kept with the weights.
    Raises InputError when a type has no ordered pair, or a margin names an unknown class.
    """
    _check_margins(config, rulebook)
    by_type: dict[ResponseType, dict[str, float]] = {}
    trees: dict[ResponseType, TreeEnsemble] = {}
    fits: dict[ResponseType, FitReport] = {}
    for group in examples:
        part, kept = split_by_prompt(group, config.holdout, config.seed)
        pairs = _pairs(part, config)
        if config.method is FitMethod.BOOSTED:
            trees[group.response_type], answer = _boosted(pairs, config)
        else:
            answer = _linear(pairs, rulebook, config)
            weights = dict(zip(group.features.names, answer.weights.tolist(), strict=True))
            by_type[group.response_type] = weights
        fits[group.response_type] = _report(answer, pairs, part, kept, config)
        if progress is not None:
            progress(1)
    settings = asdict(config) | {"method": config.method.value}
    return RewardWeights(
        by_type, rulebook.digest, grader, data, config.seed, settings, fits, trees, reward_model
    )


@dataclass(frozen=True)
class _Pairs:
    """The scored examples of a fit, and the loss of their pairs: max(0, offset - row . w)."""

    examples: FitExamples
    better: np.ndarray  # [pairs]
    worse: np.ndarray  # [pairs]
    rows: np.ndarray  # [pairs, features]
    offsets: np.ndarray  # [pairs]


def _pairs(part: FitExamples, config: WeightsConfig) -> _Pairs:
    scored = part.select(part.scored)
    better, worse = ordered_pairs(scored.prompts, scored.rank)
    if not len(better):
        raise InputError(
            f"no prompt of response type {part.response_type.value} has two scored completions of "
            "different classes among those to fit",
            fix="give completions of at least two classes for each prompt, or lower weights.holdout",
        )
    return _Pairs(scored, better, worse, *hinge_rows(scored, better, worse, config))


def _linear(pairs: _Pairs, rulebook: Rulebook, config: WeightsConfig) -> Optimum:
    names = pairs.examples.features.names
    if config.method is FitMethod.FIXED:
        return _fixed(pairs.rows, pairs.offsets, names, rulebook, config)
    lower, upper = weight_bounds(names, rulebook, pairs.examples.response_type, config)
    answer = minimise_hinge(
        pairs.rows,
        pairs.offsets,
        l2=config.l2,
        lower=lower,
        upper=upper,
        tolerance=TOLERANCE,
        inequalities=class_ladder(names, config) if config.sign_constraints else None,
    )
    if answer.gap > CERTIFIED_GAP:
        raise InputError(
            f"the fit of {pairs.examples.response_type.value} ended {answer.gap:.1e} from its optimum",
            field="weights.l2",
            fix="give a positive l2, and check the scale of the reward model's scores",
        )
    return answer


def _boosted(pairs: _Pairs, config: WeightsConfig) -> tuple[TreeEnsemble, Optimum]:
    """The trees, and their loss in place of an optimum."""
    features = pairs.examples.features
    ensemble = boost(
        features.values,
        pairs.better,
        pairs.worse,
        pairs.offsets,
        features.names,
        trees=config.trees,
        depth=config.tree_depth,
        rate=config.tree_rate,
        seed=config.seed,
    )
    reward = ensemble.contributions(features.values).sum(axis=1)
    losses = np.maximum(0.0, pairs.offsets - (reward[pairs.better] - reward[pairs.worse]))
    hinge = float(losses.mean())
    return ensemble, Optimum(np.empty(0), hinge, hinge, 0.0, len(ensemble.trees))


def _report(
    answer: Optimum, pairs: _Pairs, part: FitExamples, kept: FitExamples, config: WeightsConfig
) -> FitReport:
    return FitReport(
        answer.objective,
        answer.hinge,
        answer.gap if config.method is FitMethod.HINGE else None,
        answer.iterations,
        len(set(pairs.examples.prompts)),
        len(pairs.examples),
        len(pairs.better),
        len(part) - len(pairs.examples),
        len(set(kept.prompts)),
        prompts_digest(part.prompts),
        prompts_digest(kept.prompts),
    )


def hinge_rows(
    examples: FitExamples, better: np.ndarray, worse: np.ndarray, config: WeightsConfig
) -> tuple[np.ndarray, np.ndarray]:
    """The loss of a pair is max(0, offset - row . w): rows [pairs, features], offsets [pairs]."""
    values, scores = examples.features.values, examples.reward_model * config.reward_model
    margins = margins_of(examples.classes, better, worse, config.margin, config.margins)
    return values[better] - values[worse], margins + scores[worse] - scores[better]


def weight_bounds(
    names: Sequence[str], rulebook: Rulebook, response_type: ResponseType, config: WeightsConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds [features]; a proposition's polarity bounds the sign where constraints are on.

    That of the response type: a reward model that already prefers full answers to partial ones leaves the fit nothing
    to learn from these pairs, and the fit then spends the weight of what makes an answer full on other pairs.
    Questions of the prompts' own have people's weights: their scale turns none round.
    """
    lower, upper = np.full(len(names), -config.max_weight), np.full(len(names), config.max_weight)
    lower[[name == QUESTIONS for name in names]] = 0.0
    if config.sign_constraints:
        known = polarities(rulebook, response_type)
        polarity = [known.get(name) for name in names]
        lower[[p is Polarity.GOOD for p in polarity]] = 0.0
        upper[[p is Polarity.BAD for p in polarity]] = 0.0
    return lower, upper


def class_ladder(names: Sequence[str], config: WeightsConfig) -> tuple[np.ndarray, np.ndarray]:
    """Where signs are constrained, left [classes - 1, features] . w >= right: each class leads the next worse one.

    From the best class to the worst the weights rise by the margin, so that the rules by themselves pay the better
    class more: the loss asks for that of the sum with the reward model alone.
    """
    classes = [column for column, name in enumerate(names) if name.startswith(CLASS_PREFIX)]
    left = np.zeros((max(len(classes) - 1, 0), len(names)))
    for row, (better, worse) in enumerate(pairwise(classes)):
        left[row, better], left[row, worse] = 1.0, -1.0
    step = min(config.margin, config.max_weight) / max(len(left), 1)
    return left, np.full(len(left), step)


def fixed_weights(names: Sequence[str], rulebook: Rulebook, size: float) -> np.ndarray:
    """The ablation's weights [features]: only signs come from the rulebook.

    A good proposition and the best class get +size, a bad proposition and the worst class -size,
    classes between them evenly spaced values, neutral propositions 0. (The paper does not say how
    its fixed weights were signed.)
    """
    sign = {Polarity.GOOD: 1.0, Polarity.BAD: -1.0, Polarity.NEUTRAL: 0.0}
    ladder = np.linspace(1.0, -1.0, len(rulebook.class_order)).tolist()
    value = {CLASS_PREFIX + name: step for name, step in zip(rulebook.class_order, ladder, strict=True)}
    value |= {name: sign[p.polarity] for name, p in rulebook.propositions.items()}
    value[QUESTIONS] = 1.0  # the signs are the questions' own
    return size * np.array([value[name] for name in names])


def _fixed(
    rows: np.ndarray, offsets: np.ndarray, names: Sequence[str], rulebook: Rulebook, config: WeightsConfig
) -> Optimum:
    weights = fixed_weights(names, rulebook, config.fixed)
    hinge = mean_hinge(rows, offsets, weights)
    objective = hinge + config.l2 / 2.0 * float(weights @ weights)
    return Optimum(weights, objective, hinge, 0.0, 0)


def _check_margins(config: WeightsConfig, rulebook: Rulebook) -> None:
    for pair, margin in config.margins.items():
        better, _, worse = pair.partition(">")
        order = rulebook.class_order
        if better not in order or worse not in order or order.index(better) >= order.index(worse):
            raise InputError(
                f"'{pair}' is not an ordered pair of classes",
                field="weights.margins",
                fix=f"write better/worse with classes of {' > '.join(order)}",
            )
        if not np.isfinite(margin) or margin < 0.0:
            raise InputError(f"'{pair}' is {margin}", field="weights.margins", fix="give 0 or more")
