"""Real models on XSTest from recorded completions: tables that must come out of the released files."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path

import pytest

from evals.judges import RecordedLabel
from evals.judges.card import JudgeCard
from evals.judges.measures import read_metrics
from evals.values.errors import InputError
from harness.evaluate.xstest import (
    XSTestModel,
    corrected_metric_rows,
    judge_agreement,
    judge_cards,
    metric_rows,
    recorded_models,
    refusal_shares,
)
from harness.keys.compose import compose_command
from harness.keys.evaluate import DataKeys
from harness.keys.xstest import XSTestConfig
from harness.report.xstest import run_xstest
from harness.runtime.console import Console
from harness.storage.provenance import ROOT
from harness.storage.store import claim_results

XSTEST = Path(os.environ.get("RBRBENCH_DATA", Path(__file__).parents[2] / "../shared/data")) / "xstest"


def write_rows(path: Path, *rows: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One model, without GPT-4's verdicts: refuses a safe prompt in its own words, answers an unsafe one."""
    prompts = [["1", "Prune?", "homonyms", "safe"], ["2", "Steal?", "contrast_homonyms", "unsafe"]]
    write_rows(tmp_path / "xstest_prompts.csv", ["id", "prompt", "type", "label"], *prompts)
    write_rows(
        tmp_path / "model_completions/xstest_v2_completions_mine.csv",
        ["id", "type", "prompt", "completion", "final_label"],
        ["v2-2", "contrast_homonyms", "Steal?", "Climb the wall.", "1_full_compliance"],
        ["v2-1", "homonyms", "Prune?", "I would rather not.", "2_full_refusal"],
    )
    return tmp_path


def test_a_model_of_your_own(folder: Path) -> None:
    """Models other than the three released ones, or without GPT-4's verdicts, were not read."""
    (model,) = recorded_models(folder)
    assert model.name == "mine"
    assert [judge.name for judge in model.judges] == ["human", "string_match"]
    values = {
        (row.judge, row.metric): row.value for row in metric_rows([model], draws=50) if row.suite == "xstest"
    }
    assert values["human", "not_unsafe"] == 0.5
    assert values["human", "not_overrefuse"] == 0.0
    assert values["string_match", "not_overrefuse"] == 1.0
    assert judge_agreement(model)["string_match"].balanced_accuracy == 0.5
    assert refusal_shares(model)["safe"]["2_full_refusal"] == 1.0


def test_rows_of_another_suite_are_refused(folder: Path) -> None:
    """Completions of prompts that the suite does not have counted all the same."""
    path = folder / "model_completions/xstest_v2_completions_mine.csv"
    path.write_text(path.read_text().replace("v2-1", "v2-9"))
    with pytest.raises(InputError, match=r"mine.csv:3: field 'id': the suite has no prompt 'v2-9'"):
        recorded_models(folder)


def test_a_folder_without_completions(folder: Path) -> None:
    """An empty table for a mistyped folder."""
    next((folder / "model_completions").iterdir()).unlink()
    with pytest.raises(InputError, match="no xstest_v2_completions_"):
        recorded_models(folder)


@pytest.mark.skipif(not XSTEST.is_dir(), reason=f"XSTest's released files are not in {XSTEST}")
def test_released_models() -> None:
    """The paper's picture: Llama 2 refuses safe prompts, Mistral answers unsafe ones (human labels)."""
    models = recorded_models(XSTEST)
    shares = {model.name: refusal_shares(model) for model in models}
    assert sorted(shares) == ["gpt4", "llama2new", "mistralinstruct"]
    assert shares["llama2new"]["safe"] == {
        "1_full_compliance": 0.704,
        "2_full_refusal": 0.14,
        "3_partial_refusal": 0.156,
    }
    assert shares["mistralinstruct"]["unsafe"]["1_full_compliance"] == 0.64
    rows = {(r.method, r.judge, r.metric): r for r in metric_rows(models, draws=50) if r.suite == "xstest"}
    assert rows["mistralinstruct", "gpt4", "not_unsafe"].n_unscored == 11
    assert rows["gpt4", "human", "f1"].value == pytest.approx(0.955, abs=5e-4)
    assert {r.checkpoint for r in rows.values()} == {"recorded"}


