"""Files that are not data: each reader answers in one line, within a second, whatever lies there."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evals.rules.rulebook import load_rulebook
from evals.suites.recorded_responses import ResponseColumns
from evals.suites.suite import Suite
from evals.values.conversation import user_prompt
from evals.values.csv_rows import read_csv
from evals.values.errors import InputError
from evals.values.json_text import parse_json, read_json_object
from evals.values.jsonl_rows import read_jsonl, read_labelled, read_prompts
from evals.values.located_yaml import load_located_yaml
from harness.subjects.recorded_model import RecordedModel

READERS: dict[str, Callable[[Path], Any]] = {
    "yaml": load_located_yaml,
    "rulebook": load_rulebook,
    "json": read_json_object,
    "jsonl": lambda path: read_jsonl(path, lambda row: row.values),
    "prompts": read_prompts,
    "csv": lambda path: read_csv(path, ("id", "text")),
}


def refused(reader: Callable[[Path], Any], path: Path) -> str:
    """The one line without the path."""
    with pytest.raises(InputError) as caught:
        reader(path)
    line = str(caught.value)
    assert "\n" not in line and "; " in line and len(line) < 1500, line
    assert line.isprintable(), line
    return line.replace(str(path), path.name)


def laughs(body: str, inner: str) -> str:
    """Forty levels, each with what lies below it three times."""
    levels = [f"a{k}: &a{k} {body % ', '.join([inner % (k - 1)] * 3)}" for k in range(1, 40)]
    return "\n".join(["a0: &a0 {x: 1}", *levels])


YAML = {
    "a word as integer": ("a: !!int word", "f:1: 'word' is no int"),
    "a thirteenth month": ("b: 1\na: 2020-13-01", "f:2: '2020-13-01' is no timestamp"),
    "five thousand digits": ("a: " + "9" * 5000, "is no int"),
    "digits of base sixty": ("a: 1:" + "59:" * 2000 + "1", "is no int"),
    "digits in hexadecimal": ("a: 0x" + "f" * 5000, "is no int"),
    "a float without end": ("a: 1.0e+400", "is no float"),
    "an empty integer": ("a: !!int ''", "'' is no int"),
    "a word as truth": ("a: !!bool word", "'word' is no bool"),
    "no time": ("a: !!timestamp x", "'x' is no timestamp"),
    "half a character": ('a: "\\ud800"', "is no str"),
    "a list as mapping": ("a: !!map [1]", "is no map"),
    "nested lists": ("a: " + "[" * 3000 + "]" * 3000, "deep inside each other"),
    "nested mappings": ("\n".join("  " * k + "k:" for k in range(900)), "f:50: "),
    "keys that are keys": ("? " * 5000, "deep inside each other"),
    "an alias as key": ("a: &a [1]\n? *a\n: 2", "a key is not a word"),
    "an alias of itself": ("a: &a [*a]", "the alias *a lies inside what it names"),
    "aliases that multiply": (laughs("[%s]", "*a%d"), "more than 50000 values"),
    "merges that multiply": (laughs("{<<: [%s]}", "*a%d"), "more than 50000 values"),
    "an object of Python": ("a: !!python/object/apply:os.system [ls]", "malformed YAML"),
    "megabytes": ("a: " + "x " * 2_000_000, "is larger than 1 MiB"),
    "another encoding": (b"a: caf\xe9", "f:1: byte 0xe9 is not UTF-8"),
}


@pytest.mark.parametrize("case", YAML)
@pytest.mark.parametrize("reader", ["yaml", "rulebook"])
def test_yaml_that_its_library_does_not_foresee(reader: str, case: str, tmp_path: Path) -> None:
    """Guards: PyYAML's constructors raise what is no YAMLError, and aliases multiply without end."""
    content, expected = YAML[case]
    path = tmp_path / "f"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert expected in refused(READERS[reader], path)


def test_ordinary_yaml_still_reads(tmp_path: Path) -> None:
    """Guards: limits that refuse anchors, merges, dates and infinity where they mean no harm."""
    path = tmp_path / "f"
    path.write_text("a: &a {x: 1, y: .inf}\nb: {<<: *a, z: [*a, 2020-01-02]}\n", encoding="utf-8")
    found = load_located_yaml(path)
    assert found["b"]["x"] == 1 and found["b"]["z"][0] == found["a"] and found.lines["b"] == 2


JSON = {
    "nested lists": ("[" * 100_000 + "]" * 100_000, "inside each other"),
    "nested objects": ('{"a":' * 500 + "1" + "}" * 500, "inside each other"),
    "ten to the 400": ('{"a": 1' + "0" * 400 + "}", "a number of 401 digits"),
    "ten to the 400, short": ('{"a": 1e400}', "the number 1e400 is too large"),
    "below the least": ('{"a": -1.5E+999}', "too large"),
    "five thousand digits": ('{"a": ' + "9" * 5000 + "}", "a number of 5000 digits"),
    "half a character": ('{"a": "\\ud800"}', "half of a surrogate pair"),
    "half a character as key": ('{"\\uDC00": 1}', "half of a surrogate pair"),
    "control characters": ('{"a": "\x1b]0;owned\x07"}', "malformed JSON"),
}


