"""The hub's evaluation results: entries of a model repository's `.eval_results/*.yaml`, one a benchmark and metric.

The form is that of huggingface_hub's `EvalResultEntry` (a list of `dataset: {id, task_id}`, `value`, `notes`). An entry
names a benchmark by its data set on the hub, so only suites that have one are written, as the leading judge has them;
the metric is the task. The model card's model-index (`model_card.py`) has all the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import yaml

from evals.suites import SUITES
from evals.values.metrics_table import MetricRow
from harness.findings.wording import metric_label
from harness.record.evaluation import Evaluation, finished_evaluation
from harness.record.run import ResultsFolder
from harness.report.exports.model_card import is_shown

IN_A_REPOSITORY = ".eval_results/rbrbench.yaml"  # where the hub looks for it


def files(results: ResultsFolder) -> dict[str, str]:
    """{file: text}, a file a model that was asked a suite of the hub's. Raises InputError for other results."""
    evaluation = finished_evaluation(results.path)
    several = len(evaluation.models) > 1
    found = {}
    for model in evaluation.models:
        rows = [row for row in evaluation.folder.metrics if row.method == model and is_shown(row)]
        if text := eval_results_yaml(evaluation, model, rows):
            found[f"eval_results-{model}.yaml" if several else "eval_results.yaml"] = text
    return found


def eval_results_yaml(evaluation: Evaluation, model: str, rows: Sequence[MetricRow]) -> str:
    """What stands in `.eval_results/NAME.yaml`; "" where no suite has a data set on the hub."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    entries = [
        EvalResultEntry(
            dataset_id=SUITES[row.suite].hub,
            task_id=row.metric,
            value=round(row.value, 4),
            notes=", ".join(_notes(evaluation, model, row)),
        )
        for row in rows
        if row.suite in SUITES and SUITES[row.suite].hub and row.judge == leading_judge(evaluation)
    ]
    content = eval_result_entries_to_yaml(entries)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True) if content else ""


def leading_judge(evaluation: Evaluation) -> str:
    """The judge whose verdicts the headline has: an evaluation names it first."""
    return next(iter(evaluation.record["judges"]), "")


def _notes(evaluation: Evaluation, model: str, row: MetricRow) -> Iterator[str]:
    yield f"{metric_label(row.metric)}, fraction of 1"
    if math.isfinite(row.ci_low) and math.isfinite(row.ci_high):
        yield f"95 % interval {row.ci_low:.4f} to {row.ci_high:.4f}"
    yield f"{row.n} responses" + (f" and {row.n_unscored} unscored" if row.n_unscored else "")
    yield f"judge: {evaluation.record['judges'].get(row.judge, {}).get('identity', row.judge)}"
    yield f"suite {row.suite} {evaluation.record['suites'][row.suite]['version']}"
    yield f"decoding: {evaluation.record['models'][model]['decoding']}"
    yield "measured with rbrbench"
