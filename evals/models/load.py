"""Load models and tokenizers, safely, and turn prompts into tokens.

Only safetensors weights are loaded and remote code never runs. PAD must be a token of its own:
a PAD that equals EOS is masked away with the padding and the model never learns to stop
(arXiv 2403.17031).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from evals.values.conversation import Message, Prompt
from evals.values.errors import InputError


def load_tokenizer(path: str | Path, *, needs_padding: bool = True) -> PreTrainedTokenizerBase:
    """Raises InputError when the folder has no tokenizer, or its PAD is missing or is EOS.

    With `needs_padding` False, for models that are only read, a missing PAD is EOS: the mask hides it.
    """
    _check_folder(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"no tokenizer could be loaded ({_first_line(error)})",
            path=path,
            fix="name a Hugging Face folder or hub id",
        ) from None
    if needs_padding or tokenizer.eos_token_id is None:
        check_padding(tokenizer, path)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_padding(tokenizer: PreTrainedTokenizerBase, path: str | Path) -> None:
    if tokenizer.eos_token_id is None:
        raise InputError(
            "the tokenizer has no EOS token", path=path, fix="set eos_token in tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise InputError(
            "the tokenizer's PAD token is missing or is its EOS token",
            path=path,
            field="pad_token",
            fix="give PAD a token of its own in tokenizer_config.json",
        )


def load_causal_lm(path: str | Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A causal language model in evaluation mode. Raises InputError without safetensors weights."""
    return _load(AutoModelForCausalLM, path, dtype)


def load_reward_model(path: str | Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A one-output sequence classifier (reward model or critic) in evaluation mode."""
    return _load(AutoModelForSequenceClassification, path, dtype, num_labels=1)


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: str | Path) -> None:
    """Write a folder that `load_causal_lm` and any transformers program can read."""
    model.save_pretrained(str(path), safe_serialization=True)
    tokenizer.save_pretrained(str(path))


def prompt_token_ids(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, generation: bool = True
) -> list[int]:
    """Token ids of a conversation in the model's own chat template; with `generation`, ready to answer.

    Without a template the turns are written as plain `User:` / `Assistant:` lines.
    """
    rows = [{"role": m.role, "content": m.content} for m in messages]
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=generation)
        return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    text = "\n".join(f"{m.role.capitalize()}: {m.content}" for m in messages)
    return list(tokenizer(text + ("\nAssistant:" if generation else ""), verbose=False)["input_ids"])


def default_device() -> torch.device:
    """The first CUDA device where there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_prompt_length(prompts: Sequence[Prompt], lengths: Sequence[int], limit: int) -> None:
    """Raises InputError for the first prompt that leaves no room below `limit` tokens."""
    for prompt, length in zip(prompts, lengths, strict=True):
        if length > limit:
            raise InputError(
                f"prompt {prompt.id!r} has {length} tokens, the model's room for prompts is {limit}",
                fix="shorten the prompt, lower max_new_tokens, or take a model with a longer context",
            )


def context_length(model: PreTrainedModel) -> int:
    return int(getattr(model.config, "max_position_embeddings", 0) or 1_000_000)


def _load(kind: Any, path: str | Path, dtype: torch.dtype, **options: object) -> PreTrainedModel:
    _check_folder(path)
    _check_weights(path)
    settings = {"use_safetensors": True, "trust_remote_code": False, "ignore_mismatched_sizes": True}
    try:
        model, told = kind.from_pretrained(
            str(path), dtype=dtype, output_loading_info=True, **settings, **options
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise InputError(
            f"no safetensors model could be loaded ({_first_line(error)})",
            path=path,
            fix="name a Hugging Face folder or hub id with safetensors weights",
        ) from None
    check_loaded(model, told, path)
    return model.to(default_device()).eval()


def check_loaded(
    model: nn.Module, told: Mapping[str, Iterable[Any]], path: str | Path, *, new: Iterable[str] = ()
) -> None:
    """Raises InputError where the weights in `path` are not exactly those of the model.

    Transformers fills what is missing or of another shape with random numbers, and leaves out what it does not
    know; `told` is its loading information. `new` are names that are about to be trained, so may be missing.
    """
    faults = {
        "have no": sorted(set(told.get("missing_keys", ())) - set(new)),
        "have, and the model has not,": sorted(told.get("unexpected_keys", ())),
        "have another shape of": sorted(str(key[0]) for key in told.get("mismatched_keys", ())),
        "have a value that is not finite in": _not_finite(model),
    }
    for what, names in faults.items():
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise InputError(
                f"the weights {what} {names[0]}{more}",
                path=path,
                fix=f"give the whole weights of a {type(model).__name__}, by the names that transformers saves",
            )


def _not_finite(model: nn.Module) -> list[str]:
    return [name for name, weights in model.named_parameters() if not bool(torch.isfinite(weights).all())]


def _check_folder(path: str | Path) -> None:
    # A relative or absolute folder is checked here; anything else is taken for a hub name.
    looks_local = Path(path).is_absolute() or str(path).startswith((".", "~"))
    if looks_local and not Path(path).expanduser().is_dir():
        raise InputError("no such folder", path=path, fix="name a Hugging Face folder or hub id")


def _check_weights(path: str | Path) -> None:
    folder = Path(path)
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return
    pickled = [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
    if pickled:
        raise InputError(
            f"the folder has pickled weights only ({pickled[0].name})",
            path=path,
            fix="convert them to safetensors; pickles can run code and are never loaded",
        )
    raise InputError("the folder has no weights", path=path, fix="add model.safetensors")


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
