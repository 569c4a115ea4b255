"""Supervised fine-tuning on demonstrations, with TRL's SFTTrainer; only the response is learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig as TRLConfig
from trl import SFTTrainer

from evals.models.load import save_model
from evals.values.conversation import Demonstration, messages_as_json
from evals.values.ranges import POSITIVE, SHARE, check_ranges, whole
from trainers.models.adapters import adapter, merged
from trainers.supervised.progress import Progress, StepProgress, quieten, steps_of


@dataclass
class SFTConfig:
    batch_size: int = 32  # demonstrations
    epochs: float = 3.0
    learning_rate: float = 1e-3
    warmup_share: float = 0.05
    max_length: int = 128  # tokens of prompt and response; longer rows are cut by TRL

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "sft",
            {
                "batch_size max_length": whole(1),
                "epochs learning_rate": POSITIVE,
                "warmup_share": SHARE,
            },
        )


def sft(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    demonstrations: Sequence[Demonstration],
    config: SFTConfig,
    seed: int,
    out: Path,
    *,
    lora_rank: int = 0,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Fine-tune and save to `out`; returns the mean training loss (nats a response token)."""
    steps = steps_of(config, len(demonstrations))
    trainer = SFTTrainer(
        model=model,
        args=TRLConfig(
            output_dir=str(out / "trainer"),
            per_device_train_batch_size=config.batch_size,
            max_steps=steps,
            learning_rate=config.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=round(config.warmup_share * steps),
            max_length=config.max_length,
            completion_only_loss=True,
            gradient_checkpointing=False,
            seed=seed,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            bf16=model.dtype == torch.bfloat16,
        ),
        train_dataset=_dataset(demonstrations),
        processing_class=tokenizer,
        peft_config=adapter(lora_rank),
        callbacks=[StepProgress(progress)],
    )
    quieten(trainer)
    result = trainer.train()
    save_model(merged(trainer.model), tokenizer, out)
    return {"loss": float(result.training_loss), "demonstrations": float(len(demonstrations))}


def _dataset(demonstrations: Sequence[Demonstration]) -> Dataset:
    return Dataset.from_list(
        [
            {
                "prompt": messages_as_json(item.prompt.messages),
                "completion": [{"role": "assistant", "content": item.text}],
            }
            for item in demonstrations
        ]
    )
