"""YAML from others, within limits; its mappings remember the line of each key, and refuse a key given twice.

Plain `yaml.safe_load` keeps the last of two equal keys without a word: a rule would vanish. It also fails in a dozen
ways that are no YAMLError, follows aliases that multiply, and recurses as deep as a file is nested.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from evals.values.data_file import MIB, read_text
from evals.values.errors import InputError

MOST_BYTES = 1 * MIB
MOST_NODES = 50_000  # values, keys and lists; what an alias stands for counts each time
DEEPEST = 50  # lists and mappings inside each other
MOST_DIGITS = 40
# What PyYAML's constructors let through where a tag and its text do not fit.
MISFITS = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError)


class LocatedMapping(dict[str, Any]):
    """A mapping of YAML; `lines[key]` is the key's line in the file, counted from 1.

    `written[key]` is how a key that was read as a truth value stands there: `no` for "False".
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}
        self.written: dict[str, str] = {}


def as_written(value: Any) -> Any:
    """The value with its mappings' keys as they stand in the file: `no` and not False."""
    if isinstance(value, dict):
        words = value.written if isinstance(value, LocatedMapping) else {}
        return {words.get(key, key): as_written(inner) for key, inner in value.items()}
    return [as_written(inner) for inner in value] if isinstance(value, list) else value


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str, path: Path) -> None:
        self.path, self.depth, self.nodes = path, 0, 0
        self.weights: dict[str, int] = {}  # nodes behind an anchor
        super().__init__(text)

    def fail(self, problem: str, fix: str, mark: Any) -> InputError:
        return InputError(problem, path=self.path, line=mark.line + 1, fix=fix)

    def compose_node(self, parent: Any, index: Any) -> Any:
        event, before = self.peek_event(), self.nodes
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self.weights:
                raise self.fail(
                    f"the alias *{event.anchor} lies inside what it names", "write it out", event.start_mark
                )
            self.nodes += self.weights.get(str(event.anchor), 0)
        self.depth, self.nodes = self.depth + 1, self.nodes + 1
        if self.depth > DEEPEST:
            raise self.fail(
                f"lists and mappings lie more than {DEEPEST} deep inside each other",
                "write it flat",
                event.start_mark,
            )
        if self.nodes > MOST_NODES:
            problem = f"the file has more than {MOST_NODES} values, aliases written out"
            raise self.fail(problem, "see whether it is the right file, or shorten it", event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if event.anchor is not None and not isinstance(event, yaml.AliasEvent):
            self.weights[event.anchor] = self.nodes - before
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            self._check_scalar(node, value)
        except (yaml.YAMLError, InputError):
            raise
        except MISFITS:
            shown = repr(node.value[:40]) if isinstance(node, yaml.ScalarNode) else f"a {node.id}"
            problem = f"{shown} is no {node.tag.rpartition(':')[2]}"
            raise self.fail(problem, "mend it, or put it in quotes", node.start_mark) from None
        return value

    def _check_scalar(self, node: Any, value: Any) -> None:
        if isinstance(value, str) and not value.isascii():
            value.encode()  # half of a surrogate pair is no character
        if isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
            raise OverflowError
        if isinstance(value, float) and math.isinf(value) and "inf" not in node.value.lower():
            raise OverflowError


def _construct(loader: _Loader, node: yaml.MappingNode) -> LocatedMapping:
    loader.flatten_mapping(node)
    mapping = LocatedMapping()
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise loader.fail("a key is not a word", "write 'key: value'", key_node.start_mark)
        read, line = loader.construct_object(key_node, deep=True), key_node.start_mark.line + 1
        key = str(read)
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
        if isinstance(read, bool):
            mapping.written[key] = key_node.value
    return mapping


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct)


def load_located_yaml(path: Path | str) -> LocatedMapping:
    """Read one YAML mapping. Raises InputError, with the line where there is one, also beyond the limits above."""
    path = Path(path)
    text = read_text(path, MOST_BYTES)
    try:
        content = _content(text, path)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise InputError(
            f"malformed YAML ({getattr(error, 'problem', None) or error})",
            path=path,
            line=mark.line + 1 if mark else None,
            fix="mend the line",
        ) from None
    if not isinstance(content, LocatedMapping):
        raise InputError("the file is not a mapping of keys", path=path, fix="write 'key: value' lines")
    return content


def _content(text: str, path: Path) -> object:
    loader = _Loader(text, path)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
