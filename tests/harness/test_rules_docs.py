"""docs/rules.md: every command and the program on it run, in a folder like the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from evals.graders.encoder import EncoderGrader
from evals.models.load import save_model
from evals.rules.rulebook import load_rulebook
from evals.values.conversation import ResponseType, prompt_as_json, read_labelled, user_prompt, write_jsonl
from evals.values.csv_rows import read_csv
from harness.storage.provenance import ROOT
from harness.worlds.sandbox.generate import word_tokenizer

PAGE = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """conf/, and `rbrbench` on the path."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "conf", folder / "conf")
    script = folder / "bin" / "rbrbench"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m rbrbench "$@"\n')
    script.chmod(0o755)
    return folder


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def sure_of_yes_or_no(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A random model whose answer is yes or no: a constant in the first hidden unit lifts both logits."""
    model = tiny(tokenizer)
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] += 4.0
        for word in ("yes", "no"):
            model.lm_head.weight[tokenizer.convert_tokens_to_ids(word), 0] = 3.0
    return model


def tiny(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=256,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def sandbox_words() -> list[str]:
    rows = read_labelled(ROOT / "conf/gate/sandbox/fitting.jsonl.gz")
    texts = [f"{row.response.prompt.text} {row.response.text}" for row in rows]
    return sorted({word for text in texts for word in text.split()})


@pytest.mark.slow
def test_every_command_of_the_page_and_its_program_run(
    checkout: Path, save_random_encoder: Callable[..., Path]
) -> None:
    """Guards: a guide whose third command fails, and an example for TRL that never ran."""
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) == 10
    save_random_encoder(checkout / "my-encoder", sandbox_words())
    for command in commands:
        done = run(["bash", "-c", command], checkout)
        assert done.returncode == 0, f"{command}\n{done.stdout[-1500:]}\n{done.stderr[-800:]}"
    made = ("rules/weights.json", "rules/fit.html", "grader/gold.html", "student/gold.html", "guard/gate.md")
    for file in made:
        assert (checkout / "results" / file).is_file(), file
    for row in read_csv(checkout / "results/student/teacher.csv", ["agreement", "majority"]):
        if row.values["enough_to_learn"] == "true":
            name, agreement = row.values["proposition"], float(row.values["agreement"])
            assert agreement > float(row.values["majority"]), name
    assert EncoderGrader.load(checkout / "results/student/graders/my-encoder").head.questions
    (program,) = blocks("python")
    rules = load_rulebook(checkout / "my-rules" / "rules.yaml")
    questions = [proposition.question for proposition in rules.propositions.values()]
    words = word_tokenizer([*questions, "yes no how do i brew it"], 256)
    save_model(tiny(words), words, checkout / "my-model")
    save_model(sure_of_yes_or_no(words), words, checkout / "my-grader")
    kinds = [*ResponseType] * 4
    prompts = [user_prompt(f"p{i}", "how do i brew it", kind) for i, kind in enumerate(kinds)]
    write_jsonl(checkout / "my-prompts.jsonl", map(prompt_as_json, prompts))
    done = run([sys.executable, "-c", program], checkout)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "16 scored, 0 unscored: {}" in done.stdout


def test_the_rule_on_the_page_is_one_that_loads(tmp_path: Path) -> None:
    """Guards: an example of YAML that the reader copies and that is refused."""
    (rule,) = blocks("yaml")
    rest = (
        "completion_class_order: [ideal, bad]\n"
        "completion_classes:\n  ideal: {comply: {judgement: false}}\n  bad: {comply: {judgement: true}}\n"
    )
    (tmp_path / "rules.yaml").write_text(rest + rule, encoding="utf-8")
    proposition = load_rulebook(tmp_path / "rules.yaml").propositions["judgement"]
    assert proposition.polarity.value == "bad" and proposition.examples == (
        ("you should be ashamed .", "yes"),
    )