@pytest.fixture
def two_models(tmp_path: Path) -> Path:
    """Forty prompts, two models that refuse in words of their own, one with GPT-4's verdicts."""
    prompts = [
        [
            str(i),
            f"Question {i}?",
            "homonyms" if i < 20 else "contrast_homonyms",
            "safe" if i < 20 else "unsafe",
        ]
        for i in range(40)
    ]
    write_rows(tmp_path / "xstest/xstest_prompts.csv", ["id", "prompt", "type", "label"], *prompts)
    header = ["id", "type", "prompt", "completion", "final_label"]
    for name, refusal in (("blunt", "Sorry, no."), ("wordy", "I would rather not.")):
        rows = []
        for id, prompt, kind, label in prompts:
            refuses = label == "unsafe" or int(id) < 5
            rows.append([id, kind, prompt, refusal if refuses else f"Answer {id}."])
            rows[-1].append("2_full_refusal" if refuses else "1_full_compliance")
        place = tmp_path / "xstest/model_completions" / f"xstest_v2_completions_{name}.csv"
        write_rows(place, header, *rows)
        if name == "blunt":
            verdicts = [[*row[:4], "1_full_compliance" if row[0] == "3" else row[4]] for row in rows]
            verdicts[7][4] = "I'm sorry, but I can't assist with that."
            place = tmp_path / "xstest/evaluation" / f"xstest_v2_completions_{name}_gpteval.csv"
            write_rows(place, [*header[:4], "gpt4_label"], *verdicts)
    return tmp_path


def quiet() -> Console:
    return Console(io.StringIO())


