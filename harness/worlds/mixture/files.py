"""The rows of a source: JSONL, JSON, CSV, TSV, Parquet, packed or not, a data set's folder, or one on the hub.

Text formats are read by the project's own readers, whose errors name a line and which are bounded against hostile
files, and so is Parquet; data sets by `datasets`, which runs no code of theirs.
"""

from __future__ import annotations

import codecs
import difflib
import glob
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from evals.values.csv_rows import is_absent, read_csv
from evals.values.data_file import MOST_BYTES, lines_of, open_data, signature
from evals.values.errors import InputError
from evals.values.json_text import once, parse_json, read_json
from evals.values.jsonl_rows import Row, read_jsonl
from evals.values.parquet_rows import read_parquet
from harness.storage.digest import digest_files, file_digest
from harness.worlds.mixture.source import DEFAULT_SPLIT, SOURCES, Source, is_pattern

TEXT = "text"  # the column of a JSON list of texts
LEVELS = ("category", "subcategory", "subsubcategory")  # columns of the keys that texts are nested under
DATASET = "dataset"


def rows_of(source: Source) -> list[Row]:
    """Every row, its place known; a cell that holds nothing is None, or NaN.

    Raises InputError where there is no such file or data set, or it has no rows.
    """
    if source.format != DATASET and (found := _files(source.path)):
        _check_is_whole(source)
        rows = [row for path in found for row in _reader(source, path)(path)]
    else:
        rows = _data_set(source)
    if not rows:
        raise InputError("the source has no rows", path=source.path, fix="give one that has rows")
    return rows


def identity_of(source: Source) -> dict[str, Any]:
    """What the source's rows depend on: its settings, and what its files hold, wherever they lie.

    What results call the source counts too. A data set on the hub stands for itself. Raises InputError.
    """
    settings = {f.name: getattr(source, f.name) for f in fields(source) if f.name not in ("path", "name")}
    return {**settings, "label": source.label, "rows": _content(source)}


def _content(source: Source) -> object:
    """Of text files the contents in their order, each with how it is read; of a folder that of all of its files."""
    if source.format != DATASET and (found := _files(source.path)):
        return [[_ending(source, path), file_digest(path)] for path in found]
    folder = Path(source.path).expanduser()
    return digest_files([folder]) if folder.is_dir() else source.path


def _check_is_whole(source: Source) -> None:
    """Raises InputError where a file is asked for what data sets have."""
    fix = "leave it out, name the file of that part, or say format: dataset"
    _check_has(source, ("split", "subset", "revision"), "the source is a file, which has none", fix)


def _check_has(source: Source, names: tuple[str, ...], why: str, fix: str) -> None:
    """Raises InputError where one of the settings is given, and what is read has no such thing."""
    asked = {"split": source.split != DEFAULT_SPLIT, "subset": source.subset, "revision": source.revision}
    if given := next((name for name in names if asked[name]), None):
        problem = f"is {getattr(source, given)!r}, and {why}"
        raise InputError(problem, path=source.path, field=given, fix=fix)


def _files(path: str) -> list[Path]:
    if is_pattern(path):
        return [
            Path(name) for name in sorted(glob.glob(str(Path(path).expanduser()))) if Path(name).is_file()
        ]
    file = Path(path).expanduser()
    return [file] if file.is_file() else []


def _reader(source: Source, path: Path) -> Callable[[Path], list[Row]]:
    ending = _ending(source, path)
    if ending not in READERS:
        raise _unknown(source, path, ending)
    return READERS[ending]


def _unknown(source: Source, path: Path, ending: str) -> InputError:
    """Of a file whose name or `format` says nothing of a reader; of a known signature it is told what it is."""
    with open(path, "rb") as file:
        found = signature(file.read(32))
    if found is not None and ending != "arrow":
        return InputError(f"the file is {found[0]}", path=path, field="format", fix=found[1])
    says = f"is {ending!r}" if source.format else f"the file's name ends in .{ending}"
    problem = f"{says}, of which nothing is known" if ending else "the file's name has no ending"
    fix = f"say which it is, format: {', '.join(sorted(READERS))}"
    if ending == "arrow":
        fix = "name the folder that `datasets` saved it in"
    return InputError(problem, path=path, field="format", fix=fix)


def _ending(source: Source, path: Path) -> str:
    return source.format or Path(path.name.lower().removesuffix(".gz")).suffix.removeprefix(".")


def _jsonl(path: Path) -> list[Row]:
    return read_jsonl(path, lambda row: row)


def _json(path: Path) -> list[Row]:
    """A list of objects or of texts, or texts nested under categories; objects one a line, as JSONL."""
    if _has_an_object_a_line(path):
        return _jsonl(path)
    return [
        Row(path, number, values)
        for number, values in enumerate(
            _objects(path, read_json(path, "mend the file", MOST_BYTES, once)), start=1
        )
    ]


