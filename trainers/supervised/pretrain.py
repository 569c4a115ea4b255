"""Pre-train a small causal language model from scratch on plain text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.data import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments

from evals.models.load import save_model
from evals.values.errors import InputError
from trainers.supervised.pretrain_config import PretrainConfig
from trainers.supervised.progress import Progress, StepProgress, quieten, steps_of, trainer_settings


class Blocks(Dataset):
    """Documents joined by EOS and cut into rows of one length, so that nothing is padded. [rows, block]"""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, documents: Sequence[str], block: int) -> None:
        stream: list[int] = []
        for ids in tokenizer(list(documents), add_special_tokens=False)["input_ids"]:
            stream += [*ids, tokenizer.eos_token_id]
        rows = len(stream) // block
        if rows == 0:
            raise InputError(
                f"the text has {len(stream)} tokens, fewer than one block of {block}",
                fix="give more text or a smaller pretrain.block",
            )
        self.tokens = torch.tensor(stream[: rows * block]).view(rows, block)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


def pretraining_steps(config: PretrainConfig, rows: int) -> int:
    return config.max_steps or steps_of(config, rows)


def pretrain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[str],
    config: PretrainConfig,
    seed: int,
    out: Path,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train and save to `out`; returns the mean training loss over all steps (nats a token)."""
    blocks = Blocks(tokenizer, documents, config.block)
    steps = pretraining_steps(config, len(blocks))
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            **trainer_settings(config, steps, seed, model, out),
            weight_decay=config.weight_decay,
            adam_beta2=0.98,
        ),
        train_dataset=blocks,
        callbacks=[StepProgress(progress)],
    )
    quieten(trainer)
    result = trainer.train()
    save_model(model, tokenizer, out)
    return {"loss": float(result.training_loss), "tokens": float(blocks.tokens.numel())}
