"""What tells a sweep's runs apart in tables and in the names of files."""

from __future__ import annotations

from collections.abc import Sequence

from evals.values.errors import InputError
from harness.keys.typed import text_of

LONGEST_VARIANT = 180  # bytes: a file is named by the method, the variant and an ending, in at most 255


def variants_of(combinations: Sequence[Sequence[str]], overrides: Sequence[str]) -> list[str]:
    """What tells a sweep's runs apart beside the seed, which has a column of its own; "" where nothing does.

    Variants become part of file names: a path is shown by its end, without `/`.
    """
    swept = [[o for o in c if o not in overrides and not o.startswith("seed=")] for c in combinations]
    values: dict[str, list[str]] = {}
    pairs = [[_as_shown(o) for o in settings] for settings in swept]
    for key, value in (pair for one in pairs for pair in one):
        if value not in values.setdefault(key, []):
            values[key].append(value)
    shown = {key: dict(zip(found, _path_ends(found), strict=True)) for key, found in values.items()}
    variants = [",".join(f"{key}={shown[key][value]}" for key, value in one) for one in pairs]
    if longest := next((name for name in variants if len(name.encode()) > LONGEST_VARIANT), None):
        problem = f"the sweep's {longest[:60]!r}... is too long to name files"
        raise InputError(problem, fix="give the swept values shorter names")
    return variants


def _as_shown(override: str) -> tuple[str, str]:
    """Key and value as a person writes them, without the signs and quotes of Hydra's grammar."""
    key, _, value = override.partition("=")
    value = text_of(value)
    return key.lstrip("+"), value.replace("'", "") if value.startswith(("[", "{")) else value


def _path_ends(values: Sequence[str]) -> list[str]:
    """The values, paths cut to as few of their last parts as tell them apart, joined by `-`."""
    paths = [value.strip("'\"").rstrip("/").split("/") if "/" in value else [value] for value in values]
    for parts in range(1, max(map(len, paths)) + 1):
        names = ["-".join(path[-parts:]) for path in paths]
        if len(set(names)) == len(values):
            return names
    return [f"{name}-{place}" for place, name in enumerate(names, 1)]
