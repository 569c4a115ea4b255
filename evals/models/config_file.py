"""A model's config.json, looked at before any library reads it: values that no model can have, unknown kinds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from evals.models.folder_file import TOKEN_ID, json_object, refuse, shown
from evals.values.ranges import NOT_NEGATIVE, POSITIVE, SHARE, Range, whole

CONFIG = "config.json"

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


def check_config(file: Path) -> Mapping[str, Any]:
    """The configuration. Raises InputError for values that no model can have."""
    config = json_object(file)
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        refuse(file, "names no kind of model", "model_type", "restore the model's config.json")
    if not is_known_kind(kind):
        own = "needs code of its own, which is never run" if config.get("auto_map") else "is unknown"
        refuse(
            file, f"{own}: {kind!r}", "model_type", "take a model that transformers has, or a newer one of it"
        )
    for part in (config, *(v for k, v in config.items() if k.endswith("_config") and isinstance(v, dict))):
        check_values(part, SIZES | NUMBERS, file)
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
    config = json_object(file) if file.is_file() else {}
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        for name in names:
            if type(part.get(name)) is int:
                return int(part[name])
    return None


def check_values(part: Mapping[str, Any], table: Mapping[str, Range], file: Path) -> None:
    for name, allowed in table.items():
        value = part.get(name)
        for one in value if isinstance(value, list) else [value]:  # some models have a number a layer
            if one is not None and one not in allowed:
                refuse(file, f"is {shown(one)}", name, f"give {allowed.wanted}")
    for name in TOKEN_IDS:
        value = part.get(name)
        for one in value if isinstance(value, list) else [value]:
            if one is not None and (one not in TOKEN_ID and one != -1):  # -1 stands for none
                refuse(file, f"is {shown(one)}, no token's id", name, "give a whole number of 0 or more")
    for name in SWITCHES:
        if part.get(name) is not None and not isinstance(part[name], bool):
            refuse(file, f"is {shown(part[name])}", name, "write true or false")


def _check_heads(part: Mapping[str, Any], file: Path) -> None:
    heads, groups = part.get("num_attention_heads"), part.get("num_key_value_heads")
    if type(heads) is int and type(groups) is int and heads % groups:
        refuse(
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
        refuse(file, f"is {shown(rope)}, no mapping", name, "restore the model's config.json")
    for key, value in rope.items():
        if isinstance(value, dict):
            _check_rope(value, file, f"{name}.{key}")
        elif key in ("rope_type", "type") and value not in ROPE_TYPES:
            known = ", ".join(sorted(ROPE_TYPES - {"su", "mrope"}))
            refuse(
                file,
                f"is {shown(value)}, an unknown kind of rotary embedding",
                f"{name}.{key}",
                f"take one of {known}",
            )
        elif key in ("factor", "rope_theta") and value is not None and value not in POSITIVE:
            refuse(file, f"is {shown(value)}", f"{name}.{key}", f"give {POSITIVE.wanted}")


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
        refuse(file, "names no way to quantise", "quantization_config.quant_method", "restore config.json")
    whole_model = "take the model's weights before they were quantised"
    if method not in QUANTISED:
        refuse(file, f"{method[:40]!r} is not supported", "quantization_config.quant_method", whole_model)
    modules = QUANTISED[method]
    if not any(map(_is_installed, modules)):
        refuse(
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


def is_known_kind(kind: str) -> bool:
    if not _known_kinds() or kind in _known_kinds():
        return True
    import sys

    # A program may have registered a kind of its own.
    auto = sys.modules.get("transformers.models.auto.configuration_auto")
    return auto is not None and kind in auto.CONFIG_MAPPING
