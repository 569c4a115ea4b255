"""A model's folder, looked at before any library reads it: in milliseconds, without torch.

Whoever is given a model by path asks here first, so that a folder that cannot be loaded is one line before
anything is computed or written. What is held against the model itself stays to loading (`load.check_loaded`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from evals.models.weights_file import LFS, shapes_in
from evals.values.errors import InputError
from evals.values.json_text import parse_json
from evals.values.ranges import NOT_NEGATIVE, POSITIVE, SHARE, Range, whole

CONFIG, GENERATION, ADAPTER = "config.json", "generation_config.json", "adapter_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    "vocab.json",
)
BESIDE = "adapter"  # inside a model's folder: the folder of the adapter that is folded into the model
LARGEST_JSON = 500_000_000  # bytes
TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model", "*.tiktoken", "*.spm", "tekken.json")
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")

_COUNT, _BIG = whole(1, 100_000), whole(1, 2**31 - 1)
SIZES = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), _COUNT),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_head", "n_heads", "num_heads"), _COUNT),
    **dict.fromkeys(
        ("hidden_size", "n_embd", "d_model", "dim", "head_dim", "embedding_size"), whole(1, 10**7)
    ),
    **dict.fromkeys(
        ("intermediate_size", "ffn_dim", "max_position_embeddings", "n_positions", "n_ctx"), _BIG
    ),
    **dict.fromkeys(("vocab_size", "num_labels"), _BIG),
}
NUMBERS = {
    **dict.fromkeys(
        ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "rope_theta"), POSITIVE
    ),
    **dict.fromkeys(("initializer_range",), NOT_NEGATIVE),
    **dict.fromkeys(("attention_dropout", "hidden_dropout_prob", "resid_pdrop", "embd_pdrop"), SHARE),
}
DECODING = {
    **dict.fromkeys(("temperature",), NOT_NEGATIVE),
    **dict.fromkeys(("top_p", "min_p", "typical_p"), SHARE),
    **dict.fromkeys(("top_k",), whole(0)),
    **dict.fromkeys(("repetition_penalty",), POSITIVE),
    **dict.fromkeys(("max_length", "max_new_tokens", "num_beams", "num_return_sequences"), whole(1)),
}
TOKEN_IDS = ("pad_token_id", "bos_token_id", "eos_token_id")
SWITCHES = ("tie_word_embeddings", "use_cache", "do_sample")
ROPE_TYPES = {"default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional", "su", "mrope"}
# Each way to quantise, and the modules of which one must be there.
QUANTISED = {
    "bitsandbytes": ("bitsandbytes",),
    "gptq": ("gptqmodel",),
    "awq": ("gptqmodel",),
    "compressed-tensors": ("compressed_tensors",),
    "aqlm": ("aqlm",),
    "quanto": ("optimum.quanto",),
    "hqq": ("hqq",),
    "eetq": ("eetq",),
    "torchao": ("torchao",),
    "mxfp4": ("kernels",),
}


def check_folder(path: str | Path, *, with_tokenizer: bool = True) -> None:
    """Raises InputError, one line, for a folder that no model can be loaded from. A hub name is left alone."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return
    adapter = (folder / ADAPTER).is_file()
    if not adapter or (folder / CONFIG).exists():
        check_config(folder / CONFIG)
    if (folder / GENERATION).exists():
        _check_values(_json(folder / GENERATION), DECODING, folder / GENERATION)
    _check_weights(folder, adapter)
    check_tokenizer(folder, needed=with_tokenizer and not adapter)


def check_config(file: Path) -> Mapping[str, Any]:
    """The configuration. Raises InputError for values that no model can have."""
    config = _json(file)
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        _refuse(file, "names no kind of model", "model_type", "restore the model's config.json")
    if not _is_known(kind):
        own = "needs code of its own, which is never run" if config.get("auto_map") else "is unknown"
        _refuse(
            file, f"{own}: {kind!r}", "model_type", "take a model that transformers has, or a newer one of it"
        )
    for part in (config, *(v for k, v in config.items() if k.endswith("_config") and isinstance(v, dict))):
        _check_values(part, SIZES | NUMBERS, file)
        _check_heads(part, file)
        for name in ("rope_scaling", "rope_parameters"):
            _check_rope(part.get(name), file, name)
    _check_quantisation(config.get("quantization_config"), file)
    return config


def embedding_rows(path: str | Path) -> int | None:
    """How many tokens the model's embedding knows, by its configuration; None where that is not said."""
    return _said(path, "vocab_size")


def context_of(path: str | Path) -> int | None:
    """How many tokens the model in a folder takes, by its configuration; None where that is not said."""
    return _said(path, "max_position_embeddings", "n_positions")


