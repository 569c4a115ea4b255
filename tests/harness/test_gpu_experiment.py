"""`experiment=gpu`, as far as a machine without a GPU allows: every stage with a tiny model of its class."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from own_world import OwnServer, own_world
from tiny_models import random_model
from tiny_runs import rbrbench
from tiny_servers import in_a_thread
from transformers import Qwen2ForCausalLM

from conf import CONF
from evals.models.load import save_model
from evals.rules.rulebook import load_rulebook
from harness.keys.data import DataSource
from harness.keys.run import compose_run
from harness.worlds.sandbox.generate import write_sandbox
from trainers.models.tokenizer import train_tokenizer

SMALL = [
    "experiment=gpu",
    "data=none",
    "capability.tasks=[lambada]",
    "capability.limit=2",
    "sft.learning_rate=1e-3",
    "evaluation.suites=[]",
    "writer.max_new_tokens=8",
]


@pytest.fixture(scope="module")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2 folder with random weights, bf16 as published, a byte-level tokenizer and a chat template."""
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
    """Where both runs stand: the second takes the data of the first."""
    return tmp_path_factory.mktemp("dry")


@pytest.mark.slow
@pytest.mark.parametrize("lora_rank", [0, 4])
def test_dry_run_with_a_tiny_model(tiny_qwen: Path, folder: Path, lora_rank: int) -> None:
    """A given model goes through every stage, whole or with adapters; bf16, chat template, no pre-training.

    A server grades and writes in its place: its weights are random.
    """
    replaced = ("experiment=", "name=", "model.path=")
    own = [f"name=dry{lora_rank}", f"model.path={tiny_qwen}", f"model.lora_rank={lora_rank}"]
    own += [override for override in own_world(folder) if not override.startswith(replaced)]
    (folder / "lambada").mkdir(exist_ok=True)
    (folder / "lambada" / "lambada_test.jsonl").write_text('{"text": "we pick an apple"}\n' * 2)
    own.append(f"capability.root={folder}")
    with in_a_thread(OwnServer()) as server:
        for role in ("grader", "writer"):
            own += [f"{role}.kind=server", f"{role}.server.url={server.url}", f"{role}.server.model=m"]
        done = rbrbench("run", *SMALL, *own, "grader.path=null", cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    with open(folder / "results" / f"dry{lora_rank}" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} >= {"rbr_sft", "rbr_ppo"}
    assert "capability/lambada" in {row["suite"] for row in rows}


def test_it_is_made_of_the_parts_of_ones_own(tmp_path: Path) -> None:
    """Real input to a GPU run was five named folders and a grader that was always fine-tuned."""
    config = compose_run(["experiment=gpu", f"data.root={tmp_path}", "model.path=some/model"])
    assert config.data.source is DataSource.FILES and config.data.gold == ["openai_rbr"]
    assert (config.grader.kind, config.grader.path) == ("language_model", "some/model")
    assert (config.writer.kind, config.evaluation.suites) == ("language_model", ["xstest"])
