"""The files of a model's tokenizer, looked at before any library reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evals.models.folder_file import TOKEN_ID, json_object, refuse, shown
from evals.values.ranges import POSITIVE

TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    "vocab.json",
)
TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model", "*.tiktoken", "*.spm", "tekken.json")


def check_tokenizer(folder: Path, *, needed: bool = True) -> None:
    """Raises InputError for a tokenizer's files that hold nonsense, and where there are none."""
    if needed and not any(any(folder.glob(pattern)) for pattern in TOKENIZERS):
        refuse(folder, "the folder has no tokenizer", None, "add tokenizer.json and tokenizer_config.json")
    for name in TOKENIZER_FILES:
        if (folder / name).exists():
            _check_tokenizer_file(folder / name, json_object(folder / name))


def _check_tokenizer_file(file: Path, found: Mapping[str, Any]) -> None:
    again = "restore the tokenizer's files"
    if file.name == "tokenizer.json":
        if not isinstance(found.get("model"), dict):
            refuse(file, "is no tokenizer", "model", again)
        _check_added(found.get("added_tokens"), file)
    if file.name in ("added_tokens.json", "vocab.json"):
        for token, index in found.items():
            if index not in TOKEN_ID:
                refuse(file, f"gives {token[:40]!r} the id {shown(index)}", None, again)
    if file.name in ("tokenizer_config.json", "special_tokens_map.json"):
        for mark in ("pad_token", "bos_token", "eos_token", "unk_token"):
            written = found.get(mark)
            written = written.get("content", 0) if isinstance(written, dict) else written
            if written is not None and not isinstance(written, str):
                refuse(file, f"is {shown(written)}, no token", mark, again)
        longest = found.get("model_max_length")
        if longest is not None and longest not in POSITIVE:
            refuse(file, f"is {shown(longest)}", "model_max_length", "give the context in tokens")
        template = found.get("chat_template")
        if template is not None and not isinstance(template, str | list | dict):
            refuse(file, f"is {shown(template)}, no template", "chat_template", again)


def _check_added(tokens: object, file: Path) -> None:
    fits = tokens is None or (
        isinstance(tokens, list)
        and all(
            isinstance(t, dict) and t.get("id") in TOKEN_ID and isinstance(t.get("content"), str)
            for t in tokens
        )
    )
    if not fits:
        refuse(
            file, "holds something without id and content", "added_tokens", "restore the tokenizer's files"
        )
