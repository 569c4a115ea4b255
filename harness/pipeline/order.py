"""The order of the stages: what a run does, from nothing to judged models."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from evals.judges.card import JudgeCard
from evals.suites import Suite
from harness.keys.data import DataSource
from harness.keys.methods import Data, Method, chosen, reward_kinds
from harness.keys.run import RunConfig
from harness.pipeline.attribution import attribute, is_attributed
from harness.pipeline.completions import write_completions
from harness.pipeline.context import Context
from harness.pipeline.forecast import forecast
from harness.pipeline.gold import UNMEASURED, check_grader_is_good, measure_grader
from harness.pipeline.graders import (
    GRADER,
    GRADER_SEED_OFFSET,
    JUDGE,
    JUDGE_SEED_OFFSET,
    chosen_grader,
    fitted_encoder,
    train_grader_stage,
)
from harness.pipeline.judging import (
    all_suites,
    cards_of,
    judge_responses,
    reporters,
    respond,
    test_capability,
)
from harness.pipeline.language_models import (
    fine_tune,
    given_base,
    own_base,
    pretrain_base,
    smaller_width,
    train_reward,
)
from harness.pipeline.reinforcement import reinforce
from harness.pipeline.reward import check_reward, fit_reward
from harness.pipeline.samples import checkpoint_samples, grade_samples, kept_samples
from harness.pipeline.shared_errors import measure_shared_errors
from harness.pipeline.world import make_data
from harness.storage.store import Artifact, BusyError
from harness.subjects.graders import is_plain_encoder
from harness.worlds.folder import GOLD, SAFETY, SYNTHETIC, WorldFolder

Key = TypeVar("Key", bound=Hashable)
Made = TypeVar("Made")


@dataclass(frozen=True)
class StageOutcome:
    """What a run made, as artifacts; by method name where there is one a method."""

    data: Artifact
    gold: dict[str, Artifact]  # grader and judge
    ranking: Artifact | None
    models: dict[str, Artifact]
    suites: list[Suite]  # the world's own first
    responses: dict[tuple[str, str], Artifact] = field(default_factory=dict)  # method, suite
    judged: dict[tuple[str, str, str], Artifact] = field(default_factory=dict)  # method, suite, judge
    capability: dict[str, Artifact] = field(default_factory=dict)
    cards: dict[str, JudgeCard] = field(default_factory=dict)  # by judge
    shared_errors: Artifact | None = None  # of grader and judge
    graded: Artifact | None = None  # what grader and rewards say of the samples
    completions: Artifact | None = None  # that weights are fitted on
    # Of the trained methods, where they are asked for.
    ceilings: dict[str, Artifact] = field(default_factory=dict)


@dataclass(frozen=True)
class Learnt:
    """What is there before reinforcement learning; reward models and the weights beside them by the data they know.

    Without rules there are neither grader nor completions, and one's own data train no judge.
    """

    data: Artifact
    base: Artifact
    grader: Artifact | None
    judge: Artifact | None
    gold: dict[str, Artifact]
    completions: Artifact | None
    sft: dict[Data, Artifact]
    reward_models: dict[Data, Artifact]
    weights: dict[Data, Artifact]

    def reward_of(self, method: Method) -> tuple[Artifact, Artifact | None, Artifact | None]:
        """(reward model, grader, weights) of a method that reinforcement learning trains; None of what is not there."""
        assert method.reward_model is not None
        kind = method.reward_model
        return self.reward_models[kind], self.grader, self.weights.get(kind)


def run_stages(context: Context) -> StageOutcome:
    """Every stage in order; finished ones come from the store."""
    methods = chosen(context.config.methods)
    learnt = learn(context, methods)
    ranking = ranking_of(context, learnt)
    suites = all_suites(context, learnt.data)
    begun = StageOutcome(learnt.data, learnt.gold, ranking, {}, suites, completions=learnt.completions)
    outcome = _trained_and_judged(context, methods, learnt, begun)
    return replace(
        outcome,
        shared_errors=shared_errors_of(context, methods, learnt, outcome),
        ceilings=ceilings_of(context, methods, learnt, outcome),
        graded=graded_of(context, methods, learnt, outcome),
    )


def learn(context: Context, methods: Sequence[Method]) -> Learnt:
    """Data, graders, demonstrations learnt, reward models and weights."""
    # A given model is loaded first: one that does not load is told before anything is made.
    given = given_base(context) if context.config.model.path else None
    data = make_data(context)
    check_types(context, data, methods)
    base, judge = _base_and_own_judge(context, data, given)
    if given and context.config.processes == 1:
        context.foretell = partial(forecast, context, data, base)
    learning = partial(_learning, context, data, base, methods)
    grading = _grading(context, data, base, judge, methods)
    # What learns from completions that are written here waits for the grader that samples them.
    brought = WorldFolder(data.path).has(SYNTHETIC)
    made = all_of(context, {**grading, **(learning(data) if brought else {})})
    grader, judge = made.get("grader"), made.get("judge", judge)
    gold = measured_graders(context, data, grader, judge)
    completions = completions_of(context, data, base, grader)
    learnt = made if brought else all_of(context, learning(completions))
    sft = {kind: learnt["sft", kind] for kind in _tuned(methods)}
    reward_models = {kind: learnt["reward", kind] for kind in reward_kinds(methods)}
    weights = {}
    if grader is not None and completions is not None:
        weights = {
            kind: fit_reward(context, data, completions, grader, reward_models[kind], kind.value)
            for kind in reward_models
            if any(m.rule_based and m.reward_model is kind for m in methods)
        }
    return Learnt(data, base, grader, judge, gold, completions, sft, reward_models, weights)


def _base_and_own_judge(
    context: Context, data: Artifact, given: Artifact | None
) -> tuple[Artifact, Artifact | None]:
    """The base, and beside it a judge that needs none of it: with a base of its own."""
    builds: dict[str, Callable[[], Artifact]] = {}
    if given is None:
        builds["base"] = partial(pretrain_base, context, data)
    if _has_judge(context) and own_judge_width(context.config):
        builds["judge"] = partial(judge_of, context, data, given)
    made = all_of(context, builds)
    base = made.get("base", given)
    assert base is not None  # given, or made
    return base, made.get("judge")


def _has_judge(context: Context) -> bool:
    return context.config.data.source is not DataSource.FILES


def _grading(
    context: Context, data: Artifact, base: Artifact, judge: Artifact | None, methods: Sequence[Method]
) -> dict[Hashable, Callable[[], Artifact]]:
    """The grader and the judge, where the run has them; `judge` is there already, or shares the base."""
    builds: dict[Hashable, Callable[[], Artifact]] = {}
    if _has_judge(context) or any(m.is_graded or m.sft is Data.RBR for m in methods):
        builds["grader"] = partial(grader_of, context, data, base)
    if _has_judge(context) and judge is None:
        builds["judge"] = partial(judge_of, context, data, base)
    return builds


def _learning(
    context: Context, data: Artifact, base: Artifact, methods: Sequence[Method], completions: Artifact | None
) -> dict[Hashable, Callable[[], Artifact]]:
    """Fine-tuned models and reward models, by their data."""
    builds: dict[Hashable, Callable[[], Artifact]] = {}
    for kind in _tuned(methods):
        builds["sft", kind] = partial(fine_tune, context, data, base, kind, completions)
    for kind in reward_kinds(methods):
        builds["reward", kind] = partial(train_reward, context, data, base, kind)
    return builds


def _tuned(methods: Sequence[Method]) -> list[Data]:
    return [kind for kind in Data if any(m.sft is kind for m in methods)]


def ranking_of(context: Context, learnt: Learnt) -> Artifact | None:
    """How well the first reward with weights ranks held-out completions; None without weights."""
    if (kind := next(iter(learnt.weights), None)) is None:
        return None
    assert learnt.grader is not None and learnt.completions is not None
    reward = (learnt.grader, learnt.reward_models[kind], learnt.weights[kind])
    return check_reward(context, learnt.data, learnt.completions, *reward)


def _model_of(context: Context, method: Method, learnt: Learnt) -> Artifact:
    """The method's model: of reinforcement learning, or as SFT left it."""
    start = learnt.sft[method.sft]
    if method.reward_model is None:
        return start
    return reinforce(
        context, method, learnt.data, start, *learnt.reward_of(method), learnt.judge, learnt.base
    )


