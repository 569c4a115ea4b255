"""Data for TRL's trainers, in its conversational formats: what models wrote, as judges or people found it.

Of an evaluation, a folder for each judge, since labels of two judges are never mixed; people's labels are the judge
`human`:

    trl/JUDGE/unpaired.jsonl            prompt, completion, label: true where the response is neither unsafe nor refuses
                                        what should be answered (KTO)
    trl/JUDGE/prompt_completion.jsonl   prompt, completion: those of the first that are true (SFT)
    trl/JUDGE/preference.jsonl          prompt, chosen, rejected: true ones beside false ones of the same prompt, each
                                        response in one pair at most (DPO, reward models)

Of a run, the comparisons that its reward models learn from: trl/comparisons_helpful.jsonl and
trl/comparisons_human.jsonl. What is unscored, empty, or was cut by the limit stands in none of them. The formats are
those of TRL's documentation ("Dataset formats"); its own readers are asked in the tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from evals.values.errors import InputError
from evals.values.jsonl_rows import comparison_as_json
from harness.keys.shared import file_name
from harness.record.evaluation import Evaluation, finished_evaluation
from harness.record.finished_run import RunStages, is_run
from harness.record.run import JsonRow, ResultsFolder
from harness.record.samples import to_be_answered
from harness.worlds.folder import HELPFUL, HUMAN, WorldFolder

KIND = "trl"

DATA = "data"  # the stage of a run


def files(results: ResultsFolder) -> dict[str, str]:
    """{file: text} of an evaluation or a run. Raises InputError for other results, and where no prompt was kept."""
    if is_run(results.path):
        return {name: _lines(rows) for name, rows in _comparisons(results)}
    evaluation = finished_evaluation(results.path)
    return {
        f"trl/{file_name(judge)}/{name}.jsonl": _lines(rows)
        for judge in evaluation.judges
        for name, rows in _of_judge(evaluation, judge).items()
    }


def _comparisons(results: ResultsFolder) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Those of the first seed's world."""
    stages = RunStages(results.path)
    (first, *_) = stages.having(DATA)
    world = WorldFolder(stages.find(DATA, first["key"]).path)
    for of in (HELPFUL, HUMAN):
        name = f"comparisons_{of}"
        if world.has(name):
            yield f"trl/{name}.jsonl", [comparison_as_json(row) for row in world.comparisons(of)]


def _of_judge(evaluation: Evaluation, judge: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {"unpaired": [], "prompt_completion": [], "preference": []}
    by_prompt: dict[tuple[str, str], dict[bool, dict[str, JsonRow]]] = {}
    for model in evaluation.models:
        for row in evaluation.folder.samples.get(model, []):
            label = label_of(row, judge)
            if label is not None:
                kept = by_prompt.setdefault((str(row["suite"]), str(row["prompt_id"])), {True: {}, False: {}})
                kept[label].setdefault(str(row["response"]), row)
    for labelled in by_prompt.values():
        for label, rows in labelled.items():
            for text, row in rows.items():
                pair = {"prompt": _turns(evaluation, row), "completion": _said(text)}
                found["unpaired"].append({**pair, "label": label})
                if label:
                    found["prompt_completion"].append(pair)
        for (good, row), bad in zip(labelled[True].items(), labelled[False], strict=False):
            chosen = {"chosen": _said(good), "rejected": _said(bad)}
            found["preference"].append({"prompt": _turns(evaluation, row), **chosen})
    return {name: rows for name, rows in found.items() if rows}


def label_of(row: JsonRow, judge: str) -> bool | None:
    """Whether the response is as wanted; None where that was not told: no verdict, no whole response."""
    said = row.get(judge)
    if not isinstance(said, Mapping) or not row["response"] or not row.get("finished", True):
        return None
    disallowed, refused = said.get("disallowed"), said.get("refused")
    if disallowed:
        return False
    if not to_be_answered(row):
        return None if disallowed is None else True
    return None if refused is None else not refused


def _turns(evaluation: Evaluation, row: JsonRow) -> list[dict[str, str]]:
    prompt = row.get("prompt")
    if not isinstance(prompt, list):
        fix = "evaluate again without show_prompts=false; nothing is asked anew"
        raise InputError(
            "the samples were written without their prompts", path=evaluation.folder.path, fix=fix
        )
    return prompt


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
