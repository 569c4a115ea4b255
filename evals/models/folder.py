"""A model's folder, looked at before any library reads it: in milliseconds, without torch.

Whoever is given a model by path asks here first, so that a folder that cannot be loaded is one line before
anything is computed or written. What is held against the model itself stays to loading (`load.check_loaded`).
"""

from __future__ import annotations

from pathlib import Path

from evals.models.config_file import CONFIG, check_config, check_values
from evals.models.folder_file import json_object, refuse
from evals.models.tokenizer_files import check_tokenizer
from evals.models.weights_file import shapes_in
from evals.values.ranges import NOT_NEGATIVE, POSITIVE, SHARE, whole

GENERATION, ADAPTER = "generation_config.json", "adapter_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
BESIDE = "adapter"  # inside a model's folder: the folder of the adapter that is folded into the model
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")

DECODING = {
    **dict.fromkeys(("temperature",), NOT_NEGATIVE),
    **dict.fromkeys(("top_p", "min_p", "typical_p"), SHARE),
    **dict.fromkeys(("top_k",), whole(0)),
    **dict.fromkeys(("repetition_penalty",), POSITIVE),
    **dict.fromkeys(("max_length", "max_new_tokens", "num_beams", "num_return_sequences"), whole(1)),
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
        check_values(json_object(folder / GENERATION), DECODING, folder / GENERATION)
    _check_weights(folder, adapter)
    check_tokenizer(folder, needed=with_tokenizer and not adapter)


def _check_weights(folder: Path, adapter: bool) -> None:
    files = _weight_files(folder, adapter)
    tensors = {file.name: shapes_in(file) for file in files}
    if adapter:
        return
    if (folder / INDEX).exists() and not (folder / WEIGHTS).exists():
        for name, place in json_object(folder / INDEX)["weight_map"].items():
            if name not in tensors[place]:
                refuse(
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
        places = json_object(folder / INDEX).get("weight_map")
        # A name with a folder in it would read what lies outside the model.
        if not isinstance(places, dict) or not places or not all(_is_name(p) for p in places.values()):
            refuse(folder / INDEX, "is no map of tensors to files", "weight_map", "restore the index")
        return [folder / name for name in sorted(set(places.values()))]
    if any(folder.glob("*.safetensors")):
        return sorted(folder.glob("*.safetensors"))
    pickled = [file for pattern in PICKLED for file in folder.glob(pattern)]
    if pickled:
        refuse(
            folder,
            f"the folder has pickled weights only ({pickled[0].name})",
            None,
            "convert them to safetensors; pickles can run code and are never loaded",
        )
    refuse(folder, "the folder has no weights", None, "add model.safetensors")


def _is_name(place: object) -> bool:
    return isinstance(place, str) and place.endswith(".safetensors") and Path(place).name == place