def shared_errors_of(
    context: Context, methods: Sequence[Method], learnt: Learnt, outcome: StageOutcome
) -> Artifact | None:
    """How often grader and judge err together; None without a judge."""
    if learnt.grader is None or learnt.judge is None:
        return None
    suite = outcome.suites[0]
    said = {m.name: outcome.responses[m.name, suite.name] for m in methods}
    graders = {GRADER: learnt.grader, JUDGE: learnt.judge}
    return measure_shared_errors(context, learnt.data, graders, learnt.gold, suite, said)


def ceilings_of(
    context: Context, methods: Sequence[Method], learnt: Learnt, outcome: StageOutcome
) -> dict[str, Artifact]:
    """How far each training went to its reward's ceiling, where it is asked for."""
    if not context.config.evaluation.ceiling_samples or not outcome.suites:
        return {}
    by = reporters(context, learnt.data, learnt.judge)[0]
    found = {}
    for method in filter(is_attributed, methods):
        start, model = learnt.sft[method.sft], outcome.models[method.name]
        reward, suite = learnt.reward_of(method), outcome.suites[0]
        found[method.name] = attribute(context, method, learnt.data, start, model, reward, suite, by)
    return found


def graded_of(
    context: Context, methods: Sequence[Method], learnt: Learnt, outcome: StageOutcome
) -> Artifact | None:
    """What grader and rewards say of the responses that are kept for reading, where it is asked for."""
    if not context.config.evaluation.graded_samples:
        return None
    suites, rewards = outcome.suites, (learnt.reward_models, learnt.weights)
    rows = {m.name: checkpoint_samples(suites, outcome.responses, outcome.judged, m.name) for m in methods}
    kept = {name: kept_samples(of_method) for name, of_method in rows.items()}
    return grade_samples(context, methods, learnt.data, learnt.grader, *rewards, suites, kept)


