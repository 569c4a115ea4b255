"""The results of each model as lm-eval writes its own, so that whatever reads those reads these.

A folder a model, `lm_eval/MODEL/`, with lm-eval's own names in it: `results_KEY.json`, and `samples_SUITE_KEY.jsonl`
of each suite; where lm-eval writes the date stands what the evaluation was asked, so that asked again it has the same
names. A suite is a task; the judge stands where lm-eval names the filter (`not_unsafe,string_match`);
categories are left to metrics.csv. The schema is that of lm-eval 0.4's `result_schema.py`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from evals.values.metrics_table import MetricRow
from harness.record.evaluation import Evaluation, finished_evaluation
from harness.record.run import JsonRow, ResultsFolder
from harness.record.samples import prompt_text, to_be_answered
from harness.report.exports.every_eval_ever import published

KIND = "lm_eval"

CAPABILITY = "capability/"


def files(results: ResultsFolder) -> dict[str, str]:
    """{file: text} of an evaluation. Raises InputError for other results."""
    evaluation = finished_evaluation(results.path)
    return {name: text for model in evaluation.models for name, text in _of_model(evaluation, model)}


def _of_model(evaluation: Evaluation, model: str) -> Iterator[tuple[str, str]]:
    folder, key = f"lm_eval/{model}", evaluation.folder.manifest["config_digest"]
    content = lm_eval_results(evaluation, model)
    yield f"{folder}/results_{key}.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    for suite in evaluation.suites:
        rows = [row for row in evaluation.folder.samples.get(model, []) if row.get("suite") == suite]
        lines = [
            json.dumps(row, ensure_ascii=False) + "\n" for row in samples_of(evaluation, model, suite, rows)
        ]
        if lines:
            yield f"{folder}/samples_{suite}_{key}.jsonl", "".join(lines)


def lm_eval_results(evaluation: Evaluation, model: str) -> dict[str, Any]:
    """The mapping that `lm_eval.evaluator.simple_evaluate` returns, as far as these results have it."""
    rows = [row for row in evaluation.folder.metrics if row.method == model and _is_whole(row)]
    tasks = {name: [row for row in rows if _task(row) == name] for name in dict.fromkeys(map(_task, rows))}
    about = evaluation.record["models"][model]
    return {
        "results": {name: _task_metrics(name, of_task) for name, of_task in tasks.items()},
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
            "model_args": {
                "pretrained": "/".join(filter(None, published(about["source"], model))),
                **about["source"],
            },
            "random_seed": rows[0].seed if rows else 0,
        },
        "git_hash": evaluation.folder.manifest.get("commit"),
        "date": datetime.fromisoformat(str(evaluation.folder.manifest["created"])).timestamp(),
        "model_source": "rbrbench",
        "model_name": model,
        "model_name_sanitized": re.sub(r"[\"<>:/|\\?*\[\]]+", "__", model),
        "chat_template": about["template"],
    }


def samples_of(
    evaluation: Evaluation, model: str, suite: str, rows: Sequence[JsonRow]
) -> Iterator[dict[str, Any]]:
    """One row a response and judge, as lm-eval has one a filter: what was asked, written, and made of it."""
    decoding = _generation(evaluation.record["models"][model]["decoding"])
    for number, row in enumerate(rows):
        prompt, target = prompt_text(row.get("prompt")) or "", str(row["response_type"])
        doc = {
            key: row[key]
            for key in ("prompt_id", "sample", "response_type", "category", "topic")
            if key in row
        }
        for judge in evaluation.record["judges"]:
            verdict = row.get(judge)
            if not isinstance(verdict, Mapping):
                continue
            scores = _scores(row, verdict)
            yield {
                "doc_id": number,
                "doc": doc,
                "target": target,
                "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": decoding}},
                "resps": [[row["response"]]],
                "filtered_resps": [row["response"]],
                "filter": judge,
                "metrics": list(scores),
                "doc_hash": _digest(json.dumps(doc, sort_keys=True)),
                "prompt_hash": _digest(prompt),
                "target_hash": _digest(target),
                **scores,
            }


def _scores(row: JsonRow, verdict: Mapping[str, Any]) -> dict[str, float]:
    """What a judge's verdict of one response adds to; none where it could not be judged."""
    scores = {}
    if verdict.get("disallowed") is not None:
        scores["not_unsafe"] = float(not verdict["disallowed"])
    if verdict.get("refused") is not None and to_be_answered(row):
        scores["not_overrefuse"] = float(not verdict["refused"])
    return scores


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _is_whole(row: MetricRow) -> bool:
    return "/" not in row.suite or row.suite.startswith(CAPABILITY)


def _task(row: MetricRow) -> str:
    return row.suite.removeprefix(CAPABILITY)


def _about(evaluation: Evaluation, row: MetricRow) -> dict[str, Any]:
    return evaluation.about_metric(row.method, _task(row), row.metric)


def _task_metrics(name: str, rows: Sequence[MetricRow]) -> dict[str, float | int | str]:
    """lm-eval's keys `metric,filter`; a metric without a value has none there."""
    values: dict[str, float | int | str] = {
        "name": name,
        "alias": name,
        "sample_len": _counts(rows)["original"],
    }
    for row in rows:
        if math.isfinite(row.value):
            judge = row.judge or "none"
            values[f"{row.metric},{judge}"] = row.value
            values[f"{row.metric}_stderr,{judge}"] = row.stderr if math.isfinite(row.stderr) else "N/A"
    return values


def _generation(decoding: Mapping[str, Any]) -> dict[str, Any]:
    """A decoding by the names that lm-eval has for it."""
    told = {"max_new_tokens": "max_gen_toks"}
    sampled = {"do_sample": decoding["temperature"] > 0} if "temperature" in decoding else {}
    return {told.get(key, key): value for key, value in decoding.items()} | sampled


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
        "generation_kwargs": _generation(decoding),
        "metadata": {"version": suite["version"], **about},
    }


def _version(evaluation: Evaluation, task: str) -> str:
    of_task = evaluation.record.get("capability", {}).get("tasks", {}).get(task, {})
    return str(evaluation.record["suites"].get(task, of_task).get("version", "lm-eval"))


def _counts(rows: Sequence[MetricRow]) -> dict[str, int]:
    original = max(row.n + row.n_unscored for row in rows)
    return {"original": original, "effective": max(row.n for row in rows)}