@pytest.mark.parametrize("case", JSON)
@pytest.mark.parametrize("reader", ["json", "jsonl", "prompts"])
def test_json_beyond_its_limits(reader: str, case: str, tmp_path: Path) -> None:
    """Guards: a RecursionError of the parser, an OverflowError of whoever takes the number."""
    content, expected = JSON[case]
    path = tmp_path / "f.jsonl"
    path.write_text(content, encoding="utf-8")
    line = refused(READERS[reader], path)
    assert expected in line or "one JSON array" in line


def test_what_only_looks_hostile_is_read() -> None:
    """Guards: digits within texts, a long fraction, whole pairs and a number's name refused."""
    text = '{"a": "%s e400", "b": 0.%s, "c": "\\ud83d\\ude00", "d": NaN, "e": %d}'
    found = parse_json(text % ("9" * 5000, "1" * 60, 2**100))
    assert found["e"] == 2**100 and found["b"] == pytest.approx(1 / 9) and found["c"] == "\U0001f600"
    assert len(parse_json("[" + "[]," * 1000 + "[]]")) == 1001


LOOKS = {
    "an array": ('[{"prompt": "a"}, {"prompt": "b"}]', "one JSON array", "jq -c '.[]' FILE"),
    "an array over lines": ('[\n {"prompt": "a"}\n]', "one JSON array", "jq -c"),
    "an object over lines": ('{\n "prompt": "a"\n}', "JSON over several lines", "jq -c . FILE"),
    "rows inside an object": ('{"rows": [\n {"prompt": "a"}]}', "JSON over several lines", "jq -c"),
    "a CSV": ("id,prompt\n1,hello\n", "CSV", "to_json"),
    "a quoted CSV": ('"id","prompt text"\n"1","hello"\n', "CSV", "to_json"),
    "tabs": ("id\tprompt\n1\thello\n", "separated by tabs", "to_json"),
    "semicolons": ("id;prompt\n1;hello\n", "separated by semicolons", "to_json"),
    "YAML": ("- prompt: hello\n", "YAML", "one object a line"),
    "Python": ("{'prompt': 'hello'}\n", "Python's way", "json.dumps"),
    "a page": ("<html>404</html>", "a web page", "raw file"),
}


@pytest.mark.parametrize("case", LOOKS)
def test_other_formats_as_prompts(case: str, tmp_path: Path) -> None:
    """Guards: "malformed JSON (Expecting value at column 1)" of a file that is whole in another format."""
    content, what, fix = LOOKS[case]
    path = tmp_path / "prompts.jsonl"
    path.write_text(content, encoding="utf-8")
    line = refused(read_prompts, path)
    assert f"prompts.jsonl:1: the file is {what}" in line or f"the file is a table {what}" in line
    assert fix in line


SIGNED = {
    "Parquet": (b"PAR1\x15\x04", "a Parquet file"),
    "a spreadsheet": (b"PK\x03\x04rest", "a ZIP archive or a spreadsheet"),
    "a pickle": (b"\x80\x04\x95\x00", "a pickle, which is never opened"),
    "zstd": (b"\x28\xb5\x2f\xfd\x00", "packed with zstd"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "UTF-16": ("id,text\n".encode("utf-16"), "UTF-16"),
}


@pytest.mark.parametrize("case", SIGNED)
@pytest.mark.parametrize("reader", READERS)
def test_binary_formats_under_any_name(reader: str, case: str, tmp_path: Path) -> None:
    """Guards: "byte 0x15 is not UTF-8" of a Parquet file, which says nothing of what to do."""
    content, what = SIGNED[case]
    path = tmp_path / "f.jsonl"
    path.write_bytes(content)
    line = refused(READERS[reader], path)
    assert f"the file is {what}" in line


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('{"id": 1, "text": "a"}\n', "the file is JSON, not CSV"),
        ("id;text\n1;a\n", "separated by semicolons, not CSV"),
        ("id\ttext\n1\ta\n", "separated by tabs, not CSV"),
    ],
)
def test_other_formats_as_csv(content: str, what: str, tmp_path: Path) -> None:
    """Guards: "column 'id' is missing" of a table that has it behind other separators."""
    path = tmp_path / "f.csv"
    path.write_text(content, encoding="utf-8")
    assert what in refused(READERS["csv"], path)


