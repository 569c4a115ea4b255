"""Stages at once: what a process beside a run computes is what the run would have."""

from __future__ import annotations

import io
import time
from pathlib import Path
from shutil import copytree, rmtree

import pytest
from tiny_runs import SMOKE

from evals.values.errors import InputError
from harness.keys.run import compose_run
from harness.pipeline.beside import processes_beside
from harness.runtime.console import Console
from harness.storage.store import Store

LONGEST = 240.0  # seconds for a few stages of a smoke run, on a machine that others use


def test_a_process_beside_computes_the_same_bytes(smoke_run: Path, tmp_path: Path) -> None:
    """A run of which another process did a part must be the run that one process makes."""
    store = Path(copytree(smoke_run / "results" / ".store", tmp_path / "results" / ".store"))
    made = sorted(p.relative_to(store) for stage in ("ppo", "judged") for p in (store / stage).glob("[!.]*"))
    for stage in ("ppo", "judged"):
        rmtree(store / stage)
    config = compose_run([*SMOKE[1:], f"results={tmp_path / 'results'}", "at_once=2"])
    begun = time.monotonic()
    with processes_beside(config, Store(store), Console(io.StringIO())):
        while not all((store / path).is_dir() for path in made) and time.monotonic() < begun + LONGEST:
            time.sleep(0.2)
    assert len(made) == 3 + 12
    for path in made:
        before, now = smoke_run / "results" / ".store" / path, store / path
        files = [p.relative_to(before) for p in before.rglob("*") if p.is_file()]
        kept = [p for p in files if p.name not in ("manifest.json", "timings.jsonl")]
        assert kept
        assert all((before / p).read_bytes() == (now / p).read_bytes() for p in kept), path


def test_a_process_beside_is_gone_when_the_run_ends_early(tmp_path: Path) -> None:
    """A run that failed left a process that went on for hours."""
    config = compose_run([*SMOKE[1:], f"results={tmp_path / 'results'}", "at_once=3"])
    store = Store(tmp_path / "results" / ".store")
    with pytest.raises(KeyError), processes_beside(config, store, Console(io.StringIO())):
        raise KeyError("the run's own")
    assert len(store.beside) == 2
    assert not any(Path(f"/proc/{process}").exists() for process in store.beside)


@pytest.mark.parametrize("asked", ["processes=2", "grader.kind=server"])
def test_what_several_may_not_do_at_once_is_refused(asked: str) -> None:
    """Two processes would train with twice as many, or spend a server's budget twice."""
    server = ["grader.server.url=http://localhost:1", "grader.server.model=m"] if "server" in asked else []
    with pytest.raises(InputError, match="at_once=2"):
        compose_run([*SMOKE[1:], asked, *server, "at_once=2"])
