"""Load models and tokenizers, safely, and turn prompts into tokens.

Only safetensors weights are loaded and remote code never runs. For training PAD must be
a token of its own: a PAD that equals EOS is masked away with the padding and the model never learns to
stop (arXiv 2403.17031). A model that is only read needs none: the mask hides the padding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from evals.models.chat import chat_text
from evals.models.config_file import embedding_rows
from evals.models.folder import check_folder, weight_shapes
from evals.models.tokenizer_files import check_tokenizer
from evals.values.conversation import Message, Prompt
from evals.values.errors import InputError


def load_tokenizer(path: str | Path, *, needs_padding: bool = True) -> PreTrainedTokenizerBase:
    """Raises InputError when the folder has no tokenizer, or its PAD is missing, is EOS or is beyond the embedding.

    With `needs_padding` False, for models that are only read, such a PAD is no fault: EOS stands in for one that
    is missing or beyond, since the mask hides the padding.
    """
    _check_folder(path)
    rows = None
    if (folder := Path(path).expanduser()).is_dir():
        check_tokenizer(folder)
        rows = embedding_rows(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False)
    except Exception as error:  # a tokenizer's files are a stranger's, and the libraries raise of all kinds
        raise InputError(
            f"no tokenizer could be loaded ({_first_line(error)})",
            path=path,
            fix="name a Hugging Face folder or hub id",
        ) from None
    if needs_padding or tokenizer.eos_token_id is None:
        check_padding(tokenizer, path, rows)
    if tokenizer.pad_token_id is None or (rows is not None and tokenizer.pad_token_id >= rows):
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_padding(
    tokenizer: PreTrainedTokenizerBase, path: str | Path, embedding_rows: int | None = None
) -> None:
    """Raises InputError without EOS, and where PAD is no token of its own that the embedding knows."""
    if tokenizer.eos_token_id is None:
        raise InputError(
            "the tokenizer has no EOS token", path=path, fix="set eos_token in tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise InputError(
            "the tokenizer's PAD token is missing or is its EOS token",
            path=path,
            field="pad_token",
            fix="give PAD a token of its own that the model knows, such as an unused one of its vocabulary, "
            "in tokenizer_config.json",
        )
    if embedding_rows is not None and tokenizer.pad_token_id >= embedding_rows:
        raise InputError(
            f"the tokenizer's PAD token has the id {tokenizer.pad_token_id}, the model knows those below "
            f"{embedding_rows}",
            path=path,
            field="pad_token",
            fix="name a token that the model has, such as an unused one, or call model.resize_token_embeddings",
        )


def load_causal_lm(path: str | Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A causal language model in evaluation mode. Raises InputError without safetensors weights."""
    return _load(AutoModelForCausalLM, path, dtype)


def seems_whole(path: str | Path) -> bool:
    """Whether a folder's weights have the names and shapes of its causal model, by their headers alone.

    False is a doubt: the library renames and joins the weights of some models when it loads them.
    """
    folder = Path(path).expanduser()
    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        found = weight_shapes(folder)
    except Exception:
        # The folder is a stranger's, and the libraries raise of all kinds: loading says what is wrong.
        return False
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items() if name not in tied}
    return wanted == {name: shape for name, shape in found.items() if name not in tied}


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
    """Token ids of a conversation in the model's own chat template (`chat_text`); with `generation`, ready to answer.

    Without a template the turns are written as plain `User:` / `Assistant:` lines.
    """
    if tokenizer.chat_template:
        text = chat_text(tokenizer, messages, generation=generation)
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
    check_folder(path, with_tokenizer=False)
    settings = {"use_safetensors": True, "trust_remote_code": False, "ignore_mismatched_sizes": True}
    try:
        model, told = kind.from_pretrained(
            str(path), dtype=dtype, output_loading_info=True, **settings, **options
        )
    except MemoryError:
        raise
    except Exception as error:  # the folder is a stranger's, and the libraries raise of all kinds
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


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
