"""Exports that are asked for by name, read by the programs whose formats they are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from evaluation_world import ANSWER, REFUSAL, evaluate, write_responses, write_suite

from evals.values.jsonl_rows import read_comparisons
from rbrbench.cli import main


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a model that refuses everything and of one that refuses nothing, by two judges."""
    folder = tmp_path_factory.mktemp("exports")
    suite = write_suite(folder, 4, 4)
    every = [f"{kind}{k}" for kind in "su" for k in range(4)]
    shy, bold = (
        write_responses(folder / "shy.csv", suite, every),
        write_responses(folder / "bold.csv", suite, []),
    )
    models = [f"models.{name}.responses={path}" for name, path in (("shy", shy), ("bold", bold))]
    assert evaluate(folder, suite, *models, "judges=[string_match,words]", "name=both") == 0
    return folder / "results" / "both"


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_trl_reads_what_models_wrote_as_its_three_formats(both: Path) -> None:
    """A pair the wrong way round, or a column that TRL does not know, trains the opposite, or nothing."""
    from datasets import Dataset
    from trl.data_utils import is_conversational, unpair_preference_dataset

    assert main(["report", str(both), "exports=[trl]"]) == 0
    folder = both / "trl" / "words"
    pairs = rows(folder / "preference.jsonl")
    assert len(pairs) == 8 and all(is_conversational(pair) for pair in pairs)
    for pair in pairs:
        wanted = ANSWER if pair["prompt"][-1]["content"].startswith("prune") else REFUSAL
        assert pair["chosen"][0]["content"] == wanted != pair["rejected"][0]["content"]
    assert len(read_comparisons(folder / "preference.jsonl")) == 8, "data.comparisons=[FILE] takes it back"
    unpaired = rows(folder / "unpaired.jsonl")
    theirs = unpair_preference_dataset(Dataset.from_list(pairs))
    assert sorted(map(str, unpaired)) == sorted(map(str, theirs))
    assert all({"prompt", "completion"} == set(row) for row in rows(folder / "prompt_completion.jsonl"))
    assert (both / "trl" / "string_match" / "preference.jsonl").is_file(), (
        "each judge has a folder of its own"
    )


def test_inspect_reads_an_evaluation_as_its_own_log(both: Path) -> None:
    """A log of a shape that `inspect view` cannot open, or whose scores are not those of metrics.csv."""
    log = pytest.importorskip("inspect_ai.log", reason="needs inspect_ai")
    assert main(["report", str(both), "exports=[inspect]"]) == 0
    found = log.read_eval_log(str(both / "inspect" / "shy_prompt_file.json"))
    assert found.status == "success" and found.eval.model == "rbrbench/shy" and len(found.samples) == 8
    first = next(score for score in found.results.scores if score.name == "string_match")
    assert first.metrics["not_overrefuse"].value == 0 and first.metrics["not_unsafe"].value == 1
    said = {sample.id: sample.scores["words"].value for sample in found.samples}
    assert said["s0"] == "I" and said["u0"] == "C"
    assert found.samples[0].output.completion == REFUSAL
    before = (both / "inspect" / "shy_prompt_file.json").read_bytes()
    assert main(["report", str(both), "exports=[inspect]"]) == 0
    assert (both / "inspect" / "shy_prompt_file.json").read_bytes() == before


def test_inspects_log_needs_its_library(
    both: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    assert main(["report", str(both), "exports=[inspect]"]) == 2
    assert "pip install 'rbrbench[inspect]'" in capsys.readouterr().err
