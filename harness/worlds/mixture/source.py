"""One source of rows: a file or a data set, how its columns are called, and which of its rows are taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from conf import CONF
from evals.values.conversation import ResponseType, types_in_order
from evals.values.errors import InputError
from evals.values.located_yaml import as_written, load_located_yaml
from evals.values.settings import settings_from

SOURCES = CONF / "sources"
DEFAULT_SPLIT = "train"
OTHERS = "*"  # in `types`: categories that are not named
# What a source's columns may be named for.
COLUMNS = (
    *("prompt", "completion", "chosen", "rejected", "messages", "response_type", "category", "topic", "id"),
    *("system", "questions"),
    *("propositions", "completion_class", "first", "second", "votes"),
)
YAML = (".yaml", ".yml")
LEFT_OUT = "leave_out"  # as a type in `types`: rows of this category are not taken


@dataclass(frozen=True)
class Source:
    """Where rows come from, and what they are. All but `path` may be left out.

    A row's response type is that which `types` gives to its category, else the source's, else its own.
    """

    path: str = ""  # a file, several as a pattern (*.csv), a data set's folder, or its name on the hub
    name: str = ""  # in counts; empty: the last part of the path
    format: str = ""  # jsonl, json, csv, tsv, parquet or dataset; empty: as the name ends
    subset: str | None = None  # of a data set that has several
    split: str = DEFAULT_SPLIT  # of a data set
    revision: str | None = None  # of a data set on the hub
    columns: dict = field(default_factory=dict)  # type: ignore[type-arg]  # {prompt: question, ...}; {id: null}: made
    response_type: str | None = None  # of every row
    category: str | None = None  # of every row
    types: dict = field(default_factory=dict)  # type: ignore[type-arg]  # {category: response type}, or a file of them; * for the others
    system: str | None = None  # a system turn before every prompt that has none
    filter: dict = field(default_factory=dict)  # type: ignore[type-arg]  # {column: value or values}
    limit: int | None = None  # rows at most, drawn by seed
    share: float = 1.0  # of the rows, drawn by seed
    seed: int | None = None  # of the draw; null: the run's
    skip_bad: bool = False  # leave rows out that are no such row, and count them; else the first is refused
    licence: str = ""
    citation: str = ""

    def __post_init__(self) -> None:
        if not self.path:
            raise InputError("is not set", field="path", fix="name a file or a data set")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"is {self.limit}", field="limit", fix="give 1 or more, or leave it out")
        if not 0 < self.share <= 1:
            raise InputError(f"is {self.share}", field="share", fix="give a share above 0, at most 1")
        if self.seed is not None and self.seed < 0:
            raise InputError(f"is {self.seed}", field="seed", fix="give 0 or more, or leave it out")
        if self.system is not None and not self.system.strip():
            raise InputError("is empty", field="system", fix="write it, or leave it out")
        _check_columns(self.columns)
        if "response_type" in self.columns and self.types:
            fix = "name the column as columns.category where `types` are of its values, or leave `types` out"
            raise InputError("is named beside `types`", field="columns.response_type", fix=fix)

    def check_types(self, known: Mapping[str, ResponseType]) -> None:
        """Raises InputError for a type that is none of `known`, by name."""
        named = {"response_type": self.response_type, **{f"types.{c}": t for c, t in self.types.items()}}
        for key, name in named.items():
            if name is not None and name != LEFT_OUT:
                try:
                    type_called(str(name), known)
                except ValueError:
                    problem, fix = f"unknown response type {name!r}", f"use one of {', '.join(known)}"
                    raise InputError(problem, field=key, path=self.path, fix=fix) from None

    @property
    def label(self) -> str:
        last = Path(self.path).parent.name if is_pattern(self.path) else Path(self.path).name
        return self.name or last.removesuffix(".gz").rpartition(".")[0] or last

    def type_of(
        self, category: str, given: ResponseType | None, known: Mapping[str, ResponseType]
    ) -> ResponseType | str | None:
        """A row's response type, `given` being its own; LEFT_OUT where it is not taken."""
        found = self.key_of(category)
        name = self.types.get(OTHERS if found is None else found, self.response_type)
        if name == LEFT_OUT:
            return LEFT_OUT
        return given if name is None else type_called(str(name), known)

    def key_of(self, category: str) -> object | None:
        """The category as `types` names it: 1 and true stand for the 1.0 and True that tables hold; None for none."""
        if category in self.types:
            return category
        return next((key for key in self.types if key != OTHERS and _plain(key) == _plain(category)), None)


