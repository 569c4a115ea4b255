"""A sweep of which a job, the launcher or everything is killed: the same command ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest
from killed_sweeps import (
    AT_ONCE,
    GROUP,
    JOB,
    LAUNCHER,
    SWEEP,
    Contents,
    computed,
    contents,
    disturbed,
    finished,
)
from tiny_runs import rbrbench

from harness.storage.provenance import ROOT
from rbrbench.cli import main

SMALL = ["ppo.updates=3", "evaluation.graded_samples=0"]
# What the jobs compute; all before it they find, from the smoke run.
MISSING = ("reward_model", "ppo", "responses", "judged", "capability", "graded samples")


class Forked:
    """The command in a fork of this process, which has imported all that it needs, as the leader of a session."""

    def __init__(self, folder: Path, keys: Sequence[str]) -> None:
        self.code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                code = self._run(folder, keys)
            except BaseException:  # whatever is raised ends here, and not in the test
                traceback.print_exc()
            finally:
                os._exit(code)

    @staticmethod
    def _run(folder: Path, keys: Sequence[str]) -> int:
        os.setsid()
        os.chdir(folder)
        said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(said, stream)
        os.environ |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
        tempfile.tempdir = None
        with open(1, "w", closefd=False) as out, pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdout", out)
            patch.setattr("sys.stderr", out)
            return main([*SWEEP, *AT_ONCE, *keys])

    def poll(self) -> int | None:
        return self._ended(os.WNOHANG)

    def wait(self) -> int:
        code = self._ended(0)
        assert code is not None
        return code

    def _ended(self, how: int) -> int | None:
        if self.code is None:
            number, status = os.waitpid(self.pid, how)
            self.code = os.waitstatus_to_exitcode(status) if number else None
        return self.code


@pytest.fixture(scope="module")
def world(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the jobs share and do not compute, to be copied."""
    folder = tmp_path_factory.mktemp("killed")
    store = smoke_run / "results" / ".store"
    copytree(store, folder / "results" / ".store", ignore=ignore_patterns(*MISSING))
    return folder


@pytest.fixture(scope="module")
def undisturbed(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """By one process, one job after the other."""
    folder = copytree(world, tmp_path_factory.mktemp("undisturbed") / "sweep")
    done = rbrbench(*SWEEP, *SMALL, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    counts = computed(done.stderr)
    assert counts["reward_model: helpful"] == 1 and counts["ppo: helpful_ppo"] == 2, counts
    return contents(folder)


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "stage"), [(JOB, "ppo"), (LAUNCHER, "reward_model"), (GROUP, "judged")])
def test_the_same_command_ends_as_an_undisturbed_sweep(
    world: Path, undisturbed: Contents, tmp_path: Path, victim: str, stage: str
) -> None:
    """A half-written stage was read, a dead job's stage waited for, or a finished one computed again.

    Killed once `stage` is being computed, or is there. More kills, at random, are a benchmark's: killed_sweeps.py.
    """
    folder = copytree(world, tmp_path / "sweep")
    before = len(finished(folder))

    def is_time() -> bool:
        return bool(list((folder / "results" / ".store").glob(f"{stage}/*")))

    killed = disturbed(folder, SMALL, victim, is_time, random.Random(0), undisturbed, Forked)
    assert killed == (victim, [])
    assert len(finished(folder)) > before
    assert {"metrics.csv", "training.jsonl"} < {*undisturbed}
    assert {name.partition("/")[0] for name in undisturbed} > {"samples", "models"}
