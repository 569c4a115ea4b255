"""One side of the gate: what a reward says of every completion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from evals.graders import Grader, grade_in_batches
from evals.graders.own_questions import graded_questions, question_scores
from evals.graders.recorded import RecordedGrader, asked_in
from evals.rules.features import features
from evals.rules.propositions import Proposition
from evals.rules.questions import QuestionScores
from evals.rules.rulebook import Rulebook, load_rulebook
from evals.rules.rulebook_file import CLASS_PREFIX
from evals.values.conversation import LabelledResponse, Message, Response, ResponseType
from evals.values.errors import InputError
from evals.values.grades import Grades, Unscored
from evals.values.jsonl_rows import read_labelled
from harness.runtime.console import Advance
from harness.storage.digest import digest
from harness.storage.whole_folder import check_file
from harness.subjects.description import (
    FitDescription,
    RewardDescription,
    load_description,
    load_reward_model_term,
)
from harness.subjects.graders import load_grader
from harness.subjects.recorded_rewards import RecordedRewards, check_found
from trainers.reward.examples import FitExamples, graded_examples
from trainers.reward.reward import Breakdown, Reward, SumOfTerms
from trainers.reward.reward_weights import RewardWeights, load_weights
from trainers.reward.rule_based_term import RuleBasedTerm
from trainers.reward.weights import fit_weights
from trainers.reward.weights_config import MAX_UNSCORED, WeightsConfig

Refit = Callable[[], tuple[Sequence[FitExamples], WeightsConfig]]


class Asked(Protocol):
    """Responses that a reward is asked of: frozen completions, or a set of samples. All have a response type."""

    def __len__(self) -> int: ...
    @property
    def responses(self) -> list[Response]: ...
    @property
    def response_types(self) -> list[ResponseType]: ...
    def rows(self, response_type: ResponseType) -> np.ndarray: ...


@dataclass(frozen=True)
class LiveReward:
    """A reward that can be asked: a description, or a finished run, with everything loaded.

    `template` is how its grader puts a question. `silent_grades` names recorded grades that do not say
    which questions they answer, `silent_template` those that do not say how they were put; `fitted_on` has
    the prompts that the weights are fitted on here and now.
    """

    rulebook: Rulebook
    grader: Grader
    weights: Callable[[], RewardWeights]  # called once, late: a fit asks the grader
    reward_model: Reward | None
    about: Mapping[str, str]
    template: str = ""
    silent_grades: Path | None = None
    silent_template: Path | None = None
    fitted_on: frozenset[tuple[Message, ...]] = frozenset()
    refit: Refit | None = None  # what the weights were fitted on and how; None where that is not at hand


@dataclass(frozen=True)
class RewardSide:
    """What one reward says; `grades` by response type, in the order of that type's completions.

    `classes` [completions] are by grades, None where they cannot be told. Recorded rewards may lack
    rulebook, grades and classes.
    """

    source: str
    kind: str  # description, run, fit or recorded
    breakdown: Breakdown
    classes: tuple[str | None, ...] | None = None
    grades: Mapping[ResponseType, Grades] = field(default_factory=dict)
    questions: Mapping[str, str] = field(default_factory=dict)
    template: str = ""  # how they were put; empty where that is unknown, or nothing was asked
    rulebook: Rulebook | None = None
    grader: str = ""
    about: Mapping[str, str] = field(default_factory=dict)
    fitted_on: frozenset[tuple[Message, ...]] = frozenset()
    # What prompts' own questions say.
    asked: Mapping[ResponseType, QuestionScores] = field(default_factory=dict)


class GivenGrades:
    """Grades at hand, as grader: the reward is paid on exactly those that the report shows."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._found: dict[tuple[tuple[Message, ...], str], dict[str, float | Unscored]] = {}

    def add(self, responses: Sequence[Response], grades: Grades) -> None:
        for row, response in enumerate(responses):
            found = self._found.setdefault((response.prompt.messages, response.text), {})
            found |= {name: grades.grade(row, column) for column, name in enumerate(grades.propositions)}

    def grade(self, responses: Sequence[Response], propositions: Sequence[Proposition]) -> Grades:
        """Grades [responses, propositions]. Raises KeyError for a response that was not added."""
        names = [p.name for p in propositions]
        return Grades.of(names, [self._row(response, names) for response in responses])

    def _row(self, response: Response, names: Sequence[str]) -> list[float | Unscored]:
        found = self._found[response.prompt.messages, response.text]
        return [found[name] for name in names]


