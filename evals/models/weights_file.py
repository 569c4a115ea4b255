"""The header of a safetensors file, held against the file: cut, lying or overlapping ones are found unread.

A file is eight bytes (the header's length), a JSON header {tensor: dtype, shape, data_offsets}, then the data,
which the tensors fill without hole or overlap (https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
import struct
from math import prod
from pathlib import Path
from typing import Any

from evals.values.errors import InputError
from evals.values.json_text import parse_json

LONGEST_HEADER = 100_000_000  # bytes, the format's own limit
LFS = b"version https://git-lfs"
BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
AGAIN = "fetch the file again, whole"


def shapes_in(file: Path) -> dict[str, tuple[int, ...]]:
    """{tensor: shape} of one file, of which the header alone is read. Raises InputError where it does not fit."""
    try:
        header, data = _header(file)
        tensors = {name: _extent(name, entry) for name, entry in header.items() if name != "__metadata__"}
        at = 0
        for name, (_, begin, end) in sorted(tensors.items(), key=lambda item: item[1][1:]):
            if begin != at:
                raise ValueError(f"the data of {name!r} begin at byte {begin} where byte {at} is next")
            at = end
        if at != data:
            raise ValueError(f"its header tells of {at} bytes of data, the file has {data}")
    except (ValueError, RecursionError, OSError) as error:
        raise InputError(f"is no whole safetensors file ({_short(error)})", path=file, fix=AGAIN) from None
    return {name: shape for name, (shape, _, _) in tensors.items()}


def _header(file: Path) -> tuple[dict[str, Any], int]:
    """The header, and the bytes of data behind it. Raises ValueError for what is no header."""
    if not file.is_file():
        raise ValueError("no such file")
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(len(LFS))
        if start.startswith(LFS):
            raise ValueError("a pointer of Git LFS, not the file: run `git lfs pull`")
        if len(start) < 8:
            raise ValueError(f"it has {size} bytes")
        (length,) = struct.unpack("<Q", start[:8])
        if length > min(size - 8, LONGEST_HEADER):
            raise ValueError(
                f"its header of {length} bytes goes beyond the file of {size} or the format's limit"
            )
        stream.seek(8)
        header = parse_json(stream.read(length), _once)
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    return header, size - 8 - length


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its header names a tensor twice")
    return found


def _extent(name: str, entry: object) -> tuple[tuple[int, ...], int, int]:
    """(shape, first byte, byte behind the last) of a tensor."""
    if not isinstance(entry, dict) or entry.get("dtype") not in BITS:
        raise ValueError(f"{name!r} has no known dtype")
    shape, offsets = _wholes(entry.get("shape")), _wholes(entry.get("data_offsets"))
    if shape is None or offsets is None or len(offsets) != 2:
        raise ValueError(f"{name!r} has no shape or no place")
    begin, end = offsets
    if (end - begin) * 8 != prod(shape) * BITS[entry["dtype"]]:
        raise ValueError(f"{name!r} of shape {shape} and {entry['dtype']} cannot have {end - begin} bytes")
    return tuple(shape), begin, end


def _wholes(value: object) -> list[int] | None:
    fits = isinstance(value, list) and all(type(number) is int and number >= 0 for number in value)
    return value if fits else None  # type: ignore[return-value]


def _short(error: BaseException) -> str:
    if isinstance(error, RecursionError | UnicodeDecodeError | json.JSONDecodeError):
        return "its header is no JSON"
    return str(error.strerror if isinstance(error, OSError) else error)[:300]
