"""Stage 13: the responses that are kept for reading, and what propositions and rewards say of the most telling."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evals.graders import Grader
from evals.judges.judgement import Judgement
from evals.rules.rulebook import Rulebook
from evals.suites import Suite
from evals.values.conversation import Prompt, Response
from evals.values.grades import check_unscored
from evals.values.jsonl_rows import read_jsonl, write_jsonl
from harness.evaluate.measuring import Judged, sample_rows
from harness.keys.methods import Data, Method
from harness.pipeline.context import Context
from harness.pipeline.graders import asked_grader
from harness.pipeline.judging import stored_judgements, stored_outcomes
from harness.pipeline.reward import reward_for
from harness.pipeline.reward_model_term import REFERENCE_FILES
from harness.pipeline.spending import PaidGrader
from harness.record.samples import key_of, most_telling
from harness.storage.digest import digest
from harness.storage.store import Artifact
from harness.worlds.folder import EVAL_PROMPTS_FILE
from trainers.reward.reward import Breakdown, Reward
from trainers.reward.weights_config import MAX_UNSCORED

FILE = "graded.jsonl"
SAMPLES = 200  # responses of each method's last checkpoint that are kept for reading
KEY = ("suite", "prompt_id", "sample")
Rows = Mapping[str, Sequence[Mapping[str, Any]]]  # by method


def grade_samples(
    context: Context,
    methods: Sequence[Method],
    data: Artifact,
    grader: Artifact | None,
    reward_models: Mapping[Data, Artifact],
    weights: Mapping[Data, Artifact],
    suites: Sequence[Suite],
    kept: Rows,
) -> Artifact:
    """Grades and rewards of the responses to the most telling of the `kept` prompts; writes graded.jsonl.

    A method is paid by the reward that it was trained on; one that was not, by none.
    """
    chosen = most_telling(kept, context.config.evaluation.graded_samples)
    prompts = {(suite.name, prompt.id): prompt for suite in suites for prompt in suite.prompts}
    texts = {
        name: [row for row in rows if key_of(row) in chosen and "unscored" not in row]
        for name, rows in kept.items()
    }

    def build(out: Path) -> dict[str, Any]:
        asked = None if grader is None else asked_grader(context, grader)
        made: list[dict[str, Any]] = []
        total = sum(map(len, texts.values()))
        with context.console.stage("graded samples", total=total, unit="responses") as advance:
            for method in methods:
                rows = texts[method.name]
                responses = [_response(row, prompts[row["suite"], row["prompt_id"]]) for row in rows]
                reward = None
                if (kind := method.reward_model) is not None:
                    parts = (reward_models[kind], grader, weights.get(kind))
                    reward = partial(reward_for, context, method, data, *parts)
                told = _told(context.rulebook, asked, reward, responses)
                for row, of in zip(rows, told, strict=True):
                    made.append({"method": method.name, **dict(zip(KEY, key_of(row), strict=True)), **of})
                advance(len(rows))
        _check_graded(made, asked)
        write_jsonl(out / FILE, made)
        return {"responses": len(made)}

    models = {f"reward_model_{kind.value}": artifact for kind, artifact in reward_models.items()}
    fitted = {f"weights_{kind.value}": artifact for kind, artifact in weights.items()}
    return context.stage(
        "graded samples",
        build,
        config={
            "rulebook": context.rulebook.digest,
            "methods": [method.name for method in methods],
            "rows": digest(texts),
        },
        inputs={
            "data": data.part(*REFERENCE_FILES, EVAL_PROMPTS_FILE),
            **({} if grader is None else {"grader": grader}),
            **models,
            **fitted,
        },
        modules=[
            "trainers.reward.rule_based_term",
            "trainers.reward.reward_model_term",
            "evals.graders.language_model",
        ],
    )


def _told(
    rulebook: Rulebook,
    grader: Grader | None,
    reward: Callable[[], Reward] | None,
    responses: Sequence[Response],
) -> list[dict[str, Any]]:
    """The `grades` of each response, and its `reward` where there is one and the rules say anything of its prompt."""
    grades = [{}] * len(responses) if grader is None else propositions_of(grader, rulebook, responses)
    rows: list[dict[str, Any]] = [{"grades": of} for of in grades]
    # Of suites that ask for what the rules say nothing of, there is no reward to tell.
    ruled = [i for i, response in enumerate(responses) if _is_ruled(response.prompt, rulebook)]
    if ruled and reward is not None:
        paid = reward()([responses[i] for i in ruled])
        for place, i in enumerate(ruled):
            rows[i]["reward"] = reward_of(paid, place)
    return rows


# --- which responses are kept ----------------------------------------------------------------


def checkpoint_samples(
    suites: Sequence[Suite],
    responses: Mapping[tuple[str, str], Artifact],
    judged: Mapping[tuple[str, str, str], Artifact],
    method: str,
) -> dict[str, list[dict[str, Any]]]:
    """{checkpoint: one row a response}, with every judge's verdict; real prompts stand there by id only."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for suite in suites:
        by = judgements_by(judged, method, suite.name)
        for checkpoint, outcomes in stored_outcomes(responses[method, suite.name]).items():
            said = {judge: of[checkpoint] for judge, of in by.items()}
            one = Judged(method, suite, tuple(outcomes), said)
            rows.setdefault(checkpoint, []).extend(sample_rows(one, show_prompts=suite.name == "sandbox"))
    return rows


