"""`rbrbench gold` with graders that are models: sizes side by side, and an encoder fitted, kept and used again."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import random_model
from transformers import LlamaForCausalLM

from evals.graders.calibration import MEAN
from evals.graders.hostile import ALL
from evals.graders.question import PLAIN, remember_prompt
from evals.graders.recorded import write_grades
from evals.models.load import load_causal_lm, load_tokenizer, save_model
from evals.rules.rulebook import load_rulebook
from evals.values.conversation import LabelledResponse, Response, user_prompt
from evals.values.grades import Grades
from evals.values.jsonl_rows import labelled_as_json, write_jsonl
from harness.subjects.graders import GRADES
from harness.worlds.sandbox.generate import word_tokenizer
from rbrbench.cli import main
from trainers.supervised.grader import train_grader
from trainers.supervised.grader_config import GraderTrainingConfig

RULEBOOK = """
prompt_template: "look at {response} now {question} ?"
simple_propositions:
  apology: {prompt: is it sorry}
  cake: {prompt: is it cake}
completion_class_order: [ideal]
completion_classes:
  ideal:
    comply: {apology: true, cake: false}
"""
FILLERS = "the a today please well then soup boat".split()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, save_random_encoder: Callable[..., Path]) -> Path:
    """A rulebook, labels in two files, two language models and an encoder."""
    folder = tmp_path_factory.mktemp("gold")
    (folder / "rulebook.yaml").write_text(RULEBOOK, encoding="utf-8")
    write_jsonl(folder / "train.jsonl", map(labelled_as_json, labelled(80, "a", seed=0)))
    write_jsonl(folder / "test.jsonl", map(labelled_as_json, labelled(40, "b", seed=1)))
    for seed, name in enumerate(("small", "large")):
        save_language_model(folder / name, seed, width=16 * (seed + 1))
    save_random_encoder(folder / "encoder", ["sorry", "cake", *FILLERS])
    return folder


def labelled(count: int, prefix: str, seed: int) -> list[LabelledResponse]:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        apology, cake = (bool(b) for b in rng.random(2) < 0.4)
        words = [*rng.choice(FILLERS, size=rng.integers(3, 9)), *["sorry"] * apology, *["cake"] * cake]
        rng.shuffle(words)
        prompt = user_prompt(
            f"{prefix}{number}", f"the boat {' '.join(rng.choice(FILLERS, size=3))} {number}"
        )
        rows.append(LabelledResponse(Response(prompt, " ".join(words)), {"apology": apology, "cake": cake}))
    return rows


def save_language_model(folder: Path, seed: int, width: int) -> None:
    """Random, but made to answer: yes and no have opposite weights, every other word has none."""
    tokenizer = word_tokenizer(["yes no sorry is it cake look at now ?", *FILLERS], 256)
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_attention_heads": 4}
    sizes |= {"max_position_embeddings": 256, "initializer_range": 0.3}
    model = random_model(LlamaForCausalLM, tokenizer, seed, **sizes)
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    with torch.no_grad():
        rows = torch.zeros_like(model.lm_head.weight)
        rows[yes] = 3 * torch.randn(width)
        rows[no] = -rows[yes]
        model.lm_head.weight.copy_(rows)
    remember_prompt(model, PLAIN)
    save_model(model, tokenizer, folder)


def gold(files: Path, results: Path, *keys: str) -> dict[tuple[str, str, str], Mapping[str, str]]:
    common = [f"rulebook={files / 'rulebook.yaml'}", f"results={results}", "threads=1", "draws=100"]
    assert main(["gold", *common, "hostile.responses=3", *keys]) == 0
    with open(results / "gold" / "calibration.csv", encoding="utf-8", newline="") as file:
        return {(row["grader"], row["thresholds"], row["proposition"]): row for row in csv.DictReader(file)}


def hostile(results: Path) -> dict[tuple[str, str], Mapping[str, str]]:
    with open(results / "gold" / "hostile.csv", encoding="utf-8", newline="") as file:
        return {(row["grader"], row["attack"]): row for row in csv.DictReader(file)}


def test_language_models_of_two_sizes_side_by_side(files: Path, tmp_path: Path) -> None:
    """The paper's Table 2; invisible characters must not move a language model at all."""
    choice = ",".join(f"{{kind: language_model, path: {files / name}}}" for name in ("small", "large"))
    keys = (f"graders=[{choice}]", f"gold.test={files / 'test.jsonl'}", "max_unscored=0.5")
    found = gold(files, tmp_path, *keys)
    assert {grader for grader, _, _ in found} == {"small", "large"}
    summary = (tmp_path / "gold" / "summary.md").read_text(encoding="utf-8")
    assert "| small |" in summary and "| large |" in summary and "accuracy − small" in summary
    moved = hostile(tmp_path)
    assert float(moved["small", "variation selectors between letters"]["mean"]) < 1e-6
    assert float(moved["small", ALL]["mean"]) >= 0
    kept = (tmp_path / GRADES).read_bytes()
    assert gold(files, tmp_path, *keys) == found
    assert kept and (tmp_path / GRADES).read_bytes() == kept  # nothing was graded again


