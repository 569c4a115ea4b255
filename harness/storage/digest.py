"""Digests that name a configuration or a set of files by what they hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from math import isfinite
from pathlib import Path, PurePath
from typing import Any

from evals.values.errors import InputError
from evals.values.json_text import read_json_object

BLOCK = 1 << 20  # bytes
ADAPTER = "adapter_config.json"  # of a folder that holds an adapter, not a whole model
BASE = "base_model_name_or_path"  # of such a configuration
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken")


def digest(config: object) -> str:
    """16 hexadecimal digits of a config's canonical JSON (SHA-256). Raises TypeError as `canonical` does."""
    text = json.dumps(canonical(config), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_files(paths: Iterable[Path | str]) -> str:
    """16 hexadecimal digits of files' contents, and of their names inside the folders among `paths`.

    For a config that names files: their contents decide, not where they lie. Raises InputError.
    """
    total = hashlib.sha256()
    for path in map(Path, paths):
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            name = file.relative_to(path).as_posix()
            total.update(f"{name}\0{file_digest(file)}\0".encode())
    return total.hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits. Raises InputError."""
    total = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(BLOCK):
                total.update(block)
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise InputError(problem, path=path, fix="name an existing file or folder") from None
    return total.hexdigest()


def model_files(folder: Path) -> list[Path]:
    """What a model in Hugging Face format is made of: weights, configuration, tokenizer, chat template."""
    return sorted({file for pattern in MODEL_FILES for file in folder.glob(pattern)})


def digest_model(folder: Path) -> str:
    """16 hexadecimal digits of a model's files: the same model in another folder is the same model.

    An adapter is the model that its base makes it: the base's files count, and not where they lie.
    """
    files: dict[str, object] = {file.name: digest_files([file]) for file in model_files(folder)}
    base = _base_of_adapter(folder)
    if base is None:
        return digest(files)
    said = {k: v for k, v in read_json_object(folder / ADAPTER).items() if k != BASE}
    return digest(files | {ADAPTER: said, "base": digest_model(base)})


def _base_of_adapter(folder: Path) -> Path | None:
    """The local folder of the model that an adapter belongs to; None where there is none here."""
    try:
        named = read_json_object(folder / ADAPTER).get(BASE)
    except InputError:
        return None
    base = Path(str(named))
    return base if named and base.is_dir() and base.resolve() != folder.resolve() else None


def canonical(value: object) -> Any:
    """JSON values that are equal exactly when two settings mean the same.

    Enums become their values, paths strings, tuples lists, sets sorted lists, whole floats
    integers (1.0 and 1 are one setting), numpy values plain ones; a dataclass becomes a mapping
    that also names its class. Raises TypeError for anything else.
    """
    return _plain(value, _setting)


def figures(value: object) -> Any:
    """JSON values of what was measured: as `canonical`, but floats stay floats and NaN becomes None."""
    return _plain(value, _figure)


def _setting(number: float) -> object:
    if not isfinite(number):
        return {"float": repr(number)}
    return int(number) if number.is_integer() else number


def _figure(number: float) -> object:
    return number if isfinite(number) else None  # JSON has no NaN, and an unscored figure is not 0


def _plain(value: object, number: Callable[[float], object]) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value, number)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return number(value)
    if isinstance(value, PurePath):
        return value.as_posix()
    if is_dataclass(value) and not isinstance(value, type):
        items = {f.name: _plain(getattr(value, f.name), number) for f in fields(value)}
        return {"is": type(value).__name__, **items}
    if isinstance(value, Mapping):
        return {str(_plain(name, number)): _plain(item, number) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, number) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(item, number) for item in value), key=repr)
    import numpy as np  # not for settings, which have no array

    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist(), number)
    raise TypeError(f"a {type(value).__name__} has no canonical form: {value!r}")
