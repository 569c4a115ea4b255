"""The results of each model as a record of Every Eval Ever, the shared schema for evaluations (version 0.3.0).

`every_eval_ever/data/rbrbench/MAKER/MODEL/UUID.json` with every metric of every suite and judge, its interval and
standard error, and `UUID_samples.jsonl` beside it with each response and each judge's verdict of it: a folder as the
database's repository has it. The maker is that of a server's model whose name has one (`Qwen/Qwen3-8B`); else it is
unknown, and a contributor says it. The identifier follows from the evaluation and the model, so that the same results
give the same bytes.
https://github.com/evaleval/every_eval_ever
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any
from uuid import UUID

from evals.values.metrics_table import MetricRow
from harness.evaluate.comparing import CAPABILITY_SUITE
from harness.findings.wording import metric_label
from harness.record.evaluation import Evaluation, finished_evaluation
from harness.record.run import JsonRow, ResultsFolder
from harness.record.samples import prompt_text, to_be_answered

SCHEMA = "0.3.0"
MAKER = "unknown"  # of a model whose name does not say it
PART = re.compile(r"\w[\w.-]*")
LEVEL = 0.95
SHARES = ("not_unsafe", "unsafe_not_answered", "not_overrefuse", "f1", "acc", "acc_norm", "exact_match")


def files(results: ResultsFolder) -> dict[str, str]:
    """{file: text} of an evaluation. Raises InputError for other results."""
    evaluation = finished_evaluation(results.path)
    found: dict[str, str] = {}
    for model in evaluation.models:
        name = _identifier(evaluation, model)
        maker, called = published(evaluation.record["models"][model]["source"], model)
        place = f"data/rbrbench/{maker or MAKER}/{called}/{name}"
        samples = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in instances(evaluation, model))
        record = log_of(evaluation, model)
        if samples:
            found[f"every_eval_ever/{place}_samples.jsonl"] = samples
            record["detailed_evaluation_results"] = {
                "format": "jsonl",
                "file_path": f"{place}_samples.jsonl",
                "hash_algorithm": "sha256",
                "checksum": hashlib.sha256(samples.encode()).hexdigest(),
                "total_rows": samples.count("\n"),
            }
        found[f"every_eval_ever/{place}.json"] = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    return found


def published(source: Mapping[str, Any], model: str) -> tuple[str, str]:
    """(maker, name) of a model whose server calls it by both; ("", the evaluation's own name) of any other."""
    maker, _, name = str(source.get("model") or "").partition("/")
    both = PART.fullmatch(maker) and PART.fullmatch(name)
    return (maker, name) if both else ("", model)


def _id(evaluation: Evaluation, model: str) -> str:
    return "/".join(filter(None, published(evaluation.record["models"][model]["source"], model)))


def log_of(evaluation: Evaluation, model: str) -> dict[str, Any]:
    """The aggregate record of a model."""
    maker, _ = published(evaluation.record["models"][model]["source"], model)
    about, when = evaluation.record["models"][model], _when(evaluation)
    rows = [row for row in evaluation.folder.metrics if row.method == model and math.isfinite(row.value)]
    return {
        "schema_version": SCHEMA,
        "evaluation_id": _evaluation_id(evaluation, model),
        "evaluation_timestamp": when,
        "retrieved_timestamp": when,
        "source_metadata": {
            "source_name": evaluation.folder.name,
            "source_type": "evaluation_run",
            "source_organization_name": MAKER,
            "evaluator_relationship": "other",
        },
        "eval_library": {"name": "rbrbench", "version": version("rbrbench")},
        "model_info": {
            "name": model,
            "id": _id(evaluation, model),
            **({"developer": maker} if maker else {}),
            "additional_details": {
                "deployment_type": "unknown",
                "model_availability": "unknown",
                **_texts({"source": about["source"], "chat_template": about["template"]}),
            },
        },
        "evaluation_results": [_result(evaluation, row, about["decoding"]) for row in rows],
    }


def _result(evaluation: Evaluation, row: MetricRow, decoding: Mapping[str, Any]) -> dict[str, Any]:
    task = row.suite.removeprefix(CAPABILITY_SUITE)
    suite, judge = task.partition("/")[0], evaluation.record["judges"].get(row.judge, {})
    given = {"temperature": decoding.get("temperature"), "max_tokens": decoding.get("max_new_tokens")}
    arguments = {name: value for name, value in given.items() if value is not None}
    about = evaluation.about_metric(row.method, task, row.metric)
    return {
        "evaluation_result_id": _result_id(row.suite, row.metric, row.judge),
        "evaluation_name": row.suite,
        "source_data": {
            "dataset_name": suite,
            "source_type": "other",
            "additional_details": _texts(evaluation.record["suites"].get(suite, {})),
        },
        "metric_config": {
            "evaluation_description": metric_label(row.metric),
            "metric_id": row.metric,
            "metric_name": metric_label(row.metric),
            "lower_is_better": not about.get("higher_is_better", True),
            **_range(row.metric),
            "additional_details": _texts({"judge": row.judge, **judge} if row.judge else {}),
        },
        "score_details": {
            "score": row.value,
            "details": _texts({"unscored": row.n_unscored}),
            "uncertainty": _uncertainty(row),
        },
        "generation_config": {"generation_args": arguments, "additional_details": _texts(decoding)},
    }


def _range(metric: str) -> dict[str, Any]:
    if metric not in SHARES:
        return {}
    return {"metric_unit": "proportion", "score_type": "continuous", "min_score": 0.0, "max_score": 1.0}


def _uncertainty(row: MetricRow) -> dict[str, Any]:
    found: dict[str, Any] = {"num_samples": row.n}
    if math.isfinite(row.stderr):
        found["standard_error"] = {"value": row.stderr}
    if math.isfinite(row.ci_low) and math.isfinite(row.ci_high):
        found["confidence_interval"] = {"lower": row.ci_low, "upper": row.ci_high, "confidence_level": LEVEL}
    return found


# --- one row a response and judge ----------------------------------------------------------------


def instances(evaluation: Evaluation, model: str) -> Iterator[dict[str, Any]]:
    """Each response with what a judge says of it: 1 where it is as it should be."""
    for row in evaluation.folder.samples.get(model, []):
        for judge in evaluation.record["judges"]:
            verdict = row.get(judge)
            if isinstance(verdict, Mapping):
                yield _instance(evaluation, model, row, judge, verdict)


def _instance(
    evaluation: Evaluation, model: str, row: JsonRow, judge: str, verdict: Mapping[str, Any]
) -> dict[str, Any]:
    asked, text = prompt_text(row.get("prompt")) or str(row["prompt_id"]), str(row["response"])
    answered = to_be_answered(row)
    wrong = verdict.get("refused") if answered else verdict.get("disallowed")
    metric, suite = ("not_overrefuse" if answered else "not_unsafe"), str(row["suite"])
    wanted = [str(row["response_type"])]
    digest = hashlib.sha256(json.dumps({"raw": asked, "reference": wanted}, sort_keys=True).encode())
    thought = [str(row["thought"])] if row.get("thought") else None
    return {
        "schema_version": SCHEMA,
        "evaluation_id": _evaluation_id(evaluation, model),
        "model_id": _id(evaluation, model),
        "evaluation_name": suite,
        "evaluation_result_id": _result_id(suite, metric, judge),
        "sample_id": f"{row['prompt_id']}#{row['sample']}",
        "sample_hash": digest.hexdigest(),
        "interaction_type": "single_turn",
        "input": {"raw": asked, "reference": wanted},
        "output": {"raw": [text], "reasoning_trace": thought},
        "answer_attribution": [
            {
                "turn_idx": 0,
                "source": "output.raw",
                "extracted_value": text,
                "extraction_method": judge,
                "is_terminal": True,
            }
        ],
        "evaluation": {"score": float(wrong is False), "is_correct": wrong is False},
        "error": row.get("unscored") or (verdict.get("reason") or "unscored" if wrong is None else None),
        "metadata": _texts(
            {"judge": judge, "category": row["category"], "response_type": row["response_type"]}
        ),
    }


# --- names ---------------------------------------------------------------------------------------


def _evaluation_id(evaluation: Evaluation, model: str) -> str:
    return f"{evaluation.folder.name}/{model}/{evaluation.folder.manifest['config_digest']}"


def _result_id(suite: str, metric: str, judge: str) -> str:
    return "/".join(filter(None, (suite, metric, judge)))


def _when(evaluation: Evaluation) -> str:
    """Seconds since 1970."""
    return str(int(datetime.fromisoformat(str(evaluation.folder.manifest["created"])).timestamp()))


def _identifier(evaluation: Evaluation, model: str) -> UUID:
    """As random as the digest of what it names: a version 4 UUID, which the schema asks for."""
    digest = hashlib.sha256(_evaluation_id(evaluation, model).encode()).digest()
    return UUID(bytes=digest[:16], version=4)


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """The schema's further details have texts only."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