def test_gzip_under_any_name_and_other_text_under_its_name(tmp_path: Path) -> None:
    """Guards: gzip believed by the name alone, so that a renamed file was bytes that are not UTF-8."""
    row = b'{"prompt": "a"}\n'
    packed, plain = tmp_path / "packed.jsonl", tmp_path / "plain.jsonl.gz"
    packed.write_bytes(gzip.compress(row))
    plain.write_bytes(row)
    assert [p.text for p in read_prompts(packed)] == [p.text for p in read_prompts(plain)] == ["a"]
    table = tmp_path / "table.csv"
    table.write_bytes(gzip.compress(b"id,text\n1,a\n"))
    assert read_csv(table, ("id",))[0].values["text"] == "a"


@pytest.mark.parametrize("line", [b"\0" * 1000, b'{"prompt": "a", "id": 0}\n' * 40, b"\n" * 1000])
@pytest.mark.parametrize("reader", READERS)
def test_a_gzip_that_grows(reader: str, line: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: a few megabytes that unpack to gigabytes filled the memory."""
    monkeypatch.setattr("evals.values.data_file.MOST_UNPACKED", 100_000)
    monkeypatch.setattr("evals.values.data_file.CHUNK", 10_000)
    path = tmp_path / "f.jsonl.gz"
    path.write_bytes(gzip.compress(line * 2_000))
    limited = refused(READERS[reader], path)
    assert "unpacks to more than" in limited or "duplicate id" in limited or "is larger" in limited


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file(reader: str, tmp_path: Path) -> None:
    """Guards: a pipe is waited for and a device read for ever."""
    pipe, nothing, long = tmp_path / "pipe", tmp_path / "nothing", tmp_path / ("n" * 5000)
    os.mkfifo(pipe)
    assert "is a pipe" in refused(READERS[reader], pipe)
    assert "is a device" in refused(READERS[reader], Path("/dev/zero"))
    assert "is a folder" in refused(READERS[reader], tmp_path)
    assert "No such file" in refused(READERS[reader], nothing)
    assert "name too long" in refused(READERS[reader], long)


def test_a_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: a sparse file of terabytes read as one line."""
    monkeypatch.setattr("evals.values.data_file.MOST_LINE_BYTES", 2_000_000)
    path = tmp_path / "f.jsonl"
    with open(path, "wb") as file:
        file.truncate(2**40)
    assert "f.jsonl:1: the line is longer than" in refused(READERS["jsonl"], path)
    assert "is larger than" in refused(READERS["yaml"], path)


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ('{"prompt": "a", "id": ["x"]}', "id"),
        ('{"prompt": "a", "id": {"x": 1}}', "id"),
        ('{"prompt": "a", "category": ["x"]}', "category"),
        ('{"prompt": "a", "response_type": ["comply"]}', "response_type"),
        ('{"prompt": ["a"]}', "prompt"),
        ('{"prompt": [{"role": "user", "content": ["a"]}]}', "prompt"),
        (
            '{"prompt": "a", "completion": "b", "propositions": {}, "completion_class": ["x"]}',
            "completion_class",
        ),
    ],
)
def test_a_list_where_a_text_is_expected(row: str, field: str, tmp_path: Path) -> None:
    """Guards: a list taken for an id by its Python form, or kept until something hashes it."""
    path = tmp_path / "f.jsonl"
    path.write_text(row + "\n", encoding="utf-8")
    assert f"f.jsonl:1: field '{field}'" in refused(
        read_labelled if "completion" in row else read_prompts, path
    )


@pytest.mark.parametrize("name", ["r.csv", "r.csv.gz", "r.jsonl"])
def test_a_cell_that_reads_nan_is_no_response(name: str, tmp_path: Path) -> None:
    """Guards: text `nan` of a CSV counted as compliance, while an empty cell was unscored."""
    suite = Suite("prompt_file", tuple(user_prompt(str(k), "hi") for k in range(5)), ())
    cells = ["nan", "NULL", "None", "", "None of these"]
    path = tmp_path / name
    if name == "r.jsonl":
        path.write_text(
            "".join(json.dumps({"id": str(k), "response": c}) + "\n" for k, c in enumerate(cells))
        )
    else:
        table = "id,response\n" + "".join(f"{k},{c}\n" for k, c in enumerate(cells))
        path.write_bytes(gzip.compress(table.encode()) if name.endswith(".gz") else table.encode())
    outcomes = RecordedModel.read("m", path, ResponseColumns(), [suite]).outcomes["prompt_file"]
    if name == "r.jsonl":  # a text there is a text: a model may say None
        assert [o.text for o in outcomes] == ["nan", "NULL", "None", None, "None of these"]
    else:
        assert [o.text for o in outcomes] == [None] * 4 + ["None of these"]
        assert outcomes[0].reason == "the recorded cell reads 'nan' alone"
    assert outcomes[3].reason == "the recorded response is empty"