def all_of(context: Context, builds: Mapping[Key, Callable[[], Made]]) -> dict[Key, Made]:
    """What each of `builds` makes, of stages that need nothing of each other.

    One that another process is computing comes after those that nobody is at.
    """
    left, made, stages = dict(builds), dict[Key, Made](), dict[Key, list[tuple[str, Artifact]]]()
    while left:
        count = len(left)
        for key in list(left):
            if _made(context, key, left[key], made, stages, waits=len(left) == 1):
                del left[key]
        if len(left) == count:  # others are at all of them
            key = next(iter(left))
            _made(context, key, left.pop(key), made, stages, waits=True)
    for key in builds:
        context.done += stages[key]
    return {key: made[key] for key in builds}


def _made(
    context: Context,
    key: Key,
    build: Callable[[], Made],
    made: dict[Key, Made],
    stages: dict[Key, list[tuple[str, Artifact]]],
    *,
    waits: bool,
) -> bool:
    """Whether it could be made without waiting for another process, or it `waits`."""
    before, context.done = context.done, []
    context.store.waits = waits
    try:
        made[key] = build()
        stages[key] = context.done
    except BusyError:
        return False
    finally:
        context.done, context.store.waits = before, True
    return True


def check_types(context: Context, data: Artifact, methods: Sequence[Method]) -> None:
    """Raises InputError for safety prompts whose response type the rules say nothing of, before any training."""
    folder = WorldFolder(data.path)
    if not any(m.rule_based or m.sft is Data.RBR for m in methods) or not folder.has("prompts_safety"):
        return
    for kind in dict.fromkeys(prompt.response_type for prompt in folder.prompts(SAFETY)):
        if kind is not None:
            context.rulebook.conditions_for(kind)


def grader_of(context: Context, data: Artifact, base: Artifact) -> Artifact:
    """Trained from the world's labels, or the one that the run's keys name."""
    keys = context.config.grader
    if keys.is_trained:
        if keys.width is not None:
            base = own_base(context, data, "grader.width", keys.width, GRADER_SEED_OFFSET)
        return train_grader_stage(context, data, base, GRADER)
    return fitted_encoder(context, data) if is_plain_encoder(keys.kind, keys.path) else chosen_grader(context)


def judge_of(context: Context, data: Artifact, base: Artifact | None) -> Artifact:
    """Trained from other labels than the grader, on a base of its own: what the grader's gets wrong it need not."""
    if width := own_judge_width(context.config):
        base = own_base(context, data, "judge_width", width, JUDGE_SEED_OFFSET)
    assert base is not None  # the run's, where the judge has none
    return train_grader_stage(context, data, base, JUDGE)


def own_judge_width(config: RunConfig) -> int:
    """Of the judge's own base; 0 where it shares the run's, as on a given model, which has no smaller one."""
    if config.judge_width is not None:
        return config.judge_width
    return 0 if config.model.path else smaller_width(config.model.width)


def measured_graders(
    context: Context, data: Artifact, grader: Artifact | None, judge: Artifact | None
) -> dict[str, Artifact]:
    """Each against the gold labels, where the data have some; a grader that is too bad ends the run."""
    if not WorldFolder(data.path).has(GOLD):
        if grader is not None:
            context.console.say(UNMEASURED)
        return {}
    gold = {role.stage: measure_grader(context, data, role) for role in (grader, judge) if role is not None}
    if grader is not None:
        check_grader_is_good(context, gold[grader.stage])
    return gold


def completions_of(
    context: Context, data: Artifact, base: Artifact, grader: Artifact | None
) -> Artifact | None:
    """What weights are fitted on and RBR-SFT learns from: the data's, else written and sampled ones."""
    if WorldFolder(data.path).has(SYNTHETIC):
        return data
    return None if grader is None else write_completions(context, data, base, grader)


def _trained_and_judged(
    context: Context, methods: Sequence[Method], learnt: Learnt, outcome: StageOutcome
) -> StageOutcome:
    """Each method trained, its responses judged and its capability tested."""
    judges = reporters(context, outcome.data, learnt.judge)
    outcome.cards.update(cards_of(context, judges))

    def build(method: Method) -> Artifact:
        model = _model_of(context, method, learnt)
        for suite in outcome.suites:
            responses = respond(context, method, outcome.data, model, suite)
            outcome.responses[method.name, suite.name] = responses
            for by in judges:
                judged = judge_responses(context, method, outcome.data, responses, suite, by)
                outcome.judged[method.name, suite.name, by.name] = judged
        if context.config.capability.tasks:
            outcome.capability[method.name] = test_capability(context, method, outcome.data, model)
        return model

    outcome.models.update(all_of(context, {method.name: partial(build, method) for method in methods}))
    return outcome