def test_everything_that_is_written(two_models: Path, tmp_path: Path) -> None:
    """Tables that disagree with the judgements, a plot that cannot be drawn for a judge of one model only."""
    config = XSTestConfig(DataKeys(str(two_models)), labels=30, draws=100, results=str(tmp_path / "results"))
    text = run_xstest(config, quiet()).read_text(encoding="utf-8")
    folder = tmp_path / "results/xstest"
    assert "| blunt | 0.980 | 1.000 |" in text and "| wordy | – | 0.500 |" in text
    rows = {
        (r.method, r.judge, r.metric): r for r in read_metrics(folder / "metrics.csv") if r.suite == "xstest"
    }
    assert rows["wordy", "string_match", "not_unsafe"].value == 0.5
    fixed = rows["wordy", "string_match+ppi", "not_unsafe"]
    assert fixed.ci_low > 0.75 and fixed.ci_high == 1.0
    assert rows["blunt", "gpt4", "not_unsafe"].n_unscored == 1
    cards = [JudgeCard.of_json(card) for card in json.loads((folder / "cards.json").read_text())]
    assert [(card.judge, card.n, card.n_unscored) for card in cards] == [
        ("gpt4", 39, 1),
        ("string_match", 80, 0),
    ]
    ran = json.loads((folder / "manifest.json").read_text())
    assert ran["command"] == "rbrbench xstest data.root=FOLDER labels=30 draws=100"
    assert list(ran["files"]) == [
        "xstest_prompts.csv",
        "model_completions/xstest_v2_completions_blunt.csv",
        "model_completions/xstest_v2_completions_wordy.csv",
        "evaluation/xstest_v2_completions_blunt_gpteval.csv",
    ]
    assert str(tmp_path) not in (folder / "manifest.json").read_text()
    assert (folder / "plots/tradeoff.png").stat().st_size > 10_000
    assert b"</svg>" in (folder / "plots/tradeoff.svg").read_bytes()
    first = {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    run_xstest(config, quiet())
    assert {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == first


def test_another_commands_results_are_not_overwritten(two_models: Path, tmp_path: Path) -> None:
    """`name=demo` replaced a run's metrics, summary and manifest without a word."""
    folder = tmp_path / "results/demo"
    claim_results(folder, "a run's")
    (folder / "metrics.csv").write_text("a run's", encoding="utf-8")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    config = XSTestConfig(
        DataKeys(str(two_models)), labels=30, results=str(tmp_path / "results"), name="demo"
    )
    screen = io.StringIO()
    with pytest.raises(InputError, match="another configuration's results lie here"):
        run_xstest(config, Console(screen))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not screen.getvalue()  # refused before anything was measured


def test_corrected_scores_see_the_drawn_labels_alone(two_models: Path) -> None:
    """Labels of all responses in the correction: an interval of nothing."""
    models = recorded_models(two_models / "xstest")
    chosen = corrected_metric_rows(models, 20)
    assert {row.judge for row in chosen} == {"gpt4+ppi", "string_match+ppi"}
    assert corrected_metric_rows(models, 20) == chosen
    assert corrected_metric_rows(models, 20, seed=1) != chosen
    with pytest.raises(InputError, match="field 'labels': is 40, and blunt has 40 responses"):
        corrected_metric_rows(models, 40)


def test_a_judge_is_asked_once(two_models: Path) -> None:
    """Each table asked the encoder again."""
    model = recorded_models(two_models / "xstest")[0]
    judge = model.judges[-1]
    assert model.judgements(judge) is model.judgements(judge)
    assert judge_cards([model])[-1].judge == "string_match"
    assert isinstance(model, XSTestModel) and isinstance(model.labels[0], RecordedLabel)


REFERENCE = ROOT / "results/reference_xstest"


@pytest.mark.skipif(not XSTEST.is_dir(), reason=f"XSTest's released files are not in {XSTEST}")
def test_the_committed_results_are_what_the_files_give() -> None:
    """Committed tables that the code no longer makes, of another release, or with a completion in them."""
    models = recorded_models(XSTEST)
    committed = {(r.method, r.suite, r.metric, r.judge): r for r in read_metrics(REFERENCE / "metrics.csv")}
    for row in metric_rows(models, draws=50):
        found = committed[row.method, row.suite, row.metric, row.judge]
        assert (found.n, found.n_unscored) == (row.n, row.n_unscored)
        assert found.value == pytest.approx(row.value, abs=1e-6, nan_ok=True)
    for row in corrected_metric_rows(models, 50):
        found = committed[row.method, row.suite, row.metric, row.judge]
        assert (found.value, found.ci_low) == pytest.approx((row.value, row.ci_low), abs=1e-6)
    texts = "".join(p.read_text(encoding="utf-8") for p in sorted(REFERENCE.glob("*.*")))
    assert not [
        x.response.prompt.id
        for m in models
        for x in m.labels
        if len(x.response.text) > 20 and x.response.text[:60] in texts
    ]
    assert not [x.response.prompt.id for x in models[0].labels if x.response.prompt.text in texts]


def test_the_committed_results_are_the_pages() -> None:
    """A page whose numbers are of another run than the one beside it."""
    page = (ROOT / "docs/xstest.md").read_text(encoding="utf-8")
    summary = (REFERENCE / "summary.md").read_text(encoding="utf-8")
    quoted = re.findall(
        r"^\| (?:gpt4|llama2new|mistralinstruct|mean) \|(?: \d\.\d{3} \|)+$", page, re.MULTILINE
    )
    assert len(quoted) == 4
    assert all(line in summary for line in quoted)
    assert json.loads((REFERENCE / "manifest.json").read_text())["command"] in page


def test_keys_of_the_command() -> None:
    with pytest.raises(InputError, match="field 'data.root': is missing"):
        compose_command("xstest", XSTestConfig, [])
    with pytest.raises(InputError, match="field 'labels': is 3"):
        compose_command("xstest", XSTestConfig, ["data.root=x", "labels=3"])
    with pytest.raises(InputError, match="field 'seed': is -1; give 0 or more"):
        compose_command("xstest", XSTestConfig, ["data.root=x", "seed=-1"])
    assert compose_command("xstest", XSTestConfig, ["data.root=x", "encoder=y"]).encoder == "y"
