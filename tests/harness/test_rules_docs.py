"""docs/rules.md: every command and the program on it run, in a folder like the checkout."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_models import random_model
from tiny_runs import Checkout
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from evals.graders.encoder import EncoderGrader
from evals.models.load import save_model
from evals.rules.rulebook import load_rulebook
from evals.values.conversation import ResponseType, prompt_as_json, read_labelled, user_prompt, write_jsonl
from evals.values.csv_rows import read_csv
from harness.storage.provenance import ROOT
from harness.worlds.sandbox.generate import word_tokenizer

PAGE = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("checkout"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def sure_of_yes_or_no(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A random model whose answer is yes or no: a constant in the first hidden unit lifts both logits."""
    model = tiny(tokenizer)
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] += 4.0
        for word in ("yes", "no"):
            model.lm_head.weight[tokenizer.convert_tokens_to_ids(word), 0] = 3.0
    return model


def tiny(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    sizes = {"intermediate_size": 48, "num_hidden_layers": 1, "max_position_embeddings": 256}
    return random_model(LlamaForCausalLM, tokenizer, **sizes)


def sandbox_words() -> list[str]:
    rows = read_labelled(ROOT / "conf/gate/sandbox/fitting.jsonl.gz")
    texts = [f"{row.response.prompt.text} {row.response.text}" for row in rows]
    return sorted({word for text in texts for word in text.split()})


@pytest.mark.slow
def test_every_command_of_the_page_and_its_program_run(
    checkout: Checkout, save_random_encoder: Callable[..., Path]
) -> None:
    """Guards: a guide whose third command fails, and an example for TRL that never ran."""
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) == 10
    folder = checkout.folder
    save_random_encoder(folder / "my-encoder", sandbox_words())
    for command in commands:
        done = checkout.line(command)
        assert done.returncode == 0, f"{command}\n{done.stdout[-1500:]}\n{done.stderr[-800:]}"
    made = ("rules/weights.json", "rules/fit.html", "grader/gold.html", "student/gold.html", "guard/gate.md")
    for file in made:
        assert (folder / "results" / file).is_file(), file
    for row in read_csv(folder / "results/student/teacher.csv", ["agreement", "majority"]):
        if row.values["enough_to_learn"] == "true":
            name, agreement = row.values["proposition"], float(row.values["agreement"])
            assert agreement > float(row.values["majority"]), name
    assert EncoderGrader.load(folder / "results/student/graders/my-encoder").head.questions
    (program,) = blocks("python")
    rules = load_rulebook(folder / "my-rules" / "rules.yaml")
    questions = [proposition.question for proposition in rules.propositions.values()]
    words = word_tokenizer([*questions, "yes no how do i brew it"], 256)
    save_model(tiny(words), words, folder / "my-model")
    save_model(sure_of_yes_or_no(words), words, folder / "my-grader")
    kinds = [*ResponseType] * 4
    prompts = [user_prompt(f"p{i}", "how do i brew it", kind) for i, kind in enumerate(kinds)]
    write_jsonl(folder / "my-prompts.jsonl", map(prompt_as_json, prompts))
    done = checkout.run([sys.executable, "-c", program])
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