def _said(path: str | Path, *names: str) -> int | None:
    """The first whole number of these names, in the configuration or in that of its text model."""
    file = Path(path).expanduser() / CONFIG
    config = _json(file) if file.is_file() else {}
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        for name in names:
            if type(part.get(name)) is int:
                return int(part[name])
    return None


def check_tokenizer(folder: Path, *, needed: bool = True) -> None:
    """Raises InputError for a tokenizer's files that hold nonsense, and where there are none."""
    if needed and not any(any(folder.glob(pattern)) for pattern in TOKENIZERS):
        _refuse(folder, "the folder has no tokenizer", None, "add tokenizer.json and tokenizer_config.json")
    for name in TOKENIZER_FILES:
        if (folder / name).exists():
            _check_tokenizer_file(folder / name, _json(folder / name))


def _check_tokenizer_file(file: Path, found: Mapping[str, Any]) -> None:
    again = "restore the tokenizer's files"
    if file.name == "tokenizer.json":
        if not isinstance(found.get("model"), dict):
            _refuse(file, "is no tokenizer", "model", again)
        _check_added(found.get("added_tokens"), file)
    if file.name in ("added_tokens.json", "vocab.json"):
        for token, index in found.items():
            if index not in _ID:
                _refuse(file, f"gives {token[:40]!r} the id {_shown(index)}", None, again)
    if file.name in ("tokenizer_config.json", "special_tokens_map.json"):
        for mark in ("pad_token", "bos_token", "eos_token", "unk_token"):
            written = found.get(mark)
            written = written.get("content", 0) if isinstance(written, dict) else written
            if written is not None and not isinstance(written, str):
                _refuse(file, f"is {_shown(written)}, no token", mark, again)
        longest = found.get("model_max_length")
        if longest is not None and longest not in POSITIVE:
            _refuse(file, f"is {_shown(longest)}", "model_max_length", "give the context in tokens")
        template = found.get("chat_template")
        if template is not None and not isinstance(template, str | list | dict):
            _refuse(file, f"is {_shown(template)}, no template", "chat_template", again)


_ID = whole(0, 2**31 - 1)


def _check_added(tokens: object, file: Path) -> None:
    fits = tokens is None or (
        isinstance(tokens, list)
        and all(
            isinstance(t, dict) and t.get("id") in _ID and isinstance(t.get("content"), str) for t in tokens
        )
    )
    if not fits:
        _refuse(
            file, "holds something without id and content", "added_tokens", "restore the tokenizer's files"
        )


def _check_values(part: Mapping[str, Any], table: Mapping[str, Range], file: Path) -> None:
    for name, allowed in table.items():
        value = part.get(name)
        for one in value if isinstance(value, list) else [value]:  # some models have a number a layer
            if one is not None and one not in allowed:
                _refuse(file, f"is {_shown(one)}", name, f"give {allowed.wanted}")
    for name in TOKEN_IDS:
        value = part.get(name)
        for one in value if isinstance(value, list) else [value]:
            if one is not None and (one not in _ID and one != -1):  # -1 stands for none
                _refuse(file, f"is {_shown(one)}, no token's id", name, "give a whole number of 0 or more")
    for name in SWITCHES:
        if part.get(name) is not None and not isinstance(part[name], bool):
            _refuse(file, f"is {_shown(part[name])}", name, "write true or false")


def _check_heads(part: Mapping[str, Any], file: Path) -> None:
    heads, groups = part.get("num_attention_heads"), part.get("num_key_value_heads")
    if type(heads) is int and type(groups) is int and heads % groups:
        _refuse(
            file,
            f"is {groups}, and {heads} heads are no multiple of it",
            "num_key_value_heads",
            "mend the two",
        )


def _check_rope(rope: object, file: Path, name: str) -> None:
    """Rotary embeddings; some models have one mapping a kind of layer."""
    if rope is None:
        return
    if not isinstance(rope, dict):
        _refuse(file, f"is {_shown(rope)}, no mapping", name, "restore the model's config.json")
    for key, value in rope.items():
        if isinstance(value, dict):
            _check_rope(value, file, f"{name}.{key}")
        elif key in ("rope_type", "type") and value not in ROPE_TYPES:
            known = ", ".join(sorted(ROPE_TYPES - {"su", "mrope"}))
            _refuse(
                file,
                f"is {_shown(value)}, an unknown kind of rotary embedding",
                f"{name}.{key}",
                f"take one of {known}",
            )
        elif key in ("factor", "rope_theta") and value is not None and value not in POSITIVE:
            _refuse(file, f"is {_shown(value)}", f"{name}.{key}", f"give {POSITIVE.wanted}")


