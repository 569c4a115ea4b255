"""Reward models on comparisons, with TRL's RewardTrainer (Bradley-Terry)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import RewardConfig as TRLConfig
from trl import RewardTrainer

from evals.models.chat import ResponseEncoder
from evals.models.load import prompt_token_ids, save_model
from evals.values.conversation import Comparison
from evals.values.errors import InputError
from trainers.models.adapters import adapter, merged
from trainers.supervised.bounded_steps import BoundedRewardTrainer
from trainers.supervised.progress import Progress, StepProgress, quieten, steps_of, trainer_settings
from trainers.supervised.reward_model_config import RewardModelConfig


def train_reward_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    comparisons: Sequence[Comparison],
    config: RewardModelConfig,
    seed: int,
    out: Path,
    *,
    lora_rank: int = 0,
    lora_layers: int = 0,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train and save to `out`; returns the mean training loss (nats a comparison) and how many were used.

    Rows are tokens as `RewardModelTerm` scores them. Raises InputError where none is short enough.
    """
    rows = comparison_rows(tokenizer, comparisons)
    kept = [row for row in rows if max(map(len, row.values())) <= config.max_length]
    if not kept:
        raise InputError(
            f"all {len(rows)} comparisons are longer than {config.max_length} tokens",
            field="reward_model.max_length",
            fix="raise it",
        )
    steps = steps_of(config, len(kept))
    kind = BoundedRewardTrainer if config.tokens_at_once else RewardTrainer
    trainer = kind(
        model=model,
        args=TRLConfig(
            **trainer_settings(config, steps, seed, model, out),
            max_length=config.max_length,
            center_rewards_coefficient=config.center_coef,
            gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_list(kept),
        processing_class=tokenizer,
        peft_config=adapter(lora_rank, "SEQ_CLS", lora_layers, model),
        callbacks=[StepProgress(progress)],
    )
    if isinstance(trainer, BoundedRewardTrainer):
        trainer.tokens_at_once = config.tokens_at_once
    quieten(trainer)
    result = trainer.train()
    save_model(merged(trainer.model), tokenizer, out)
    return {
        "loss": float(result.training_loss),
        "comparisons": float(len(kept)),
        "too_long": float(len(rows) - len(kept)),
    }


def comparison_rows(
    tokenizer: PreTrainedTokenizerBase, comparisons: Sequence[Comparison]
) -> list[dict[str, list[int]]]:
    """Both conversations of each comparison as token ids, by TRL's names."""
    encode = ResponseEncoder(tokenizer)
    chosen = encode([item.chosen for item in comparisons])
    rejected = encode([item.rejected for item in comparisons])
    rows = []
    for item, better, worse in zip(comparisons, chosen, rejected, strict=True):
        prompt = prompt_token_ids(tokenizer, item.prompt.messages)
        rows.append({"chosen_ids": prompt + better, "rejected_ids": prompt + worse})
    return rows
