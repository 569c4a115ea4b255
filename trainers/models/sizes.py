"""Make models: from scratch, as a reward model on a language model's trunk, with adapters, in a precision."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from evals.models.chat import set_template_keys
from evals.models.load import check_loaded, load_tokenizer
from evals.values.errors import InputError
from evals.values.ranges import check_ranges, whole

HEAD = "score.weight"  # of a classifier; the trunk is the causal model's


class Precision(str, Enum):
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self is Precision.FLOAT32 else torch.bfloat16


@dataclass
class ModelConfig:
    """Which language model. With a `path` it is loaded; without one it is made and pre-trained here."""

    path: str | None = None  # a Hugging Face folder or hub name
    chat_template: dict[str, Any] = field(default_factory=dict)  # its keys: .enable_thinking=false
    precision: Precision = Precision.FLOAT32  # of the weights: float32 or bfloat16
    lora_rank: int = 0  # of the adapters that are trained; 0 trains every weight
    lora_layers: int = 0  # last layers that have adapters; 0: all
    width: int = 128  # of its states; a multiple of twice the heads
    layers: int = 2  # of a model that is made here
    heads: int = 4  # of attention in a layer
    context: int = 256  # tokens of prompt and response together

    def __post_init__(self) -> None:
        check_ranges(
            self, "model", {"width layers heads context": whole(1), "lora_rank lora_layers": whole(0)}
        )
        if self.chat_template and self.path is None:
            problem = "is set, and a model that is made here has no such keys"
            raise InputError(problem, field="model.chat_template", fix="leave it out, or name model.path")
        if self.width % (2 * self.heads):  # Rotary embeddings turn a head's values in pairs.
            raise InputError(
                f"is {self.width}, no multiple of twice the heads {self.heads}",
                field="model.width",
                fix="choose width = 2 x heads x n",
            )


def given_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """That of the model at `path`, whose chat template knows the configuration's keys; its PAD may be none."""
    tokenizer = load_tokenizer(str(config.path), needs_padding=False)
    set_template_keys(tokenizer, config.chat_template, "model.chat_template")
    return tokenizer


def new_causal_lm(config: ModelConfig, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """A Llama-style model with fresh weights and tied embeddings, drawn from `seed`."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.width,
            intermediate_size=3 * config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            max_position_embeddings=config.context,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def new_reward_model(
    base: str | Path, tokenizer: PreTrainedTokenizerBase, precision: Precision, seed: int
) -> PreTrainedModel:
    """A one-output classifier on the trunk of the causal model at `base`; its head starts at zero.

    A zero head ranks nothing at first, so that the head's draw adds no noise between seeds.
    """
    torch.manual_seed(seed)
    model, told = AutoModelForSequenceClassification.from_pretrained(
        str(base),
        num_labels=1,
        dtype=precision.dtype,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    trunk_only = {
        **told,
        "unexpected_keys": set(told["unexpected_keys"]) - {"lm_head.weight", "lm_head.bias"},
    }
    check_loaded(model, trunk_only, base, new=[HEAD])
    model.config.pad_token_id = tokenizer.pad_token_id
    torch.nn.init.zeros_(model.get_parameter(HEAD))
    return model
