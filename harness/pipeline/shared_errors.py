"""What the grader that pays and the judge that reports get wrong together, against labels that are the truth.

Gold labels that both have graded and, in the sandbox, its oracle on what the trained models wrote.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.graders import Grader
from evals.graders.calibration import cuts_of
from evals.graders.shared_errors import Answers, shared_errors
from evals.judges.judgement import response_type_of
from evals.rules.rulebook import Rulebook
from evals.suites import Suite
from evals.values.conversation import Response, ResponseType
from evals.values.csv_rows import write_csv
from harness.keys.data import DataSource
from harness.pipeline.context import Context
from harness.pipeline.gold import graded_gold
from harness.pipeline.graders import GRADER, JUDGE, asked_grader
from harness.pipeline.judging import stored_outcomes
from harness.pipeline.samples import propositions_of
from harness.record.run import OF_GOLD, OF_RESPONSES, SHARED_ERRORS
from harness.storage.store import Artifact
from harness.worlds.folder import EVAL_PROMPTS_FILE, GOLD, SANDBOX_FILE, WorldFolder, labels_file
from harness.worlds.sandbox.oracle import oracle_grader

Row = dict[str, Any]
COUNTS = ("n", "grader_wrong", "judge_wrong", "both_wrong")
COLUMNS = ("of", "response_type", "proposition", *COUNTS)


def measure_shared_errors(
    context: Context,
    data: Artifact,
    graders: Mapping[str, Artifact],
    gold: Mapping[str, Artifact],
    suite: Suite,
    responses: Mapping[str, Artifact],
) -> Artifact:
    """`graders` and `gold` by GRADER and JUDGE, `responses` to the world's own `suite` by method; writes SHARED_ERRORS.

    Of the responses those of last checkpoints, and none where the grader was chosen: it would be asked of thousands of
    responses more, and paid for them perhaps.
    """
    config = context.config
    graded = responses if config.data.source is DataSource.SANDBOX and config.grader.is_trained else {}

    def build(out: Path) -> dict[str, Any]:
        rows = list(_of_gold(context, data, gold)) if gold else []
        written = [r for artifact in graded.values() for r in last_responses(artifact, suite)]
        rows += _of_responses(context, data, graders, written)
        write_csv(out / SHARED_ERRORS, rows, COLUMNS)
        return {name: sum(row[name] for row in rows) for name in COUNTS}

    return context.stage(
        "shared errors",
        build,
        config={"rulebook": context.rulebook.digest, "suite": [suite.name, suite.version]},
        inputs={
            "data": data.part(labels_file(GOLD), SANDBOX_FILE, EVAL_PROMPTS_FILE),
            **graders,
            **{f"gold_{role}": artifact for role, artifact in gold.items()},
            **{f"responses_{name}": artifact for name, artifact in graded.items()},
        },
        modules=[
            "evals.graders.shared_errors",
            "evals.graders.language_model",
            "harness.worlds.sandbox.oracle",
        ],
        glue=["harness.pipeline.gold", "harness.pipeline.samples"],
    )


def last_responses(responses: Artifact, suite: Suite) -> list[Response]:
    """What a method's last checkpoint wrote, without what it did not."""
    prompts = {prompt.id: prompt for prompt in suite.prompts}
    *_, last = stored_outcomes(responses).values()
    told = [outcome.response(prompts[outcome.prompt_id]) for outcome in last]
    return [response for response in told if response is not None]


def _of_gold(context: Context, data: Artifact, gold: Mapping[str, Artifact]) -> Iterator[Row]:
    """Of response types that the rules have classes for, the propositions that these use."""
    rulebook = context.rulebook
    labelled = WorldFolder(data.path).labelled(GOLD, levels=rulebook.levels)
    said = [graded_gold(gold[role]) for role in (GRADER, JUDGE)]
    kinds: list[ResponseType] = []
    truth: list[dict[str, float | None]] = []
    ruled: list[int] = []
    for place, row in enumerate(labelled):
        kind = row.response.prompt.response_type
        if kind is not None and kind in rulebook.response_types:
            known = row.propositions
            truth.append({n: float(known[n]) for n in rulebook.propositions_for(kind) if n in known})
            kinds.append(kind)
            ruled.append(place)
    grader, judge = ([of[place] for place in ruled] for of in said)
    yield from _rows(OF_GOLD, rulebook, kinds, truth, grader, judge)


def _of_responses(
    context: Context, data: Artifact, graders: Mapping[str, Artifact], responses: Sequence[Response]
) -> Iterator[Row]:
    if not responses:
        return
    asked: list[Grader] = [oracle_grader(WorldFolder(data.path).sandbox)]
    asked += [asked_grader(context, graders[role]) for role in (GRADER, JUDGE)]
    total = len(asked) * len(responses)
    with context.console.stage("shared errors", total=total, unit="responses") as advance:
        found: list[Answers] = []
        for one in asked:
            found.append(propositions_of(one, context.rulebook, responses))
            advance(len(responses))
    truth, grader, judge = found
    kinds = [response_type_of(response) for response in responses]
    yield from _rows(OF_RESPONSES, context.rulebook, kinds, truth, grader, judge)


def _rows(
    of: str,
    rulebook: Rulebook,
    kinds: Sequence[ResponseType],
    truth: Answers,
    grader: Answers,
    judge: Answers,
) -> Iterator[Row]:
    names, cuts = [kind.value for kind in kinds], cuts_of(rulebook.propositions.values())
    for (kind, name), counts in shared_errors(names, truth, grader, judge, cuts).items():
        yield dict(
            zip(COLUMNS, (of, kind, name, counts.n, counts.first, counts.second, counts.both), strict=True)
        )