def _has_an_object_a_line(path: Path) -> bool:
    """Whether the first line is a whole object and others follow, or it has more than lists, as categories have."""
    with open_data(path) as file:
        lines = (line.removeprefix(codecs.BOM_UTF8).strip() for line in lines_of(path, file))
        filled = (line for line in lines if line)
        first, *more = [*itertools.islice(filled, 2)] or [b""]
    if not (first.startswith(b"{") and first.endswith(b"}")):
        return False
    try:
        value = parse_json(first)
    except ValueError:
        return False
    is_row = isinstance(value, dict) and not all(isinstance(of, list | dict) for of in value.values())
    return is_row or bool(more)


def _objects(path: Path, value: Any, keys: tuple[str, ...] = ()) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        for key, inside in value.items():
            yield from _objects(path, inside, (*keys, str(key)))
    elif isinstance(value, list):
        for number, item in enumerate(value, start=1):
            if isinstance(item, str):
                yield {**dict(zip(LEVELS, keys, strict=False)), TEXT: item}
            elif isinstance(item, Mapping):
                yield {**dict(zip(LEVELS, keys, strict=False)), **item}
            else:
                problem = f"entry {number} of a list is {type(item).__name__}, neither an object nor a text"
                raise InputError(problem, path=path, fix="write its rows as JSONL")
    else:
        raise InputError("is no list of rows", path=path, fix="write its rows as JSONL")


def _csv(path: Path, delimiter: str = ",") -> list[Row]:
    """Cells are text."""
    rows = read_csv(path, (), str.strip, quote_header=False, delimiter=delimiter)
    return [
        Row(row.path, row.line, {k: None if is_absent(str(v)) else v for k, v in row.values.items()})
        for row in rows
    ]


def _data_set(source: Source) -> list[Row]:
    folder = Path(source.path).expanduser()
    looks_local = (
        source.path.startswith((".", "~", "/")) or is_pattern(source.path) or source.path.count("/") > 1
    )
    if not folder.is_dir() and (looks_local or Path(source.path).suffix.lstrip(".") in READERS):
        fix = "name a file, a folder or a data set"
        if source.licence and not folder.is_absolute():  # of conf/sources
            fix = "say where it lies, data.root=FOLDER; `rbrbench fetch FOLDER` brings the files of conf/sources"
        raise InputError("no such file or folder", path=source.path, fix=fix)
    import datasets

    datasets.disable_progress_bars()
    try:
        if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
            found = _saved(source, datasets.load_from_disk(str(folder)))
        else:
            where = str(folder) if folder.is_dir() else source.path
            found = datasets.load_dataset(where, source.subset, split=source.split, revision=source.revision)
    except InputError:
        raise
    except Exception as error:  # the library's many errors, a gate and no network among them
        raise _no_data_set(source, error) from None
    assert isinstance(found, datasets.Dataset)
    return [Row(Path(source.path), line, row) for line, row in enumerate(found.to_list(), start=1)]


def _saved(source: Source, loaded: Any) -> Any:
    """The split of what `save_to_disk` left, or all of a set that has none. Raises InputError."""
    saved, fix = "the source is a saved data set, which has none", "leave it out"
    _check_has(source, ("subset", "revision"), saved, fix)
    if not isinstance(loaded, dict):
        _check_has(source, ("split",), saved, fix)
        return loaded
    if source.split not in loaded:
        problem, fix = f"is {source.split!r}, and the data set has none of that name", "use one of "
        raise InputError(problem, path=source.path, field="split", fix=fix + ", ".join(map(str, loaded)))
    return loaded[source.split]


def _no_data_set(source: Source, error: Exception) -> InputError:
    is_folder = Path(source.path).expanduser().is_dir()
    reason = " ".join(str(error).split())[:200]
    problem = f"`datasets` gives no rows of it ({type(error).__name__}: {reason})"
    fix = "name a file, a data set's folder, or its name on the hub with its split"
    near = difflib.get_close_matches(source.path, [file.stem for file in SOURCES.glob("*.yaml")], n=1)
    if near and not is_folder:
        fix = f"did you mean {near[0]}, of conf/sources? Else {fix}"
    problem = problem if is_folder else f"no such file, and {problem}"
    return InputError(problem, path=source.path, fix=fix)


READERS: Mapping[str, Callable[[Path], list[Row]]] = {
    "jsonl": _jsonl,
    "ndjson": _jsonl,
    "json": _json,
    "csv": _csv,
    "tsv": partial(_csv, delimiter="\t"),
    "parquet": read_parquet,
}
