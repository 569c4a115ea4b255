"""Make models: from scratch, as a reward model on a language model's trunk, with adapters, in a precision."""

from __future__ import annotations

from pathlib import Path

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
from trainers.models.model_config import ModelConfig, Precision

HEAD = "score.weight"  # of a classifier; the trunk is the causal model's


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