def load_live(source: str, cache: Path) -> LiveReward:
    """A description by path. `cache` keeps the grades of graders that have to be asked."""
    return live_reward(load_description(Path(source)), cache)


def live_reward(description: RewardDescription, cache: Path, grader: Grader | None = None) -> LiveReward:
    """Load what a description names; `grader` stands in for its own. Raises InputError where a part does not load or
    fit.
    """
    rulebook = load_rulebook(description.rulebook)
    grader = grader or load_grader(description.grader, cache, rulebook)
    named, fit = description.reward_model, description.weights
    model = None if named is None else load_reward_model_term(named)
    about = {"rulebook": f"{description.rulebook.name} ({rulebook.digest})", "grader": grader.name}
    recorded = grader if isinstance(grader, RecordedGrader) else None
    labelled = _to_fit(fit, rulebook) if isinstance(fit, FitDescription) else []

    def weights() -> RewardWeights:
        if isinstance(fit, FitDescription):
            return fitted(fit, labelled, rulebook, grader, model)
        check_file(fit)
        return load_weights(fit, rulebook)

    def refit() -> tuple[Sequence[FitExamples], WeightsConfig]:
        assert isinstance(fit, FitDescription)
        return to_fit(fit, labelled, rulebook, grader, model)

    return LiveReward(
        rulebook,
        grader,
        weights,
        model,
        about,
        asked_in(grader, rulebook.prompt_template),
        recorded.path.resolve() if recorded and not recorded.questions else None,
        recorded.path.resolve() if recorded and not recorded.template else None,
        frozenset(row.response.prompt.messages for row in labelled),
        refit if isinstance(fit, FitDescription) else None,
    )


def _to_fit(fit: FitDescription, rulebook: Rulebook) -> list[LabelledResponse]:
    """The completions to fit on whose response type the rulebook knows."""
    rows = read_labelled(fit.data, levels=rulebook.levels)
    kept = [row for row in rows if row.response.prompt.response_type in rulebook.response_types]
    if not kept:
        fix = "give completions of the rulebook's response types"
        raise InputError("no completion to fit on", path=fit.data, fix=fix)
    return kept


def fitted(
    fit: FitDescription,
    labelled: Sequence[LabelledResponse],
    rulebook: Rulebook,
    grader: Grader,
    model: Reward | None,
) -> RewardWeights:
    """Fit weights on labelled completions; the rulebook itself reads the labels of rows without a class."""
    try:
        examples, config = to_fit(fit, labelled, rulebook, grader, model)
        return fit_weights(examples, rulebook, config, grader=grader.name)
    except InputError as error:
        problem = f"weights cannot be fitted: {error}"
        raise InputError(problem, path=fit.data, fix="mend that first") from None


def to_fit(
    fit: FitDescription,
    labelled: Sequence[LabelledResponse],
    rulebook: Rulebook,
    grader: Grader,
    model: Reward | None,
) -> tuple[list[FitExamples], WeightsConfig]:
    """The graded completions, and how weights are fitted on them. Raises UndecidableError for too many unscored."""
    examples = graded_examples(rulebook, labelled, grader, used_propositions(rulebook), model)
    config = fit.config if model is not None else replace(fit.config, reward_model=False)
    for group in examples:
        what = f"completions of {group.response_type.value} to fit weights on ({fit.data})"
        group.check_scored(MAX_UNSCORED, what)
    return examples, config