def _check_quantisation(settings: object, file: Path) -> None:
    if settings is None:
        return
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    if (
        isinstance(settings, dict)
        and method is None
        and (settings.get("load_in_4bit") or settings.get("load_in_8bit"))
    ):
        method = "bitsandbytes"
    if not isinstance(method, str):
        _refuse(file, "names no way to quantise", "quantization_config.quant_method", "restore config.json")
    whole_model = "take the model's weights before they were quantised"
    if method not in QUANTISED:
        _refuse(file, f"{method[:40]!r} is not supported", "quantization_config.quant_method", whole_model)
    modules = QUANTISED[method]
    if not any(map(_is_installed, modules)):
        _refuse(
            file,
            f"the weights are quantised by {method}, and {modules[0]} is not installed",
            "quantization_config.quant_method",
            f"{whole_model}, or pip install {modules[0].replace('_', '-').replace('.', '-')}",
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _check_weights(folder: Path, adapter: bool) -> None:
    files = _weight_files(folder, adapter)
    tensors = {file.name: shapes_in(file) for file in files}
    if adapter:
        return
    if (folder / INDEX).exists() and not (folder / WEIGHTS).exists():
        for name, place in _json(folder / INDEX)["weight_map"].items():
            if name not in tensors[place]:
                _refuse(
                    folder / INDEX,
                    f"names {name!r}, which {place} has not",
                    "weight_map",
                    "fetch the shards again",
                )


def weight_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """{tensor: shape} of all files of weights, of which the headers are read. Raises InputError for damaged ones."""
    files = _weight_files(folder, (folder / ADAPTER).is_file())
    return {name: shape for file in files for name, shape in shapes_in(file).items()}


def _weight_files(folder: Path, adapter: bool) -> list[Path]:
    """The files that transformers reads the weights from."""
    if adapter:
        return [file for file in [folder / "adapter_model.safetensors"] if file.exists()]
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if (folder / INDEX).exists():
        places = _json(folder / INDEX).get("weight_map")
        # A name with a folder in it would read what lies outside the model.
        if not isinstance(places, dict) or not places or not all(_is_name(p) for p in places.values()):
            _refuse(folder / INDEX, "is no map of tensors to files", "weight_map", "restore the index")
        return [folder / name for name in sorted(set(places.values()))]
    if any(folder.glob("*.safetensors")):
        return sorted(folder.glob("*.safetensors"))
    pickled = [file for pattern in PICKLED for file in folder.glob(pattern)]
    if pickled:
        _refuse(
            folder,
            f"the folder has pickled weights only ({pickled[0].name})",
            None,
            "convert them to safetensors; pickles can run code and are never loaded",
        )
    _refuse(folder, "the folder has no weights", None, "add model.safetensors")


def _is_name(place: object) -> bool:
    return isinstance(place, str) and place.endswith(".safetensors") and Path(place).name == place


@cache
def _known_kinds() -> frozenset[str]:
    """The kinds of model that transformers lists, read as text: to import it takes seconds."""
    spec = find_spec("transformers")
    folder = Path(str(spec.origin)).parent / "models" / "auto" if spec else Path()
    text = "".join(
        (folder / name).read_text(encoding="utf-8")
        for name in ("auto_mappings.py", "configuration_auto.py")
        if (folder / name).is_file()
    )
    return frozenset(re.findall(r'\("([\w.-]+)", "\w+Config"\)', text))


def _is_known(kind: str) -> bool:
    if not _known_kinds() or kind in _known_kinds():
        return True
    import sys

    # A program may have registered a kind of its own.
    auto = sys.modules.get("transformers.models.auto.configuration_auto")
    return auto is not None and kind in auto.CONFIG_MAPPING


def _json(file: Path) -> dict[str, Any]:
    """A JSON object. Raises InputError for anything else, pipes, devices and pointers of Git LFS among it."""
    try:
        if not file.is_file():
            raise ValueError("no such file" if not file.exists() else "no plain file")
        if file.stat().st_size > LARGEST_JSON:
            raise ValueError(f"more than {LARGEST_JSON} bytes")
        content = file.read_bytes()
        if content.startswith(LFS):
            raise ValueError("a pointer of Git LFS, not the file: run `git lfs pull`")
        found = parse_json(content)
        if not isinstance(found, dict):
            raise ValueError(f"a {type(found).__name__}")
    except (ValueError, RecursionError, OSError) as error:
        reason = str(error)
        if isinstance(error, OSError):
            reason = str(error.strerror)
        elif (
            isinstance(error, RecursionError | UnicodeDecodeError | json.JSONDecodeError)
            or "digits" in reason
        ):
            reason = "cut, or no JSON"
        _refuse(file, f"is not a JSON object ({reason})", None, "fetch the file again, whole")
    return found


def _refuse(path: Path, problem: str, field: str | None, fix: str) -> NoReturn:
    raise InputError(problem, path=path, field=field, fix=fix)


def _shown(value: object) -> str:
    text = "a whole number of many digits" if type(value) is int and value.bit_length() > 300 else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
