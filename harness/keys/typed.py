"""`KEY=VALUE` as a person typed it: names, paths and lists of them are taken as they stand.

Hydra's grammar reads numbers, choices and sweeps. It would refuse `responses=k=v/r.csv`, make `name=1e3` 1000.0, and
part the name of a model at its dots.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from evals.values.errors import InputError
from evals.values.json_text import parse_json

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

QUOTES = "'\""
PAIRS = {"[": "]", "{": "}", "(": ")"}
QUOTED = "where it is part of a name, write the whole name in quotes of its own, KEY=\"'NAME'\""
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
TYPED = "rbrbench.typed"  # a resolver of OmegaConf
WORDS = {"null": None, "true": True, "false": False}
FUNCTIONS = re.compile(r"(choice|range|interval|glob|sort|shuffle)\(.*\)", re.DOTALL)  # of Hydra's sweeps


def text_of(value: str) -> str:
    """A value as typed; one that stands in quotes as a whole, as Hydra reads it."""
    if len(value) > 1 and value[0] in QUOTES and value[0] == value[-1]:
        read = parsed(f"k={value}")
        if read is not None and is_quoted(read):
            return str(read._value.text)  # type: ignore[union-attr]
    return value


def quoted(text: str) -> str:
    """`text` as Hydra's grammar, and OmegaConf's after it, give it back unchanged."""
    inner = re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + (r"\'" if m[2] else ""), escaped(text))
    return f"'{inner}'"


def escaped(value: Any) -> Any:
    """Texts, also those inside, in which OmegaConf finds no reference to another key."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + r"\${", value)
    if isinstance(value, dict):
        return {key: escaped(part) for key, part in value.items()}
    return [escaped(part) for part in value] if isinstance(value, list) else value


def hydra_override(override: str, hints: Mapping[str, Any]) -> str:
    """An override as Hydra must be told it; `hints` are the types of all keys. Raises InputError."""
    key, equals, value = override.partition("=")
    bare = key.lstrip("+")
    if bare.startswith("~") and any(name == bare[1:] or name.startswith(f"{bare[1:]}.") for name in hints):
        raise InputError("cannot be left out", field=bare[1:], fix=f"give it a value: {bare[1:]}=VALUE")
    if not equals:
        if override.startswith("~"):
            return override
        flags = "`rbrbench run` alone has Hydra's flags; " if override.startswith("-") else ""
        raise InputError(f"{override!r} is no setting", fix=f"{flags}write KEY=VALUE; --help lists every key")
    if bare in hints and (written := _written(bare, hints[bare], value)) is not None:
        return f"{key}={written}"
    if parsed(override) is None:
        known = re.fullmatch(r"[\w./@-]+", bare)
        problem = f"is {value!r}" if known else "no such key"
        open_end = known and value != value.strip(",")
        fix = (
            "write several values without blanks, KEY=1,2"
            if open_end
            else "--help lists every key with its type"
        )
        raise InputError(problem, field=bare, fix=fix)
    return override


def is_free(hint: Any) -> bool:
    """Whether a type is a list of anything: texts, numbers, lists and groups, one inside another."""
    return get_origin(hint) is list and get_args(hint) == (Any,)


def free_value(value: str, key: str) -> Any:
    """What was typed for such a list, texts as they stand. Raises InputError for brackets without their other half."""
    if value.startswith("["):
        return [free_value(part, key) for part in _inside(value, "[]", key, f"{key}=[NAME,...]")]
    if value.startswith("{"):
        pairs = [_pair(part) for part in _inside(value, "{}", key, "{KEY: VALUE, ...}")]
        if lacking := next((k for k, colon, _ in pairs if not colon), None):
            raise InputError(f"{lacking.strip()!r} has no value", field=key, fix="write {KEY: VALUE, ...}")
        return {text_of(k.strip()): free_value(v.strip(), key) for k, _, v in pairs}
    if value.lower() in WORDS:
        return WORDS[value.lower()]
    if NUMBER.fullmatch(value):
        return int(value) if value.lstrip("+-").isdigit() else float(value)
    return text_of(value)


def _written(key: str, hint: Any, value: str) -> str | None:
    """A text, or a list of texts, in Hydra's grammar; None for a key of another type."""
    if is_text(hint):
        return "null" if value == "null" and hint is not str else quoted(text_of(value))
    if get_origin(hint) is not list:
        return None
    (kind,) = get_args(hint)
    if not (is_text(kind) or is_dataclass(kind)):
        return None
    shape = f"{key}=[NAME,...]" if is_text(kind) else f"{key}=[{{KEY: VALUE, ...}}, ...]"
    parts = _inside(value, "[]", key, shape)
    if is_text(kind):
        return f"[{','.join(quoted(text_of(part)) for part in parts)}]"
    groups = []
    for part in parts:
        pairs = [_pair(inner) for inner in _inside(part, "{}", key, shape)]
        groups.append(",".join(f"{k.strip()}: {_of_group(v.strip())}" for k, _, v in pairs))
    return f"[{','.join(f'{{{group}}}' for group in groups)}]"


def _pair(part: str) -> tuple[str, str, str]:
    """Key, colon and value of a group's member; a colon inside the quotes of the key is the key's."""
    found = re.match(r"""\s*(?:'(?:\\.|[^\\'])*'|"(?:\\.|[^\\"])*")\s*(?=:)""", part, re.DOTALL)
    if found is None:
        return part.partition(":")
    return found[0], ":", part[found.end() + 1 :]


def _of_group(value: str) -> str:
    return value if value == "null" else quoted(text_of(value))


def _inside(value: str, ends: str, key: str, shape: str) -> list[str]:
    """The members of a list or group. Raises InputError for what is none."""
    value = value.strip()
    if len(value) < 2 or (value[0], value[-1]) != tuple(ends):
        raise InputError(f"is {value!r}", field=key, fix=f"write {shape}")
    inner = value[1:-1]
    if not inner.strip():
        return []
    parts = at_commas(inner)
    if parts is None:
        raise InputError(f"{value!r} has a bracket or a quote without its other half", field=key, fix=QUOTED)
    return [part.strip() for part in parts]


def at_commas(text: str) -> list[str] | None:
    """`text` cut at the commas outside brackets and quotes; None where one of these stands alone.

    A quote opens at the start of a part, or of a value in it; `it's` has none.
    """
    parts, start, closing = [], 0, []
    position = 0
    while position < len(text):
        character = text[position]
        if character in QUOTES and (
            not text[start:position].strip() or text[:position].rstrip()[-1:] in ":=[{,("
        ):
            end = re.compile(rf"(?:\\.|[^\\{character}])*{character}", re.DOTALL).match(text, position + 1)
            if end is None:
                return None
            position = end.end()
            continue
        if character in PAIRS:
            closing.append(PAIRS[character])
        elif character in PAIRS.values():
            if not closing or closing.pop() != character:
                return None
        elif character == "," and not closing:
            parts.append(text[start:position])
            start = position + 1
        position += 1
    return None if closing else [*parts, text[start:]]


def swept(value: str, key: str) -> list[str]:
    """The values of a sweep as typed, `a,b`, or the one value that it is.

    Raises InputError for a bracket or a quote without its other half.
    """
    parts = at_commas(value)
    if parts is None:
        problem = f"{value!r} has a bracket or a quote without its other half"
        raise InputError(problem, field=key, fix=QUOTED)
    return [part.strip() for part in parts] if len(parts) > 1 else [value]


def written(value: Any) -> str:
    """A value in Hydra's grammar, which gives back what it was: texts, numbers, lists and groups of them."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{_key(key)}: {written(part)}' for key, part in value.items())}}}"
    return "null" if value is None else str(value).lower()


def override_value(value: Any) -> str:
    """As `written`. What holds a name that can be no key of the grammar, 模型 or 1e3 say, refers to itself in JSON."""
    text = written(value)
    read = parsed(f"k={text}")
    if read is not None and read.value() == escaped(value):
        return text
    return f"'${{{TYPED}:x{json.dumps(escaped(value)).encode().hex()}}}'"


def resolve_references() -> None:
    """From now on OmegaConf knows what `override_value` refers to: to be called before anything is composed."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver(TYPED, lambda code: parse_json(bytes.fromhex(code[1:])), replace=True)


def _key(key: object) -> str:
    return re.sub(r"([\\()\[\]{}:=, \t])", r"\\\1", str(key))


def hints_of(kind: type[object], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(key, type) of every setting, dotted."""
    for name, hint in get_type_hints(kind).items():
        if get_origin(hint) is None and is_dataclass(hint):
            yield from hints_of(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            yield f"{prefix}{name}", hint


def is_text(hint: Any) -> bool:
    """Whether a type is str, or str or nothing."""
    return hint is str or {*get_args(hint)} == {str, NoneType}


def parsed(override: str) -> Override | None:
    """An override by Hydra's grammar; None where it has none for it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(override)
    except HydraException:
        return None


def is_quoted(override: Override) -> bool:
    """Whether the value stands in quotes as a whole."""
    from hydra.core.override_parser.types import QuotedString

    return isinstance(override._value, QuotedString)
