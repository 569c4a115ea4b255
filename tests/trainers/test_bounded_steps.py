"""A step in parts is the step of the whole batch: TRL's loss and gradient, with less in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tiny_models import make_tokenizer, numbered_words, random_model
from transformers import (
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    Qwen2ForCausalLM,
)
from trl import RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from evals.values.errors import InputError
from trainers.models.adapters import adapter, add_adapter
from trainers.supervised import bounded_steps
from trainers.supervised.bounded_steps import BoundedRewardTrainer, BoundedSFTTrainer, parts_by_length

TOKENIZER = make_tokenizer(numbered_words(30))
LENGTHS = (5, 19, 3, 11, 7, 12)
OWN: dict[str, dict[str, Any]] = {
    "Qwen2ForCausalLM": {"num_key_value_heads": 2},
    "GPT2LMHeadModel": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "GPT2ForSequenceClassification": {
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "num_labels": 1,
    },
    "LlamaForSequenceClassification": {"num_labels": 1},
}


def ids(count: int, seed: int) -> list[int]:
    return torch.randint(4, 30, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def demonstrations() -> Dataset:
    rows = [{"input_ids": ids(n, n), "completion_mask": [0] * (n - n // 2) + [1] * (n // 2)} for n in LENGTHS]
    return Dataset.from_list(rows)


def pairs() -> Dataset:
    return Dataset.from_list(
        [{"chosen_ids": ids(n, n), "rejected_ids": ids(20 - n, 50 + n)} for n in LENGTHS]
    )


def settings(out: Path) -> dict[str, Any]:
    given = {"max_steps": 1, "report_to": [], "use_cpu": True, "bf16": False, "disable_tqdm": True}
    return given | {
        "output_dir": str(out), "per_device_train_batch_size": len(LENGTHS), "gradient_checkpointing": False
    }  # fmt: skip


def model_of(kind: Any) -> Any:
    return random_model(kind, TOKENIZER, initializer_range=0.3, **OWN.get(kind.__name__, {}))


def trainer_of(kind: Any, model: Any, out: Path, rank: int) -> Any:
    """One of the four, with adapters whose both halves count."""
    is_sft = issubclass(kind, SFTTrainer)
    own = {"completion_only_loss": True} if is_sft else {"center_rewards_coefficient": 0.1}
    trainer = kind(
        model=model,
        args=(SFTConfig if is_sft else RewardConfig)(**settings(out), **own),
        train_dataset=demonstrations() if is_sft else pairs(),
        processing_class=TOKENIZER,
        peft_config=adapter(rank, "CAUSAL_LM" if is_sft else "SEQ_CLS"),
    )
    generator = torch.Generator().manual_seed(3)
    for name, weight in trainer.model.named_parameters():
        if "lora_B" in name or "score" in name:
            weight.data.normal_(0.0, 0.3, generator=generator)
    return trainer


def step(trainer: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss of the one batch, and the gradient by weight."""
    torch.manual_seed(0)
    trainer.current_gradient_accumulation_steps = 1  # as train() sets it
    batch = next(iter(trainer.get_train_dataloader()))
    count = (batch["labels"][:, 1:] != -100).sum() if "labels" in batch else None
    loss = trainer.training_step(trainer.model, batch, count)
    return float(loss), {n: p.grad for n, p in trainer.model.named_parameters() if p.grad is not None}


def check_same_step(theirs: Any, ours: Any) -> None:
    (loss, gradients), (wanted, expected) = step(ours), step(theirs)
    assert loss == pytest.approx(wanted, rel=1e-5)
    assert gradients.keys() == expected.keys() and gradients
    for name, gradient in gradients.items():
        scale = float(expected[name].abs().max()) + 1e-3
        assert torch.allclose(gradient, expected[name], rtol=1e-4, atol=1e-5 * scale), name


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("kind", [LlamaForCausalLM, Qwen2ForCausalLM, GPT2LMHeadModel])
def test_sft_in_parts_is_sft(kind: Any, rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """11.4 GB for 135 M parameters: logits of every token at once. The same step has to come of less."""
    monkeypatch.setattr(bounded_steps, "CHUNK", 4)
    theirs, ours = (
        trainer_of(trainer, model_of(kind), tmp_path, rank) for trainer in (SFTTrainer, BoundedSFTTrainer)
    )
    ours.tokens_at_once = 24
    check_same_step(theirs, ours)


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("kind", [LlamaForSequenceClassification, GPT2ForSequenceClassification])
def test_a_reward_model_in_parts_is_one(kind: Any, rank: int, tmp_path: Path) -> None:
    """12.9 GB for 24 pairs: all of a batch's activations at once, most of them of padding."""
    theirs, ours = (
        trainer_of(trainer, model_of(kind), tmp_path, rank)
        for trainer in (RewardTrainer, BoundedRewardTrainer)
    )
    ours.tokens_at_once = 50
    check_same_step(theirs, ours)


def test_logits_exist_of_completions_alone(tmp_path: Path) -> None:
    """The head was asked of prompt and padding too."""
    trainer = trainer_of(BoundedSFTTrainer, random_model(LlamaForCausalLM, TOKENIZER), tmp_path, 0)
    trainer.tokens_at_once = 24
    asked: list[int] = []
    head = trainer.model.get_output_embeddings()
    step(trainer)
    head.register_forward_hook(lambda module, given, out: asked.append(len(given[0])))
    step(trainer)
    assert sum(asked) == sum(n // 2 for n in LENGTHS)


def test_parts_are_bounded_with_their_padding() -> None:
    lengths = [3, 40, 10, 9, 3, 2]
    parts = parts_by_length(lengths, 20)
    assert sorted(row for part in parts for row in part) == list(range(6))
    assert parts[0] == [1]  # longer than the bound: alone
    assert all(len(part) * max(lengths[row] for row in part) <= 20 for part in parts[1:])
    assert parts[1:] == [[2, 3], [0, 4, 5]]


@pytest.mark.parametrize("kind", [LlamaForCausalLM, GPT2LMHeadModel, LlamaForSequenceClassification])
def test_adapters_of_the_last_layers_alone(kind: Any) -> None:
    """A backward pass through thirty layers, where two were to be trained."""
    model = add_adapter(model_of(kind), 2, layers=1)
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert trained and all(".1." in name or name == "score.weight" for name in trained)
    with pytest.raises(InputError, match=r"'model.lora_layers': is 3, and the model has 2 layers"):
        add_adapter(model_of(kind), 2, layers=3)