def test_the_rulebooks_own_template_can_be_asked_instead(files: Path, tmp_path: Path) -> None:
    """The paper's order: the question first, which no prefix is shared for."""
    keys = (
        "grader.kind=language_model",
        f"grader.path={files / 'small'}",
        f"gold.test={files / 'test.jsonl'}",
    )
    plain = gold(files, tmp_path / "model", *keys, "max_unscored=1")
    template = gold(files, tmp_path / "rulebook", *keys, "max_unscored=1", "asked_by=RULEBOOK")
    assert plain["small", "0.5", MEAN]["brier"] != template["small", "0.5", MEAN]["brier"]
    said = []
    for place in ("model", "rulebook"):
        grades = tmp_path / place / "gold" / "graders" / "small" / "grades.jsonl"
        said.append(json.loads(grades.read_text(encoding="utf-8").splitlines()[0])["template"].split(":")[0])
    assert said == ["grader", "rulebook"]


def test_an_encoder_is_fitted_judged_on_other_prompts_and_loads_again(files: Path, tmp_path: Path) -> None:
    """What is kept grades as it did when it was judged; without a test file it is judged out of fold."""
    keys = ("grader.kind=encoder", f"gold.test={files / 'test.jsonl'}")
    fitted = gold(
        files,
        tmp_path / "a",
        *keys,
        f"grader.path={files / 'encoder'}",
        f"gold.train={files / 'train.jsonl'}",
    )
    assert float(fitted["encoder", "0.5", MEAN]["accuracy"]) >= 0.95
    kept = tmp_path / "a" / "gold" / "graders" / "encoder"
    again = gold(files, tmp_path / "b", *keys, f"grader.path={kept}")
    for measure in ("accuracy", "auroc", "brier"):
        assert again["encoder", "0.5", MEAN][measure] == fitted["encoder", "0.5", MEAN][measure]
    moved = hostile(tmp_path / "a")
    for attack in ("zero-width spaces between letters", "Cyrillic look-alike letters"):
        assert float(moved["encoder", attack]["mean"]) < 1e-6, attack
    crossed = gold(
        files,
        tmp_path / "c",
        "grader.kind=encoder",
        f"grader.path={files / 'encoder'}",
        f"gold.train={files / 'train.jsonl'}",
    )
    assert crossed["encoder", "0.5", "cake"]["n"] == "80"
    assert float(crossed["encoder", "tuned", MEAN]["accuracy"]) >= 0.95
    assert (tmp_path / "c" / "gold" / "graders" / "encoder" / "grader_head.safetensors").is_file()


