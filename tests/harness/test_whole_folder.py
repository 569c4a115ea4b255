"""harness/storage/whole_folder.py: at every moment a folder's files are the old ones or the new ones."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from evals.values.errors import InputError
from harness.record.manifest import read_manifest
from harness.record.run import ResultsFolder
from harness.storage import whole_folder
from harness.storage.whole_folder import check_whole, replacing

FILES = ("config.yaml", "metrics.csv", "samples/a.jsonl")
METRICS = "method,checkpoint,seed,suite,metric,value,low,high,n,n_unscored,judge\n"


def write_version(folder: Path, version: str, extra: str = "") -> None:
    with replacing(folder) as new:
        (new / "samples").mkdir()
        for name in (*FILES, *([extra] if extra else [])):
            (new / name).write_text(METRICS if name == "metrics.csv" else version)
        (new / "manifest.json").write_text(json.dumps({"kind": "run", "name": version}))


class Killed(BaseException):
    """Stands for SIGKILL: nothing runs after it."""


def killed_at(monkeypatch: pytest.MonkeyPatch, count: int, body: Callable[[], None]) -> bool:
    """Whether `body` ended at its `count`th rename, unlink or removal of a folder, none of which happens after it."""
    left = [count]

    def guarded(real: Callable) -> Callable:
        def call(*args: object, **options: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return real(*args, **options)

        return call

    with monkeypatch.context() as patch:
        for module, name in ((os, "rename"), (os, "replace"), (os, "unlink"), (shutil, "rmtree")):
            patch.setattr(module, name, guarded(getattr(module, name)))
        patch.setattr(Path, "unlink", guarded(Path.unlink))
        try:
            body()
        except Killed:
            return True
    return False


def test_a_kill_at_every_step_leaves_the_old_record_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between two files, a folder had old samples beside new metrics, and was read as whole."""
    found, steps = set(), 0
    while True:
        folder = tmp_path / str(steps)
        folder.mkdir()
        write_version(folder, "old", extra="samples/gone.jsonl")
        killed = killed_at(monkeypatch, steps, lambda: write_version(folder, "new"))  # noqa: B023
        ResultsFolder(folder)
        name = read_manifest(folder)["name"]
        assert {(folder / file).read_text() for file in FILES if file != "metrics.csv"} == {name}
        assert (folder / "samples/gone.jsonl").exists() == (name == "old")
        found.add(name)
        write_version(folder, "third")
        assert read_manifest(folder)["name"] == "third" and not (folder / whole_folder.READY).exists()
        if not killed:
            break
        steps += 1
    assert found == {"old", "new"} and steps >= 6


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_making_is_refused(tmp_path: Path, name: str) -> None:
    """Half of a record was taken for a whole one."""
    write_version(tmp_path, "one")
    (tmp_path / name).write_text("other")
    with pytest.raises(InputError, match="is not what manifest.json was written with"):
        ResultsFolder(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match="is missing"):
        ResultsFolder(tmp_path)


def test_a_failure_leaves_the_old_record(tmp_path: Path) -> None:
    """A command that fails while it writes has not touched what was there."""
    write_version(tmp_path, "old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path) as new:
        (new / "metrics.csv").write_text(str(1 / 0))
    check_whole(tmp_path)
    assert (tmp_path / "config.yaml").read_text() == "old" and not (tmp_path / ".new").exists()


def test_a_record_of_before_digests_is_read_with_a_note(caplog: pytest.LogCaptureFixture) -> None:
    """The kept reference has none."""
    with caplog.at_level("INFO"):
        ResultsFolder(Path(__file__).parents[2] / "results" / "reference")
    assert "made before records had digests" in caplog.text


def test_what_was_drawn_from_the_older_record_goes_before_the_new_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before its page was drawn, a new record stood beside the older one's page, and nothing said so."""
    steps, ended = 0, False
    while not ended:
        folder = tmp_path / str(steps)
        folder.mkdir()
        write_version(folder, "old")
        for name in ("report.html", "plots/tradeoff.png", "mine.html"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("of the old one")
        ended = not killed_at(monkeypatch, steps, lambda: write_version(folder, "new"))  # noqa: B023
        name = json.loads((folder / "manifest.json").read_text())["name"]
        drawn = {path.name for path in folder.rglob("*") if path.name in ("report.html", "tradeoff.png")}
        assert name == "old" or not drawn
        assert (folder / "mine.html").is_file(), "a file that no command makes is its owner's"
        steps += 1
    assert steps > 4 and name == "new"
