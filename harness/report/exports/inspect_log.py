"""An evaluation as logs of Inspect (inspect_ai), written by its own library: the extra `inspect`.

`inspect/MODEL_SUITE.json`, one log for each model and suite, which `inspect view`, `inspect log` and
`inspect_ai.log.read_eval_log` open. A judge is a scorer, whose value of a response is "C" where it is as it should be
and "I" where not; what it could not judge has no score. The metrics are those of metrics.csv. A sample's number is
Inspect's epoch. Where Inspect draws identifiers at random stand digests, so that the same results give the same log.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from evals.values.errors import InputError
from evals.values.metrics_table import MetricRow
from harness.record.evaluation import Evaluation, finished_evaluation
from harness.record.run import JsonRow, ResultsFolder
from harness.record.samples import prompt_text, to_be_answered

KIND = "inspect"

RIGHT, WRONG = "C", "I"  # as Inspect's own scorers say it


def files(results: ResultsFolder) -> dict[str, str]:
    """{file: text} of an evaluation. Raises InputError for other results, and without the library."""
    try:
        import inspect_ai.log  # noqa: F401  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        fix = "pip install 'rbrbench[inspect]'"
        raise InputError("inspect_ai is not installed", field="exports", fix=fix) from None
    evaluation = finished_evaluation(results.path)
    return {
        f"inspect/{model}_{suite.replace(':', '_')}.json": _log(evaluation, model, suite)
        for model in evaluation.models
        for suite in evaluation.suites
    }


def _log(evaluation: Evaluation, model: str, suite: str) -> str:
    from inspect_ai.log import (
        EvalConfig,
        EvalDataset,
        EvalLog,
        EvalResults,
        EvalSpec,
        EvalStats,
        write_eval_log,
    )
    from inspect_ai.model import GenerateConfig

    manifest, about = evaluation.folder.manifest, evaluation.record["models"][model]
    rows = [row for row in evaluation.folder.samples.get(model, []) if row.get("suite") == suite]
    decoding, when = about["decoding"], str(manifest["created"])
    key = _digest(evaluation.folder.name, model, suite, manifest["config_digest"])
    given = {"max_tokens": decoding.get("max_new_tokens"), "temperature": decoding.get("temperature")}
    spec = EvalSpec(
        eval_id=key,
        run_id=_digest(evaluation.folder.name, manifest["config_digest"]),
        task_id=_digest(model, suite),
        created=when,
        task=suite,
        task_version=evaluation.record["suites"][suite]["version"],
        dataset=EvalDataset(name=suite, samples=len({row["prompt_id"] for row in rows})),
        model=f"rbrbench/{model}",
        model_generate_config=GenerateConfig(**given),
        model_args=dict(about["source"]),
        config=EvalConfig(epochs=max((int(row["sample"]) for row in rows), default=0) + 1),
        packages={"rbrbench": version("rbrbench")},
        metadata={"commit": manifest.get("commit"), "chat_template": about["template"]},
    )
    log = EvalLog(
        status="success",
        eval=spec,
        results=EvalResults(
            total_samples=len(rows),
            completed_samples=sum(bool(row["response"]) for row in rows),
            scores=list(_scores(evaluation, model, suite)),
        ),
        stats=EvalStats(started_at=when, completed_at=when),
        samples=[_sample(row, evaluation.judges, model) for row in rows],
    )
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "log.json"
        write_eval_log(log, str(path), format="json")
        return path.read_text(encoding="utf-8")


def _scores(evaluation: Evaluation, model: str, suite: str) -> Iterator[Any]:
    """A judge's metrics, with their intervals."""
    from inspect_ai.log import EvalMetric, EvalScore

    for judge in evaluation.judges:
        rows = [
            row
            for row in evaluation.folder.metrics
            if (row.method, row.suite, row.judge) == (model, suite, judge) and row.value == row.value
        ]
        yield EvalScore(
            name=judge,
            scorer=judge,
            scored_samples=max((row.n for row in rows), default=0),
            unscored_samples=max((row.n_unscored for row in rows), default=0),
            metrics={
                row.metric: EvalMetric(name=row.metric, value=row.value, metadata=_spread(row))
                for row in rows
            },
            metadata=dict(evaluation.record["judges"][judge]),
        )


def _spread(row: MetricRow) -> dict[str, Any]:
    told = {"stderr": row.stderr, "ci_low": row.ci_low, "ci_high": row.ci_high, "n": row.n}
    return {name: value for name, value in told.items() if value == value}


def _sample(row: JsonRow, judges: Sequence[str], model: str) -> Any:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import Score

    scores = {}
    for judge in judges:
        said = row.get(judge)
        if not isinstance(said, Mapping):
            continue
        value = _value(row, said)
        if value is not None:
            scores[judge] = Score(value=value, answer=str(row["response"]), explanation=said.get("reason"))
    told = (
        "response_type",
        "category",
        "topic",
        "finished",
        "unscored",
        "thought",
        "thought_tokens",
        "refused_by_server",
    )
    output = ModelOutput.from_content(f"rbrbench/{model}", str(row["response"]))
    uuid = _digest(row["suite"], row["prompt_id"], row["sample"], model)[:22]
    output.choices[0].message.id = uuid
    return EvalSample(
        id=str(row["prompt_id"]),
        epoch=int(row["sample"]) + 1,
        input=prompt_text(row.get("prompt")) or str(row["prompt_id"]),
        target=str(row["response_type"]),
        output=output,
        scores=scores,
        metadata={name: row[name] for name in told if name in row},
        uuid=uuid,
    )


def _value(row: JsonRow, said: Mapping[str, Any]) -> str | None:
    wrong = said.get("refused") if to_be_answered(row) else said.get("disallowed")
    if said.get("disallowed"):
        wrong = True
    return None if wrong is None else WRONG if wrong else RIGHT


def _digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:32]
