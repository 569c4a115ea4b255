"""Commands killed at their file operations: the record is the older one or the new one, whole.

Pages, plots and exports are drawn from the record after it: those that are there show the record that is.
A fork of this process runs the command and dies by SIGKILL before its k-th opening for writing, rename, removal or
new folder. A sample of k by default, without `fit`; `make attack` (RBRBENCH_KILLS=all) takes every one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from evaluation_world import write_responses, write_suite
from gate_world import write_world
from tiny_runs import rbrbench

from harness.record.run import ResultsFolder
from harness.storage.whole_folder import DIGESTS

EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
EVERY = os.environ.get("RBRBENCH_KILLS") == "all"
SECOND = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00|\b1[789]\d{8}(\.0)?\b"
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
SAMPLE = (0.6, 0.9)  # of each command's operations; all of them with RBRBENCH_KILLS=all


@dataclass(frozen=True)
class Case:
    """`before` makes the older record, `command` the new one in its place; `prepare` writes what they read."""

    prepare: Callable[[Path], object]
    before: Sequence[str]
    command: Sequence[str]
    exit_code: int = 0


def world_of_responses(folder: Path) -> None:
    suite = write_suite(folder, 6, 6)
    write_responses(folder / "responses.csv", suite, ["u0", "s1", "u3"])


EVALUATE = [
    "evaluate",
    "suites=[prompt_file]",
    "suites.prompt_file.path=prompts.jsonl",
    "draws=100",
    "threads=1",
]
GATE = ["regress", "baseline=reward.yaml", "on=completions.jsonl", "draws=100", "sign_flips=1000"]
FIT = [
    "fit",
    "on=fitting.jsonl",
    "rulebook=rules.yaml",
    "grader.kind=recorded",
    "grader.path=grades.jsonl",
    "orders=0",
    "refit=false",
]
GOLD = ["gold", "gold.test=completions.jsonl", "rulebook=rules.yaml", "grader.kind=recorded"]
GOLD += ["grader.path=grades.jsonl", "hostile.responses=0", "threads=1"]


def small_gate(folder: Path) -> None:
    write_world(folder, 8)


CASES = {
    "evaluate": Case(
        world_of_responses,
        [*EVALUATE, "responses=responses.csv"],
        [*EVALUATE, "responses=responses.csv", "margin=0.5"],
    ),
    "report": Case(
        world_of_responses, [*EVALUATE, "responses=responses.csv"], ["report", "results/evaluation"]
    ),
    "regress": Case(
        small_gate, [*GATE, "candidate=reward.yaml"], [*GATE, "candidate=reward.yaml", "draws=120"], 3
    ),
    "fit": Case(small_gate, [*FIT, "seed=0"], [*FIT, "seed=1"]),
    "gold": Case(small_gate, [*GOLD, "draws=100"], [*GOLD, "draws=120"]),
}


def killed_at(place: int, folder: Path, command: Sequence[str], count: Path) -> int:
    """The status of a fork that dies before file operation number `place`; `count` then has how many there were."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    left = [place]
    root = str(folder)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, flags = arguments[0], arguments[2]
            writes = bool(flags & WRITING) and isinstance(path, str | os.PathLike)
        else:
            path, writes = (arguments[0] if arguments else ""), event in EVENTS
        if writes and str(os.path.abspath(os.fspath(path))).startswith(root) and path != count:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    code = 70
    try:
        sys.addaudithook(hook)
        code = rbrbench(*command, cwd=folder).returncode
        left[0], done = sys.maxsize, place - left[0]
        count.write_text(str(done))
    finally:
        os._exit(code)


def contents(results: Path) -> dict[str, bytes]:
    """The files without the second that an evaluation was made in; what is hidden is nobody's to read."""
    return {
        path.relative_to(results).as_posix(): re.sub(SECOND, b"", path.read_bytes())
        for path in sorted(results.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(results).parts)
    }


def places(total: int) -> list[int]:
    if EVERY:
        return list(range(total))
    return [int(share * total) for share in SAMPLE]


@pytest.mark.parametrize("name", [name for name in CASES if EVERY or name != "fit"])  # a fit takes seconds
def test_a_killed_command_leaves_the_older_record_or_the_new_one(name: str, tmp_path: Path) -> None:
    """`evaluate` wrote over an older folder in place: old samples beside new metrics were read as one record.

    After a kill the older record's page stood beside the new record, which it did not show.
    """
    case = CASES[name]
    start, count = tmp_path / "start", tmp_path / "count"
    start.mkdir()
    case.prepare(start)
    assert rbrbench(*case.before, cwd=start).returncode == case.exit_code
    (record,) = (path for path in (start / "results").iterdir() if path.name[0] != ".")
    old, whole = contents(record), shutil.copytree(start, tmp_path / "whole")
    assert os.waitstatus_to_exitcode(killed_at(sys.maxsize, whole, case.command, count)) == case.exit_code
    new, total = contents(whole / "results" / record.name), int(count.read_text())
    both = {"old": old, "new": new}
    assert total > 3 and (name == "report" or (old.keys() == new.keys() and old != new))
    for place in places(total):
        folder = shutil.copytree(start, tmp_path / f"killed{place}")
        assert os.waitstatus_to_exitcode(killed_at(place, folder, case.command, count)) == -signal.SIGKILL
        ResultsFolder(folder / "results" / record.name)  # whole, by its digests
        found = contents(folder / "results" / record.name)
        assert found.keys() <= old.keys() | new.keys()
        recorded = json.loads(found["manifest.json"])[DIGESTS].keys() | {"manifest.json"}
        others = {
            which: [n for n in recorded if found.get(n) != files.get(n)] for which, files in both.items()
        }
        assert not all(others.values()), f"{others} differ after a kill at operation {place} of {total}"
        standing = [files for which, files in both.items() if not others[which]]
        for name in found.keys() - recorded:
            assert found[name] in [files.get(name) for files in standing], f"{name} shows another record"
        if place == places(total)[0]:
            done = rbrbench(*case.command, cwd=folder)
            after = contents(folder / "results" / record.name)
            assert done.returncode == case.exit_code and after.keys() == new.keys()
            assert [n for n in new if after[n] != new[n]] == []
        shutil.rmtree(folder)
