"""The results of each model as lm-eval writes its own, so that whatever reads those reads these.

One file a model, `lm_eval/MODEL.json`. A suite is a task; the judge stands where lm-eval names the filter
(`not_unsafe,string_match`); categories are left to metrics.csv.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from evals.values.metrics_table import MetricRow
from harness.record.evaluation import Evaluation, finished_evaluation
from harness.record.run import ResultsFolder

CAPABILITY = "capability/"


def files(results: ResultsFolder) -> dict[str, str]:
    """{file: text} of an evaluation. Raises InputError for other results."""
    evaluation = finished_evaluation(results.path)
    found = {model: lm_eval_results(evaluation, model) for model in evaluation.models}
    return {
        f"lm_eval/{model}.json": json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        for model, content in found.items()
    }


def lm_eval_results(evaluation: Evaluation, model: str) -> dict[str, Any]:
    """The mapping that `lm_eval.evaluator.simple_evaluate` returns, as far as these results have it."""
    rows = [row for row in evaluation.folder.metrics if row.method == model and _is_whole(row)]
    tasks = {name: [row for row in rows if _task(row) == name] for name in dict.fromkeys(map(_task, rows))}
    about = evaluation.record["models"][model]
    manifest = evaluation.folder.manifest
    return {
        "results": {name: {"alias": name, **_values(of_task)} for name, of_task in tasks.items()},
        "group_subtasks": {name: [] for name in tasks},
        "configs": {name: _config(evaluation, name, about["decoding"]) for name in tasks},
        "versions": {name: _version(evaluation, name) for name in tasks},
        "n-shot": {
            name: max(_about(evaluation, row).get("num_fewshot", 0) for row in of_task)
            for name, of_task in tasks.items()
        },
        "higher_is_better": {
            name: {row.metric: _about(evaluation, row).get("higher_is_better", True) for row in of_task}
            for name, of_task in tasks.items()
        },
        "n-samples": {name: _counts(of_task) for name, of_task in tasks.items()},
        "config": {
            "model": "rbrbench",
            "model_args": about["source"],
            "random_seed": rows[0].seed if rows else 0,
        },
        "git_hash": manifest.get("commit"),
        "date": manifest.get("created"),
        "model_name": model,
        "model_name_sanitized": model,
        "chat_template": about["template"],
    }


def _is_whole(row: MetricRow) -> bool:
    return "/" not in row.suite or row.suite.startswith(CAPABILITY)


def _task(row: MetricRow) -> str:
    return row.suite.removeprefix(CAPABILITY)


def _about(evaluation: Evaluation, row: MetricRow) -> dict[str, Any]:
    return evaluation.about_metric(row.method, _task(row), row.metric)


def _values(rows: Sequence[MetricRow]) -> dict[str, float | str]:
    """lm-eval's keys `metric,filter`; a metric without a value has none there."""
    values: dict[str, float | str] = {}
    for row in rows:
        if math.isfinite(row.value):
            name = row.judge or "none"
            values[f"{row.metric},{name}"] = row.value
            values[f"{row.metric}_stderr,{name}"] = row.stderr if math.isfinite(row.stderr) else "N/A"
    return values


def _config(evaluation: Evaluation, task: str, decoding: dict[str, Any]) -> dict[str, Any]:
    suite = evaluation.record["suites"].get(task)
    if suite is None:
        about = evaluation.record.get("capability", {})
        of_task = about.get("tasks", {}).get(task, {})
        return {"task": task, "metadata": {**of_task, "limit": about.get("limit"), "seed": about.get("seed")}}
    about = {"source": suite["source"], "licence": suite["licence"], "judges": evaluation.record["judges"]}
    return {
        "task": task,
        "output_type": "generate_until",
        "generation_kwargs": decoding,
        "metadata": {"version": suite["version"], **about},
    }


def _version(evaluation: Evaluation, task: str) -> str:
    of_task = evaluation.record.get("capability", {}).get("tasks", {}).get(task, {})
    return str(evaluation.record["suites"].get(task, of_task).get("version", "lm-eval"))


def _counts(rows: Sequence[MetricRow]) -> dict[str, int]:
    original = max(row.n + row.n_unscored for row in rows)
    return {"original": original, "effective": max(row.n for row in rows)}
