"""Supervised fine-tuning on demonstrations, with TRL's SFTTrainer; only the response is learned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig as TRLConfig
from trl import SFTTrainer

from evals.models.chat import ResponseEncoder
from evals.models.load import prompt_token_ids
from evals.values.conversation import Demonstration
from evals.values.errors import InputError
from trainers.models.adapters import adapter, save_merged
from trainers.supervised.bounded_steps import BoundedSFTTrainer
from trainers.supervised.progress import Progress, StepProgress, quieten, steps_of, trainer_settings
from trainers.supervised.sft_config import SFTConfig


def sft(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    demonstrations: Sequence[Demonstration],
    config: SFTConfig,
    seed: int,
    out: Path,
    *,
    lora_rank: int = 0,
    lora_layers: int = 0,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Fine-tune and save to `out`; returns the mean training loss (nats a response token) and counts.

    Rows are tokens as a response is sampled, with the end of its turn, which is what is learnt to stop by.
    Raises InputError where no row has a token of its response within `max_length`.
    """
    rows = demonstration_rows(tokenizer, demonstrations)
    cut = sum(len(row["input_ids"]) > config.max_length for row in rows)
    if not any(any(row["completion_mask"][: config.max_length]) for row in rows):
        raise InputError(
            f"no response begins within {config.max_length} tokens", field="sft.max_length", fix="raise it"
        )
    steps = steps_of(config, len(demonstrations))
    kind = BoundedSFTTrainer if config.tokens_at_once else SFTTrainer
    trainer = kind(
        model=model,
        args=TRLConfig(
            **trainer_settings(config, steps, seed, model, out),
            max_length=config.max_length,
            completion_only_loss=True,
            gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=adapter(lora_rank, "CAUSAL_LM", lora_layers, model),
        callbacks=[StepProgress(progress)],
    )
    if isinstance(trainer, BoundedSFTTrainer):
        trainer.tokens_at_once = config.tokens_at_once
    quieten(trainer)
    result = trainer.train()
    save_merged(trainer.model, tokenizer, out)
    return {"loss": float(result.training_loss), "demonstrations": float(len(rows)), "cut": float(cut)}


def demonstration_rows(
    tokenizer: PreTrainedTokenizerBase, demonstrations: Sequence[Demonstration]
) -> list[dict[str, list[int]]]:
    """Each conversation as token ids, and a mask that is 1 on the response, by TRL's names.

    A response that was cut has no end of its turn: learnt with one, a model would stop in the middle of a sentence.
    """
    responses = ResponseEncoder(tokenizer)(
        [item.text for item in demonstrations], [item.finished for item in demonstrations]
    )
    rows = []
    for item, response in zip(demonstrations, responses, strict=True):
        prompt = prompt_token_ids(tokenizer, item.prompt.messages)
        mask = [0] * len(prompt) + [1] * len(response)
        rows.append({"input_ids": prompt + response, "completion_mask": mask})
    return rows