def test_a_plain_encoder_without_training_labels_is_refused(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [f"rulebook={files / 'rulebook.yaml'}", f"results={tmp_path}", f"gold.test={files / 'test.jsonl'}"]
    keys.append("threads=1")
    assert main(["gold", "grader.kind=encoder", f"grader.path={files / 'encoder'}", *keys]) == 2
    assert "field 'gold.train': an encoder without head is fitted to labels" in capsys.readouterr().err


# --- a grader that another one taught ----------------------------------------------------------


@pytest.fixture(scope="module")
def completions(files: Path) -> Path:
    """Completions without a label, to other prompts than those of the labels; a row more has a judged prompt."""
    rows = [*labelled(200, "c", seed=2), labelled(1, "b", seed=1)[0]]
    path = files / "completions.jsonl"
    unlabelled = [{k: v for k, v in labelled_as_json(row).items() if k != "propositions"} for row in rows]
    write_jsonl(path, unlabelled)
    return path


@pytest.fixture(scope="module")
def teacher(files: Path) -> Path:
    """A small language model that was trained to grade."""
    save_language_model(files / "teacher", 0, width=32)
    model, tokenizer = load_causal_lm(files / "teacher"), load_tokenizer(files / "teacher")
    rules = load_rulebook(files / "rulebook.yaml").propositions
    config = GraderTrainingConfig(epochs=15, learning_rate=5e-3)
    save_model(
        train_grader(model, tokenizer, labelled(300, "d", seed=3), rules, config),
        tokenizer,
        files / "teacher",
    )
    return files / "teacher"


def test_an_encoder_copies_a_language_model_on_completions_it_has_not_seen(
    files: Path, completions: Path, teacher: Path, tmp_path: Path
) -> None:
    """The student's verdicts are its teacher's more often than the commoner verdict is; no label taught it."""
    student = [
        "grader.kind=encoder",
        f"grader.path={files / 'encoder'}",
        "teacher.kind=language_model",
        f"teacher.path={teacher}",
        f"teacher.on={completions}",
        f"gold.test={files / 'test.jsonl'}",
    ]
    gold(files, tmp_path, *student)
    with open(tmp_path / "gold" / "teacher.csv", encoding="utf-8", newline="") as file:
        rows = {row["proposition"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"apology", "cake", MEAN}
    for row in rows.values():
        assert (row["student"], row["teacher"]) == ("encoder", "teacher")
        assert float(row["agreement"]) > float(row["majority"]) + 0.2, row
    assert rows["cake"]["n"] == "200" and rows["cake"]["enough_to_learn"] == "true"
    kept = tmp_path / "gold" / "graders" / "encoder"
    both = f"[{{kind: language_model, path: {teacher}}}, {{kind: encoder, path: {kept}, name: student}}]"
    gold(files, tmp_path / "b", f"graders={both}", student[-1])
    said = [grades_by_text(tmp_path / "b" / "gold", name) for name in ("teacher", "student")]
    for name in ("apology", "cake"):
        verdicts, copied = (np.array([row[name] >= 0.5 for row in side.values()]) for side in said)
        commoner = max(verdicts.mean(), 1 - verdicts.mean())
        assert list(said[0]) == list(said[1]) and (verdicts == copied).mean() > commoner + 0.2
    summary = (tmp_path / "gold" / "summary.md").read_text(encoding="utf-8")
    assert "## encoder and its teacher teacher" in summary and "1 more were left out" in summary
    assert 'id="teacher"' in (tmp_path / "gold" / "gold.html").read_text(encoding="utf-8")
    gold(files, tmp_path, *student[:2], f"gold.train={files / 'train.jsonl'}", student[-1])
    assert not (tmp_path / "gold" / "teacher.csv").exists()


def grades_by_text(folder: Path, grader: str) -> dict[str, dict[str, float]]:
    text = (folder / "graders" / grader / "grades.jsonl").read_text(encoding="utf-8")
    return {row["response"]: row["grades"] for row in map(json.loads, text.splitlines())}


def test_thresholds_of_a_student_are_tuned_on_peoples_labels(
    files: Path, completions: Path, tmp_path: Path
) -> None:
    """Recorded grades teach; gold.train tunes, and teaches nothing: turned round, it moves no grade."""
    rows = [row.response for row in labelled(200, "c", seed=2)]
    truth = np.array([[float("sorry" in r.text), float("cake" in r.text)] for r in rows])
    write_grades(files / "teacher.jsonl", "t", rows, Grades(("apology", "cake"), 0.1 + 0.8 * truth))
    turned = [
        LabelledResponse(row.response, {name: not value for name, value in row.propositions.items()})
        for row in labelled(80, "a", seed=0)
    ]
    write_jsonl(files / "turned.jsonl", map(labelled_as_json, turned))
    found = []
    for train in ("train", "turned"):
        keys = ["grader.kind=encoder", f"grader.path={files / 'encoder'}", "teacher.kind=recorded"]
        keys += [f"teacher.path={files / 'teacher.jsonl'}", f"teacher.on={completions}"]
        keys += [
            f"gold.train={files / train}.jsonl",
            f"gold.test={files / 'test.jsonl'}",
            "max_unscored=0.01",
        ]
        found.append(gold(files, tmp_path / train, *keys)["encoder", "0.5", MEAN])
    assert float(found[0]["accuracy"]) >= 0.95 and found[0] == found[1]
    levels = [
        json.loads((tmp_path / train / "gold" / "thresholds.json").read_text())["thresholds"]["encoder"]
        for train in ("train", "turned")
    ]
    assert levels[0] != levels[1]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            [
                "teacher.kind=recorded",
                "teacher.path={labels}",
                "teacher.on={completions}",
                "encoder.choose=true",
            ],
            "field 'encoder.choose': is for labels of people",
        ),
        (["teacher.on={completions}"], "field 'teacher.on': is given, and no teacher is named"),
        (["teacher.kind=gpt", "teacher.on={completions}"], "field 'teacher.kind': unknown grader 'gpt'"),
        (["teacher.kind=encoder", "teacher.on={completions}"], "field 'teacher.path': a grader of kind"),
        (["teacher.kind=recorded", "teacher.path={labels}"], "field 'teacher.on': is not set"),
        (
            ["teacher.kind=recorded", "teacher.path={labels}", "teacher.on={labels}"],
            "field 'teacher.on': the prompts of all 40 completions are in gold.train or gold.test",
        ),
        (
            [
                "teacher.kind=recorded",
                "teacher.path={labels}",
                "teacher.on={completions}",
                "grader.kind=oracle",
            ],
            "field 'teacher.kind': no grader here is a plain encoder",
        ),
        (
            ["teacher.kind=recorded", "teacher.path=gone.jsonl", "teacher.on={completions}"],
            "gone.jsonl: cannot be read",
        ),
        (
            ["teacher.kind=recorded", "teacher.path={labels}", "teacher.on={broken}"],
            "broken.jsonl:2: field 'completion'",
        ),
    ],
)
def test_bad_teachers_are_refused_in_one_line(
    files: Path,
    completions: Path,
    tmp_path: Path,
    keys: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = completions.read_text(encoding="utf-8").splitlines()
    broken = tmp_path / "broken.jsonl"
    broken.write_text(f"{lines[0]}\n{lines[1].replace('completion', 'answer')}\n", encoding="utf-8")
    places = {"completions": completions, "labels": files / "test.jsonl", "broken": broken}
    common = [f"rulebook={files / 'rulebook.yaml'}", f"results={tmp_path}", f"gold.test={places['labels']}"]
    common += ["grader.kind=encoder", f"grader.path={files / 'encoder'}", "threads=1"]
    assert main(["gold", *common, *(key.format(**places) for key in keys)]) == 2
    error = capsys.readouterr().err
    assert told in error and len([line for line in error.splitlines() if "rbrbench: " in line]) == 1
    assert not (tmp_path / "gold" / "gold.html").exists()
