"""trainers/models/adapters.py: what a training changed stands beside the whole model, as peft writes and reads it."""

from __future__ import annotations

from pathlib import Path

import peft
import torch
from tiny_models import make_tokenizer, numbered_words, random_model
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from evals.models.folder import BESIDE
from evals.models.load import load_causal_lm, save_model
from evals.values.conversation import Demonstration, user_prompt
from trainers.models.adapters import add_adapter, save_plain
from trainers.supervised.sft import sft
from trainers.supervised.sft_config import SFTConfig

TOKENIZER = make_tokenizer(numbered_words(20))
IDS = torch.tensor([[3, 4, 5, 6]])


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return torch.as_tensor(model(IDS).logits)


def check_beside(base: Path, out: Path) -> None:
    """The base with its adapter computes what the merged folder computes, and that is something new."""
    merged, plain = AutoModelForCausalLM.from_pretrained(out), load_causal_lm(base)
    before = logits(plain)
    found = logits(peft.PeftModel.from_pretrained(plain, str(out / BESIDE)))
    assert torch.allclose(found, logits(merged), atol=1e-5) and not torch.allclose(found, before, atol=1e-3)


def test_an_adapter_stands_beside_the_model_that_it_is_folded_into(tmp_path: Path) -> None:
    """A policy was handed out merged alone: nobody could serve it as an adapter, or see what was trained."""
    base, out, again = (tmp_path / name for name in ("base", "out", "again"))
    save_model(random_model(LlamaForCausalLM, TOKENIZER), TOKENIZER, base)
    policy = add_adapter(load_causal_lm(base), 2, layers=1)
    for name, weights in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights.data, std=0.3, generator=torch.Generator().manual_seed(len(name)))
    for folder in (out, again):
        save_plain(policy, TOKENIZER, folder)
    check_beside(base, out)
    for file in (out / BESIDE).iterdir():
        assert file.read_bytes() == (again / BESIDE / file.name).read_bytes()
    save_plain(load_causal_lm(base), TOKENIZER, tmp_path / "whole")
    assert not (tmp_path / "whole" / BESIDE).exists()


def test_sft_leaves_its_adapter_too(tmp_path: Path) -> None:
    save_model(random_model(LlamaForCausalLM, TOKENIZER), TOKENIZER, tmp_path / "base")
    shown = [Demonstration(user_prompt("1", "w1 w2"), "w3 w4")]
    settings = SFTConfig(epochs=3, batch_size=1, learning_rate=0.05, max_length=32)
    sft(load_causal_lm(tmp_path / "base"), TOKENIZER, shown, settings, 0, tmp_path / "out", lora_rank=2)
    check_beside(tmp_path / "base", tmp_path / "out")
