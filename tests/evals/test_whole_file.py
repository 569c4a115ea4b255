"""A file is whole whoever writes it at the same time."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from evals.values.whole_file import replacing_file
from harness.storage.disk import write_json, write_whole


def test_two_writers_of_one_file_take_nothing_from_each_other(tmp_path: Path) -> None:
    """A job that outlived its killed launcher and the new one both say how the job stands: one of them failed."""
    place = tmp_path / "0.json"

    def write(writer: int) -> None:
        for _ in range(100):
            write_json(place, {"writer": writer, "text": "x" * 20_000 * writer})
            write_whole(tmp_path / "made", bytes([writer]) * 50_000)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(1, 5)))
    found = json.loads(place.read_text())
    assert len(found["text"]) == 20_000 * found["writer"]
    assert len({*(tmp_path / "made").read_bytes()}) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.json", "made"]


def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    place = tmp_path / "a.txt"
    place.write_text("before")
    with pytest.raises(ZeroDivisionError), replacing_file(place) as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]
