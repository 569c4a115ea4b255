"""JSONL in and out: what a bad row says, and that rows survive the way there and back."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from evals.values.conversation import (
    Comparison,
    Demonstration,
    LabelledResponse,
    Message,
    Prompt,
    Response,
    ResponseType,
    user_prompt,
)
from evals.values.errors import InputError
from evals.values.jsonl_rows import (
    comparison_as_json,
    demonstration_as_json,
    labelled_as_json,
    prompt_as_json,
    read_comparisons,
    read_demonstrations,
    read_labelled,
    read_prompts,
    write_jsonl,
)

GOOD = '{"id": "a", "prompt": "hello", "response_type": "comply"}'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["no rows"]),
        ("\n\n", ["no rows"]),
        (GOOD + "\n{broken", [":2", "malformed JSON"]),
        (GOOD + "\n[1]", [":2", "not a JSON object"]),
        ('{"id": "a"}', [":1", "'prompt'", "missing"]),
        (GOOD + "\n\n" + GOOD, [":3", "'id'", "duplicate id 'a'", "line 1"]),
        (
            '{"prompt": "x", "response_type": "refuse"}',
            ["'response_type'", "unknown response type", "hard_refuse"],
        ),
        ('{"prompt": []}', ["'prompt'", "list of messages"]),
        ('{"prompt": [{"role": "user"}]}', ["'prompt'", "list of messages"]),
        ('{"prompt": 3}', ["'prompt'", "int"]),
    ],
)
def test_bad_prompts_name_place_and_fix(tmp_path: Path, text: str, words: list[str]) -> None:
    """A reader that returns what it could read hides half a data set (safety-rbr's reader did)."""
    path = tmp_path / "prompts.jsonl"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_prompts(path)
    line = str(caught.value)
    assert str(path) in line and ";" in line and "\n" not in line
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ('{"apology": true}', ["propositions.judgement", "missing"]),
        ('{"apology": true, "judgement": false, "rude": true}', ["propositions.rude", "unknown proposition"]),
        ('{"apology": "yes", "judgement": false}', ["propositions.apology", "true or false"]),
        ("[]", ["propositions", "list"]),
    ],
)
def test_bad_labels_name_the_proposition(tmp_path: Path, labels: str, words: list[str]) -> None:
    path = tmp_path / "gold.jsonl"
    path.write_text(f'{{"prompt": "x", "completion": "y", "propositions": {labels}}}\n')
    with pytest.raises(InputError) as caught:
        read_labelled(path, ["apology", "judgement"])
    assert all(word in str(caught.value) for word in [":1", *words])


def test_missing_file_and_wrong_encoding(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_prompts(tmp_path / "absent.jsonl")
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes('{"prompt": "café"}'.encode("latin-1"))
    with pytest.raises(InputError, match="encoding"):
        read_prompts(latin)


@pytest.mark.parametrize("name", ["p.jsonl", "p.jsonl.gz"])
def test_a_byte_of_another_encoding_is_told_by_its_line(tmp_path: Path, name: str) -> None:
    """Two files of different encodings pasted into one, in whose thousands of lines nobody finds the byte."""
    path = tmp_path / name
    content = b'{"prompt": "caf\xc3\xa9"}\n{"prompt": "x"}\n{"prompt": "caf\xe9"}\n'
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(InputError) as caught:
        read_prompts(path)
    assert f"{name}:3: byte 0xe9 is not UTF-8" in str(caught.value)


def test_a_byte_order_mark_and_a_web_page(tmp_path: Path) -> None:
    """A file saved on Windows was malformed JSON; so was a web page, with no word of what it is."""
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "x", "id": "a"}\r\n{"prompt": "y", "id": "b"}\r\n')
    assert [prompt.id for prompt in read_prompts(path)] == ["a", "b"]
    path.write_text("\n<!DOCTYPE html>\n")
    with pytest.raises(
        InputError, match=r"p.jsonl:2: the file is a web page, not JSONL; download the raw file, not the page"
    ):
        read_prompts(path)


def test_rows_survive_the_way_there_and_back(tmp_path: Path) -> None:
    messages = (Message("user", "hi"), Message("assistant", "yes?"), Message("user", 'a "quote" and é'))
    prompt = Prompt("p-1", messages, ResponseType.SAFE_REFUSE_2, "SH-R2")
    labelled = LabelledResponse(Response(prompt, "no"), {"apology": False}, "ideal")
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [prompt_as_json(prompt)])
    assert read_prompts(path) == [prompt]
    write_jsonl(path, [comparison_as_json(Comparison(prompt, "good", "bad"))])
    assert read_comparisons(path) == [Comparison(prompt, "good", "bad")]
    write_jsonl(path, [demonstration_as_json(Demonstration(prompt, "text"))])
    assert read_demonstrations(path) == [Demonstration(prompt, "text")]
    write_jsonl(path, [labelled_as_json(labelled)])
    assert read_labelled(path, ["apology"]) == [labelled]


def test_released_names_gzip_and_prompts_without_id(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write('{"prompt": "x", "response_type": "Safe Refuse 1"}\n{"prompt": "y"}\n')
    first, second = read_prompts(path)
    assert first.response_type is ResponseType.SAFE_REFUSE_1 and second.response_type is None
    assert first.id != second.id and first.id == read_prompts(path)[0].id


def test_user_prompt_is_one_turn() -> None:
    assert user_prompt("a", "hello").messages == (Message("user", "hello"),)


def test_a_cut_completion_stays_one_in_its_file(tmp_path: Path) -> None:
    """A completion that the limit cut was read back as a whole one, and its end learnt and scored."""
    rows = [
        LabelledResponse(Response(user_prompt("1", "a?"), text, finished=ended), {}, "ideal")
        for text, ended in (("whole", True), ("half a", False))
    ]
    write_jsonl(tmp_path / "rows.jsonl", map(labelled_as_json, rows))
    assert read_labelled(tmp_path / "rows.jsonl") == rows
    assert ["finished" in labelled_as_json(row) for row in rows] == [False, True]
    write_jsonl(tmp_path / "bad.jsonl", [{**labelled_as_json(rows[0]), "finished": "no"}])
    with pytest.raises(InputError, match="'finished': is not true or false"):
        read_labelled(tmp_path / "bad.jsonl")


def test_a_cut_demonstration_stays_cut(tmp_path: Path) -> None:
    """Read back it had an end, and a model learnt to stop in the middle of a sentence."""
    whole = Demonstration(user_prompt("a", "hello"), "Hi there.")
    cut = Demonstration(user_prompt("b", "hello"), "Hi th", finished=False)
    write_jsonl(tmp_path / "rows.jsonl", map(demonstration_as_json, (whole, cut)))
    assert read_demonstrations(tmp_path / "rows.jsonl") == [whole, cut]
    (tmp_path / "bad.jsonl").write_text('{"prompt": "hello", "completion": "Hi", "finished": "no"}\n')
    with pytest.raises(InputError, match="'finished': is not true or false"):
        read_demonstrations(tmp_path / "bad.jsonl")