def judgements_by(
    judged: Mapping[tuple[str, str, str], Artifact], method: str, suite: str
) -> dict[str, dict[str, list[Judgement]]]:
    """{judge: {checkpoint: judgements}} of a method's responses to a suite."""
    mine = {judge: a for (*of, judge), a in judged.items() if of == [method, suite]}
    return {judge: stored_judgements(artifact) for judge, artifact in mine.items()}


def kept_samples(by_checkpoint: Mapping[str, Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Of the last checkpoint at most SAMPLES of each suite, evenly over the whole of it."""
    rows = by_checkpoint[list(by_checkpoint)[-1]]
    suites = dict.fromkeys(row["suite"] for row in rows)
    return [row for suite in suites for row in _spread([r for r in rows if r["suite"] == suite])]


def _spread(items: Sequence[Any]) -> list[Any]:
    return list(items[:: max(1, -(-len(items) // SAMPLES))])


# --- what is said of them --------------------------------------------------------------------


def propositions_of(
    grader: Grader, rulebook: Rulebook, responses: Sequence[Response]
) -> list[dict[str, float | None]]:
    """Of each response, {proposition of its type: its probability}; None where the grader gave no number, and nothing
    of a type that the rulebook has no classes for.
    """
    found: list[dict[str, float | None]] = [{} for _ in responses]
    types = dict.fromkeys(r.prompt.response_type for r in responses)
    for kind in (kind for kind in types if kind in rulebook.response_types):
        assert kind is not None
        rows = [i for i, response in enumerate(responses) if response.prompt.response_type is kind]
        names = rulebook.propositions_for(kind)
        asked = [rulebook.propositions[name] for name in names]
        grades = grader.grade([responses[i] for i in rows], asked).probability
        for place, i in enumerate(rows):
            found[i] = {name: _number(value) for name, value in zip(names, grades[place], strict=True)}
    return found


def _check_graded(made: Sequence[Mapping[str, Any]], grader: Grader | None) -> None:
    """Raises UndecidableError where a server gave no number too often: the record would be without them for good."""
    if not isinstance(grader, PaidGrader):
        return
    values = [value for row in made for value in row["grades"].values()]
    what, then = "grades of the samples are missing", "the same command asks for them again"
    check_unscored(values.count(None), len(values), MAX_UNSCORED, what, then=then)


def _is_ruled(prompt: Prompt, rulebook: Rulebook) -> bool:
    return prompt.response_type is None or prompt.response_type in rulebook.response_types


def reward_of(paid: Breakdown, row: int) -> dict[str, Any]:
    """The total, its terms, and what each rule that counts for the response's type adds."""
    rules = {name: _number(values[row]) for name, values in paid.contributions.items()}
    return {
        "total": _number(paid.total[row]),
        "terms": {name: _number(values[row]) for name, values in paid.terms.items()},
        "rules": {name: value for name, value in rules.items() if value},
    }


def stored_grades(graded: Artifact) -> dict[tuple[str, str, str, int], dict[str, Any]]:
    """{(method, suite, prompt_id, sample): grades and reward}."""
    rows = read_jsonl(graded.path / FILE, lambda row: dict(row.values))
    return {(row.pop("method"), *(row.pop(name) for name in KEY)): row for row in rows}  # type: ignore[misc]


def _response(row: Mapping[str, Any], prompt: Prompt) -> Response:
    return Response(prompt, str(row["response"]), int(row["sample"]), bool(row["finished"]))


def _number(value: float | np.floating[Any]) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None