def score(source: str, kind: str, reward: LiveReward, completions: Asked, advance: Advance) -> RewardSide:
    """Grade every completion once, then pay the reward on those grades.

    Raises InputError where the rulebook or the weights lack a response type of the completions.
    """
    given = GivenGrades(reward.grader.name)
    grades: dict[ResponseType, Grades] = {}
    asked_too: dict[ResponseType, QuestionScores] = {}
    for response_type in completions.response_types:
        responses = [completions.responses[i] for i in completions.rows(response_type)]
        names = reward.rulebook.propositions_for(response_type)
        asked = [reward.rulebook.propositions[name] for name in names]
        grades[response_type] = grade_in_batches(reward.grader, responses, asked, progress=advance)
        given.add(responses, grades[response_type])
        if response_type in reward.rulebook.prompt_questions:
            for group, own in graded_questions(reward.grader, responses):
                given.add([responses[row] for row in group.rows], own)
            asked_too[response_type] = question_scores(given, responses)
    weights = reward.weights()
    terms: list[Reward] = [] if reward.reward_model is None else [reward.reward_model]
    total = SumOfTerms([*terms, RuleBasedTerm(reward.rulebook, given, weights)])(completions.responses)
    return RewardSide(
        source,
        kind,
        total,
        classes_by_grades(reward.rulebook, completions, grades),
        grades,
        {p.name: p.question_digest for p in used_propositions(reward.rulebook)},
        reward.template,
        reward.rulebook,
        reward.grader.name,
        {**reward.about, "weights": digest(weights_content(weights))},
        reward.fitted_on,
        asked_too,
    )


def score_recorded(path: Path, completions: Asked) -> RewardSide:
    """A recorded run; its grades are read where every row has them."""
    recorded = RecordedRewards(path)
    responses = completions.responses
    check_found(recorded, responses)
    grades: dict[ResponseType, Grades] = {}
    questions: dict[str, str] = {}
    grader = template = ""
    if recorded.has_grades:
        reader = RecordedGrader(path)
        grader, questions, template = reader.name, reader.questions, reader.template
        for response_type in completions.response_types:
            rows = completions.rows(response_type)
            grades[response_type] = _all_grades(reader, recorded, [responses[i] for i in rows])
    classes = recorded.classes(responses)
    known = classes if any(classes) else None
    return RewardSide(
        str(path),
        "recorded",
        recorded(responses),
        known,
        grades,
        questions,
        template,
        grader=grader,
    )


def classes_by_grades(
    rulebook: Rulebook, completions: Asked, grades: Mapping[ResponseType, Grades]
) -> tuple[str | None, ...]:
    """The likeliest class of each completion by its grades, the worst of equals; None where unscored."""
    found: list[str | None] = [None] * len(completions)
    for response_type, graded in grades.items():
        values = features(rulebook, response_type, graded)
        names = [name for name in values.names if name.startswith(CLASS_PREFIX)]
        table = np.stack([values.column(name) for name in names], axis=1)
        for row, place in enumerate(completions.rows(response_type)):
            if np.isfinite(table[row]).all():
                worst = int(np.flatnonzero(table[row] == table[row].max())[-1])
                found[place] = names[worst].removeprefix(CLASS_PREFIX)
    return tuple(found)


def used_propositions(rulebook: Rulebook) -> list[Proposition]:
    """Propositions that some response type's classes use, in file order."""
    used = {name for t in rulebook.response_types for name in rulebook.propositions_for(t)}
    return [p for name, p in rulebook.propositions.items() if name in used]


def weights_content(weights: RewardWeights) -> dict[str, object]:
    """What decides the reward: weights and trees, and the rulebook that they are for."""
    trees = {t.value: asdict(ensemble) for t, ensemble in weights.trees.items()}
    by_type = {t.value: by_name for t, by_name in weights.by_type.items()}
    return {"rulebook": weights.rulebook_digest, "weights": by_type, "trees": trees}


def _all_grades(reader: RecordedGrader, recorded: RecordedRewards, responses: Sequence[Response]) -> Grades:
    """Every proposition that the file has for these responses, as it was asked then."""
    rows = [recorded.row(response) or {} for response in responses]
    names = dict.fromkeys(n for row in rows for n in [*row.get("grades", {}), *row.get("reasons", {})])
    return reader.as_recorded(responses, list(names))