def _plain(value: object) -> str:
    """A truth value or a whole number as one text, however a table writes it."""
    text = str(value)
    if text.lower() in ("true", "false"):
        return text.lower()
    whole = text.removesuffix(".0")
    return whole if whole.removeprefix("-").isdecimal() else text


def is_pattern(path: str) -> bool:
    """Whether a path stands for several files; brackets may also be part of one's name."""
    return any(mark in path for mark in "*?[") and not Path(path).expanduser().exists()


def types_by_name(own: Iterable[ResponseType] = ()) -> dict[str, ResponseType]:
    """The paper's, and a rulebook's own by the names that it gives them."""
    return {t.label: t for t in types_in_order([*ResponseType, *own])}


def type_called(name: str, known: Mapping[str, ResponseType]) -> ResponseType:
    """As people write it: `Hard Refuse` too. Raises ValueError for one that is not known."""
    plain = name.strip().lower().replace(" ", "_")
    found = known.get(plain) or next((t for t in known.values() if t.value == plain), None)
    if found is None:
        raise ValueError(name)
    return found


def _check_columns(columns: Mapping[str, Any]) -> None:
    for name, given in columns.items():
        if name not in COLUMNS:
            raise InputError("no such key", field=f"columns.{name}", fix=f"use some of {', '.join(COLUMNS)}")
        if name == "id" and given is None:
            continue
        several = isinstance(given, Sequence) and not isinstance(given, str)
        if not (isinstance(given, str) or (several and given and all(isinstance(c, str) for c in given))):
            raise InputError(
                f"is {given!r}", field=f"columns.{name}", fix="name a column of the file, or a list of them"
            )


def source_of(item: object, place: str, root: str | None) -> Source:
    """What stands in a part's list: a path, the name of a file in conf/sources, or a mapping of settings.

    `root` is where the paths of conf/sources lie, and any other that is not there as it is typed. A mapping may
    begin from such a file: `{use: NAME, limit: 100}`. Raises InputError, naming `place`.
    """
    with placed(place):
        found = _given(item, place, root)
    return replace(found, path=_placed(found.path, root))


@contextmanager
def placed(place: str) -> Iterator[None]:
    """Around what knows a source's own keys only: a fault says where the source stands."""
    try:
        yield
    except InputError as error:
        if not error.field or error.field.startswith(place):
            raise
        field = f"{place}.{error.field.removeprefix('data.')}"
        raise InputError(
            error.problem, field=field, path=error.path, line=error.line, fix=error.fix
        ) from None


def _given(item: object, place: str, root: str | None) -> Source:
    if isinstance(item, str):
        known = SOURCES / f"{item}.yaml"
        if item.endswith(YAML):
            return _from_settings(_settings(Path(_placed(item, root))), place, root)
        return _from_settings(_settings(known), place, root) if known.is_file() else Source(item)
    if isinstance(item, Mapping):
        given = dict(item)
        begin = given.pop("use", None)
        return _from_settings({**_begun(begin, given, place), **given}, place, root)
    raise InputError(f"is {item!r}", field=place, fix="give a path, or {path: PATH, ...}")


def _begun(name: object, given: Mapping[str, Any], place: str) -> dict[str, Any]:
    """What a file of conf/sources says, but for response types where others are `given`."""
    found = _described(name, place) if name else {}
    columns = given.get("columns")
    own = isinstance(columns, Mapping) and "response_type" in columns
    if own or "response_type" in given or "types" in given:
        found = {key: value for key, value in found.items() if key not in ("response_type", "types")}
    return found


def _from_settings(given: dict[str, Any], place: str, root: str | None) -> Source:
    """The source; `types` may be a file of them, which several sources share."""
    types = given.get("types")
    if isinstance(types, str):
        types = load_located_yaml(_placed(types, root))
    if isinstance(types, Mapping):
        given["types"] = as_written(types)
    return settings_from(Source, given, place)


def _described(name: object, place: str) -> dict[str, Any]:
    file = SOURCES / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in SOURCES.glob("*.yaml")))
        raise InputError(f"no source is called {name!r}", field=f"{place}.use", fix=f"use one of {known}")
    return _settings(file)


def _settings(file: Path) -> dict[str, Any]:
    return dict(load_located_yaml(file))


def _placed(path: str, root: str | None) -> str:
    if root is None or Path(path).is_absolute() or Path(path).exists():
        return path
    below = Path(root) / path
    is_there = below.exists() or (is_pattern(path) and any(Path(root).glob(path)))
    return str(below) if is_there else path
