"""YAML whose mappings remember the line of each key, and refuse a key given twice.

Plain `yaml.safe_load` keeps the last of two equal keys without a word: a rule would vanish.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from evals.values.errors import InputError


class LocatedMapping(dict[str, Any]):
    """A mapping of YAML; `lines[key]` is the key's line in the file, counted from 1."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


class _Loader(yaml.SafeLoader):
    path: Path


def _construct(loader: _Loader, node: yaml.MappingNode) -> LocatedMapping:
    loader.flatten_mapping(node)
    mapping = LocatedMapping()
    for key_node, value_node in node.value:
        key, line = str(loader.construct_object(key_node, deep=True)), key_node.start_mark.line + 1
        if key in mapping:
            raise InputError(
                f"'{key}' is given twice, first on line {mapping.lines[key]}",
                path=loader.path,
                line=line,
                field=key,
                fix="remove or rename one of the two",
            )
        mapping[key] = loader.construct_object(value_node, deep=True)
        mapping.lines[key] = line
    return mapping


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct)


def load_located_yaml(path: Path | str) -> LocatedMapping:
    """Read one YAML mapping. Raises InputError, with the line where there is one."""
    path = Path(path)
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            f"cannot be read ({error})", path=path, fix="check the path and the encoding (UTF-8)"
        ) from None
    loader.path = path
    try:
        content = loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise InputError(
            f"malformed YAML ({getattr(error, 'problem', None) or error})",
            path=path,
            line=mark.line + 1 if mark else None,
            fix="mend the line",
        ) from None
    finally:
        loader.dispose()
    if not isinstance(content, LocatedMapping):
        raise InputError("the file is not a mapping of keys", path=path, fix="write 'key: value' lines")
    return content
