"""`rbrbench gold` with graders that are models: sizes side by side, and an encoder fitted, kept and used again."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from evals.calibration import MEAN
from evals.conversation import LabelledResponse, Response, labelled_as_json, user_prompt, write_jsonl
from evals.graders.hostile import ALL
from evals.graders.question import PLAIN, remember_prompt
from evals.models import save_model
from harness.graders import GRADES
from harness.main import main
from harness.sandbox.tokenizer import word_tokenizer

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
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        initializer_range=0.3,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
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
    keys = ("grader=language_model", f"model.path={files / 'small'}", f"gold.test={files / 'test.jsonl'}")
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
    keys = ("grader=encoder", f"gold.test={files / 'test.jsonl'}")
    fitted = gold(
        files, tmp_path / "a", *keys, f"model.path={files / 'encoder'}", f"gold.train={files / 'train.jsonl'}"
    )
    assert float(fitted["encoder", "0.5", MEAN]["accuracy"]) >= 0.95
    kept = tmp_path / "a" / "gold" / "graders" / "encoder"
    again = gold(files, tmp_path / "b", *keys, f"model.path={kept}")
    for measure in ("accuracy", "auroc", "brier"):
        assert again["encoder", "0.5", MEAN][measure] == fitted["encoder", "0.5", MEAN][measure]
    moved = hostile(tmp_path / "a")
    for attack in ("zero-width spaces between letters", "Cyrillic look-alike letters"):
        assert float(moved["encoder", attack]["mean"]) < 1e-6, attack
    crossed = gold(
        files,
        tmp_path / "c",
        "grader=encoder",
        f"model.path={files / 'encoder'}",
        f"gold.train={files / 'train.jsonl'}",
    )
    assert crossed["encoder", "0.5", "cake"]["n"] == "80"
    assert float(crossed["encoder", "tuned", MEAN]["accuracy"]) >= 0.95
    assert (tmp_path / "c" / "gold" / "graders" / "encoder" / "grader_head.safetensors").is_file()


def test_a_plain_encoder_without_training_labels_is_refused(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [f"rulebook={files / 'rulebook.yaml'}", f"results={tmp_path}", f"gold.test={files / 'test.jsonl'}"]
    assert main(["gold", "grader=encoder", f"model.path={files / 'encoder'}", *keys]) == 2
    assert "field 'gold.train': an encoder without head is fitted to labels" in capsys.readouterr().err
