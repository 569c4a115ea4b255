"""One byte flipped in a file that a command has written: whoever reads it by itself says so."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evals.graders import GraderSpec
from evals.suites.recorded_responses import ResponseColumns
from evals.values.errors import InputError
from harness.record.finished_run import RunStages
from harness.record.run import ResultsFolder
from harness.storage.store import Store
from harness.storage.whole_folder import check_file, replacing
from harness.subjects.completions import find_completions, read_completions
from harness.subjects.graders import load_grader
from harness.subjects.recorded_model import RecordedModel
from harness.subjects.recorded_rewards import RecordedRewards

CHAT = [{"role": "user", "content": "how ?"}]
FILES = {
    "stages.jsonl": b'{"stage": "sft", "key": "1234"}\n',
    "candidate.jsonl": json.dumps({"prompt": CHAT, "response": "so", "reward": 1.25}).encode() + b"\n",
    "grades.jsonl": json.dumps({"prompt": CHAT, "response": "so", "grades": {"a": 0.25}}).encode() + b"\n",
    "samples/mine.csv": b"id,response\np1,so\n",
    "completions.jsonl.gz": gzip.compress(b'{"id": "p1"}\n'),
    "weights.json": b'{"format": 1}\n',
}
READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "a run's stages": ("stages.jsonl", lambda path: RunStages(path.parent)),
    "another file of a run": ("weights.json", lambda path: RunStages(path.parent)),
    "a record": ("weights.json", lambda path: ResultsFolder(path.parent)),
    "rewards": ("candidate.jsonl", RecordedRewards),
    "grades": ("grades.jsonl", lambda path: load_grader(GraderSpec("recorded", str(path)), path, None)),  # type: ignore[arg-type]
    "responses": ("samples/mine.csv", lambda path: RecordedModel.read("m", path, ResponseColumns(), [])),
    "completions": ("completions.jsonl.gz", lambda path: read_completions(find_completions(str(path)), None)),  # type: ignore[arg-type]
}


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A record with a file of each kind."""
    with replacing(tmp_path) as new:
        (new / "samples").mkdir()
        for name, content in FILES.items():
            (new / name).write_bytes(content)
        (new / "manifest.json").write_text('{"kind": "run"}')
    return tmp_path


def flip(path: Path) -> None:
    """The lowest bit of the byte in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("case", READERS)
def test_a_reader_of_one_file_of_a_record_finds_a_flipped_byte(record: Path, case: str) -> None:
    """Digests were checked where a whole folder was read; a gate's side, recorded grades, responses and
    completions that were named by file were believed.
    """
    name, reader = READERS[case]
    flip(record / name)
    with pytest.raises(InputError, match=r"is not what manifest\.json was written with") as caught:
        reader(record / name)
    assert caught.value.path == record / name


def test_a_file_that_is_no_record_s_is_read(record: Path) -> None:
    """A file of one's own beside a record, or a record of before digests, is nobody's to refuse."""
    for name in FILES:
        check_file(record / name)
    (record / "own.csv").write_text("id,response\n")
    check_file(record / "own.csv")
    (record / "manifest.json").write_text('{"kind": "run"}')
    flip(record / "weights.json")
    check_file(record / "weights.json")


STORED = {
    "weights": "model.safetensors",
    "settings": "config.json",
    "judged samples": "samples.jsonl.gz",
    "rewards": "rewards.jsonl",
    "a table": "calibration.csv",
    "training": "metrics.jsonl",
    "a folder's": "deep/er/head.safetensors",
    "the manifest": "manifest.json",
}


@pytest.mark.parametrize("kind", STORED)
def test_a_flipped_byte_of_the_store_is_computed_again(tmp_path: Path, kind: str) -> None:
    """Of what a stage keeps, only sizes were checked: other results, and exit code 0."""

    def build(folder: Path) -> dict[str, float]:
        (folder / "deep" / "er").mkdir(parents=True)
        for name in STORED.values():
            if name != "manifest.json":
                (folder / name).write_bytes(name.encode() * 50)
        return {"loss": 1.5}

    store = Store(tmp_path)
    made = store.get("stage", {}, {}, {}, build)
    before = (made.path / STORED[kind]).read_bytes()
    flip(made.path / STORED[kind])
    assert store.find("stage", made.key) is None
    again = store.get("stage", {}, {}, {}, build)
    assert not again.cached and again.results == {"loss": 1.5}
    if kind != "the manifest":
        assert (again.path / STORED[kind]).read_bytes() == before
