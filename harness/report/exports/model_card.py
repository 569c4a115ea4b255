"""A model card's evaluation section: Hugging Face's model-index block, ready to paste, and what it says in words.

One file a model: `model_card.md`, or `model_card-MODEL.md` where there are several.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from evals.suites import SUITES
from evals.values.metrics_table import MetricRow
from harness.findings.wording import metric_label, percent
from harness.record.evaluation import Evaluation, finished_evaluation
from harness.record.run import ResultsFolder

CAPABILITY = "capability/"


def files(results: ResultsFolder) -> dict[str, str]:
    """{file: text} of an evaluation. Raises InputError for other results."""
    evaluation = finished_evaluation(results.path)
    several = len(evaluation.models) > 1
    return {
        f"model_card-{model}.md" if several else "model_card.md": model_card(evaluation, model)
        for model in evaluation.models
    }


def model_card(evaluation: Evaluation, model: str) -> str:
    """The YAML block between `---` lines, as the hub reads it, then a table of the same numbers."""
    rows = [row for row in evaluation.folder.metrics if row.method == model and is_shown(row)]
    return (
        f"---\n{_front_matter(evaluation, model, rows)}\n---\n\n{evaluation_section(evaluation, model, rows)}"
    )


def eval_results(evaluation: Evaluation, model: str, rows: Sequence[MetricRow]) -> list[Any]:
    """`huggingface_hub.EvalResult`s: proportions as fractions of 1, their interval and judge among the arguments."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=_dataset(row),
            dataset_name=_suite(row),
            dataset_args=_dataset_version(evaluation, row),
            metric_type=row.metric,
            metric_name=_metric_name(row),
            metric_value=round(row.value, 4),
            metric_args=_arguments(evaluation, model, row),
        )
        for row in rows
    ]


def _front_matter(evaluation: Evaluation, model: str, rows: Sequence[MetricRow]) -> str:
    from huggingface_hub import ModelCardData

    if not rows:
        return f"model_name: {model}"
    return ModelCardData(model_name=model, eval_results=eval_results(evaluation, model, rows)).to_yaml()


def is_shown(row: MetricRow) -> bool:
    whole = "/" not in row.suite or row.suite.startswith(CAPABILITY)
    return whole and math.isfinite(row.value)


def _dataset(row: MetricRow) -> str:
    """Its name on the hub where it has one."""
    return (SUITES[row.suite].hub if row.suite in SUITES else "") or _suite(row)


def _dataset_version(evaluation: Evaluation, row: MetricRow) -> dict[str, Any] | None:
    suite = evaluation.record["suites"].get(row.suite)
    return None if suite is None else {"version": suite["version"], "prompts": suite["prompts"]}


def _suite(row: MetricRow) -> str:
    return row.suite.removeprefix(CAPABILITY)


def _metric_name(row: MetricRow) -> str:
    return f"{metric_label(row.metric)} (judge: {row.judge})" if row.judge else metric_label(row.metric)


def _arguments(evaluation: Evaluation, model: str, row: MetricRow) -> dict[str, Any]:
    arguments: dict[str, Any] = {"n": row.n, "n_unscored": row.n_unscored}
    if math.isfinite(row.ci_low) and math.isfinite(row.ci_high):
        arguments["ci95"] = [round(row.ci_low, 4), round(row.ci_high, 4)]
    if row.judge:
        arguments["judge"] = evaluation.record["judges"].get(row.judge, {}).get("identity", row.judge)
        arguments["decoding"] = evaluation.record["models"][model]["decoding"]
    return arguments


def evaluation_section(evaluation: Evaluation, model: str, rows: Sequence[MetricRow]) -> str:
    lines = ["## Evaluation", "", "Measured with rbrbench. Percent, 95 % interval.", ""]
    lines += [
        "| suite | metric | judge | value | interval | n | unscored |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        interval = f"{percent(row.ci_low)} to {percent(row.ci_high)}"
        cells = (_suite(row), metric_label(row.metric), row.judge or "–", percent(row.value), interval)
        lines.append(f"| {' | '.join(cells)} | {row.n} | {row.n_unscored} |")
    template = evaluation.record["models"][model]["template"]
    lines += ["", f"Prompts were put as: {template}. A judge errs; its accuracy is in the report.", ""]
    return "\n".join(lines)
