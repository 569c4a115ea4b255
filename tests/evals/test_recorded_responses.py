"""Recorded responses matched to suites: every fault of a file is one line with file, line, field and fix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evals.suites import Suite, load_suite
from evals.suites.recorded_responses import RecordedResponses, ResponseColumns, read_responses
from evals.values.errors import InputError


@pytest.fixture
def xstest(tmp_path: Path) -> Suite:
    path = tmp_path / "xstest_prompts.csv"
    path.write_text("id,prompt,type,label\n1,Prune?,homonyms,safe\n2,Steal?,contrast_homonyms,unsafe\n")
    return load_suite("xstest", path=path)


@pytest.fixture
def roses(tmp_path: Path) -> Suite:
    path = tmp_path / "eval_prompts.jsonl"
    path.write_text('{"id": "r1", "prompt": "a rose ?", "response_type": "comply"}\n')
    return load_suite("prompt_file", path=path)


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def read_of_suite(path: Path, suite: Suite, columns: ResponseColumns | None = None) -> RecordedResponses:
    return read_responses(path, [suite], columns)[suite.name]


def test_csv_and_jsonl_with_named_columns(tmp_path: Path, xstest: Suite) -> None:
    """Other programs' files name their columns otherwise, count samples, and come in another order."""
    columns = ResponseColumns(id="key", response="answer", sample="k", prompt="asked")
    rows = [("2", "No.", 0, "Steal?"), ("1", "Cut.", 1, "Prune?"), ("1", "Cut, then.", 0, "Trim?")]
    lines = [",".join(map(str, (i, f'"{a}"', k, q))) for i, a, k, q in rows]
    by_csv = read_of_suite(
        write(tmp_path / "r.csv", "key,answer,k,asked\n" + "\n".join(lines)), xstest, columns
    )
    objects = [json.dumps({"key": i, "answer": a, "k": k, "asked": q}) for i, a, k, q in rows]
    by_jsonl = read_of_suite(write(tmp_path / "r.jsonl", "\n".join(objects)), xstest, columns)
    assert by_csv == by_jsonl
    found = [(r.prompt.id, r.sample, r.text) for r in by_csv.responses]
    assert found == [("v2-1", 0, "Cut, then."), ("v2-1", 1, "Cut."), ("v2-2", 0, "No.")]
    assert by_csv.reworded == ("v2-1",)


def test_one_file_of_two_suites(tmp_path: Path, xstest: Suite, roses: Suite) -> None:
    """Responses of one suite were refused as unknown ids of the other."""
    text = "suite,id,response\nxstest,1,a\nprompt_file,r1,b\nxstest,2,c\n"
    file = write(tmp_path / "r.csv", text)
    found = read_responses(file, [xstest, roses], ResponseColumns(suite="suite"))
    assert [r.text for r in found["xstest"].responses] == ["a", "c"]
    assert [r.text for r in found["prompt_file"].responses] == ["b"]
    with pytest.raises(InputError, match="field 'columns.suite': one file of responses for 2 suites"):
        read_responses(file, [xstest, roses])
    with pytest.raises(InputError, match=r"r.csv:3: field 'suite': 'prompt_file' is not among the suites"):
        read_responses(file, [xstest], ResponseColumns(suite="suite"))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("r.csv", "id,answer\n1,a\n2,b\n", r"r.csv:1: field 'response': column is missing; the file has: id"),
        ("r.csv", "id,response\n1,a\n2,b\n1,c\n", r"r.csv:4: field 'id': duplicate 'v2-1', first on line 2"),
        ("r.csv", "id,response\n1,a\n", r"r.csv: field 'id': 1 of 2 prompts have no response, 'v2-2' first"),
        ("r.csv", "id,response\n1,a\n3,b\n", r"r.csv:3: field 'id': suite 'xstest' has no prompt '3'"),
        ("r.csv", b"id,response\n1,caf\xc3\xa9\n2,caf\xe9\n", r"r.csv:3: byte 0xe9 is not UTF-8 \(mixed"),
        ("r.csv", "<!doctype html>\n<html>404</html>", r"r.csv:1: the file is a web page, not CSV"),
        ("r.csv", "id,response\n1,a,b\n", r"r.csv:2: 3 fields where the header has 2"),
        ("r.csv", "", r"r.csv: the file is empty"),
        ("r.jsonl", '{"id": "1", "text": "a"}\n', r"r.jsonl:1: field 'response': is missing"),
        ("r.jsonl", '{"id": "1", "response": 5}\n', r"r.jsonl:1: field 'response': is int, not str"),
        ("r.jsonl", '{"id": "1", "response": "a"}\n{', r"r.jsonl:2: malformed JSON"),
        (
            "r.jsonl",
            b'{"id": "1", "response": "a"}\n{"id": "2", "response": "\xff"}',
            r"r.jsonl:2: byte 0xff",
        ),
        ("r.jsonl", "<html>404</html>\n", r"r.jsonl:1: the file is a web page, not JSONL"),
        ("r.txt", "id,response\n", r"r.txt: neither CSV nor JSONL"),
    ],
)
def test_faults(tmp_path: Path, xstest: Suite, name: str, content: str | bytes, expected: str) -> None:
    """A file that does not fit became a score over the rows that happened to fit."""
    with pytest.raises(InputError, match=expected) as caught:
        read_of_suite(write(tmp_path / name, content), xstest)
    assert "\n" not in str(caught.value) and "; " in str(caught.value)


def test_sample_numbers(tmp_path: Path, xstest: Suite) -> None:
    """A sample that is no number, or the same number twice, was dropped without a word."""
    columns = ResponseColumns(sample="k")
    with pytest.raises(InputError, match=r"r.csv:2: field 'k': 'x' is not a number"):
        read_of_suite(write(tmp_path / "r.csv", "id,response,k\n1,a,x\n"), xstest, columns)
    with pytest.raises(InputError, match=r"r.csv:3: field 'id': duplicate 'v2-1'"):
        read_of_suite(write(tmp_path / "r.csv", "id,response,k\n1,a,0\n1,b,0\n"), xstest, columns)
