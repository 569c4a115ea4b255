"""`experiment=gpu`, as far as a machine without a GPU allows: every stage with a tiny model of its class."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from tiny_models import random_model
from tiny_runs import rbrbench
from transformers import Qwen2ForCausalLM

from evals.models.load import save_model
from evals.rules.rulebook import load_rulebook
from harness.keys.run import CONF
from harness.worlds.sandbox.generate import write_sandbox
from trainers.models.tokenizer import train_tokenizer

SMALL = [
    "experiment=gpu",
    "data.source=SANDBOX",
    "data.root=null",
    "capability.root=null",
    "sandbox=xs",
    "rulebook=sandbox",
    "threads=1",
    "sft.learning_rate=1e-3",
    "grader.learning_rate=5e-3",
    "grader.epochs=8",
    "grader.anyway=true",  # it learns little in so few steps
    "grader.batch_size=4",
    "sandbox.grader_labels=80",  # two graders in bf16 are most of what a dry run costs
    "sandbox.judge_labels=80",
    "ppo.updates=2",
    "ppo.batch_size=8",
    "ppo.micro_batch_size=4",
    "ppo.max_new_tokens=12",
    "ppo.checkpoint_every=1",
    "evaluation.max_new_tokens=12",
    "capability.limit=4",
    "methods=[rbr_ppo]",
]


@pytest.fixture(scope="module")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2 folder with random weights, bf16 as published, a byte-level tokenizer and a chat template."""
    from harness.keys.run import compose_run

    out = tmp_path_factory.mktemp("world")
    sandbox = compose_run(["experiment=smoke"]).sandbox
    write_sandbox(out, sandbox, 0, load_rulebook(CONF / "rulebooks" / "sandbox.yaml"), 256)
    tokenizer = train_tokenizer((out / "pretrain.txt").read_text().splitlines(), 700, 512)
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    model = random_model(Qwen2ForCausalLM, tokenizer, bos_token_id=None, tie_word_embeddings=True, **heads)
    folder = tmp_path_factory.mktemp("qwen")
    save_model(model.to(torch.bfloat16), tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both runs stand: the second takes the world of the first."""
    return tmp_path_factory.mktemp("dry")


@pytest.mark.slow
@pytest.mark.parametrize("lora_rank", [0, 4])
def test_dry_run_with_a_tiny_model(tiny_qwen: Path, folder: Path, lora_rank: int) -> None:
    """A given model goes through every stage, whole or with adapters; bf16, chat template, no pre-training."""
    own = [f"name=dry{lora_rank}", f"model.path={tiny_qwen}", f"model.lora_rank={lora_rank}"]
    done = rbrbench("run", *SMALL, *own, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    with open(folder / "results" / f"dry{lora_rank}" / "metrics.csv", newline="") as file:
        methods = {row["method"] for row in csv.DictReader(file)}
    assert methods >= {"rbr_sft", "rbr_ppo"}
