"""Several processes of one machine, as `processes=N` starts them: what they tell, how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from evals.values.errors import InputError
from harness.keys.run import compose_run
from harness.runtime.launch import read_launch, run_in_processes

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "launched_program"
PARENT = f"""
from harness.runtime.launch import run_in_processes
run_in_processes({PROGRAM!r}, ['wait', %r], 2, 'one_node', print)
"""


@pytest.fixture(autouse=True)
def paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests" / "tiny")]))


def run(what: str, folder: Path) -> list[tuple[str, Any]]:
    told: list[tuple[str, Any]] = []
    run_in_processes(PROGRAM, [what, str(folder)], 2, "one_node", lambda *message: told.append(message))
    return told


@pytest.mark.slow
def test_what_processes_tell_is_heard(tmp_path: Path) -> None:
    assert sorted(run("tell", tmp_path)) == [("say", "0 of 2"), ("say", "1 of 2")]
    assert {p.name for p in tmp_path.iterdir()} == {"0", "1"}


@pytest.mark.slow
def test_processes_import_what_their_launcher_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An evals.py in the working folder stopped every process but the first one, which `rbrbench` had started."""
    (tmp_path / "evals.py").write_text("raise SystemExit('the other evals ran')\n")
    monkeypatch.chdir(tmp_path)
    assert len(run("tell", tmp_path)) == 2


@pytest.mark.slow
def test_an_error_in_a_process_is_the_launchers_own(tmp_path: Path) -> None:
    """A person saw the launcher's page of traces, and exit code 1."""
    with pytest.raises(InputError) as error:
        run("fail", tmp_path)
    assert str(error.value) == "field 'ppo.updates': is 7; give less; or more"


@pytest.mark.slow
def test_a_crash_shows_its_trace(tmp_path: Path) -> None:
    """All that was seen was the launcher's own trace."""
    with pytest.raises(RuntimeError, match="OSError: no such luck"):
        run("crash", tmp_path)


@pytest.mark.slow
def test_a_killed_process_is_one_line(tmp_path: Path) -> None:
    """A hundred lines of trace, in which the rank and the signal stood somewhere, and exit code 1."""
    with pytest.raises(InputError) as error:
        run("die", tmp_path)
    assert "was killed by SIGKILL, of 2 processes; see what killed it" in str(error.value)
    assert "process 1 was" in str(error.value) or "process 0 was" in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 1), (signal.SIGKILL, -9)]
)
def test_no_process_outlives_the_one_that_launched_it(tmp_path: Path, number: int, code: int) -> None:
    """They went on writing into a folder that the next run had taken."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT % str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A test run's own SIGINT may be ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        pids = wait_for(lambda: [int(p.read_text() or 0) for p in tmp_path.iterdir()], 2)
        parent.send_signal(number)
        assert parent.wait(90) in (code, -number)
        wait_for(lambda: [pid for pid in pids if not is_running(pid)], 2)
    finally:
        parent.kill()


def wait_for(found: Any, count: int) -> list[int]:
    """What `found` gives, once it is `count` numbers above 0."""
    for _ in range(600):
        values = found()
        if len(values) == count and all(values):
            return values
        time.sleep(0.1)
    raise AssertionError(values)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        (["launch=fsdp"], "launch"),
        (["processes=0"], "processes"),
        (["processes=2", "launch=nowhere.yaml"], "launch"),
        (["processes=2", "algorithm=TRPO"], "processes"),
        (["processes=3", "algorithm=GRPO"], "group_size"),
        pytest.param(
            ["processes=2", "launch=deepspeed_zero2"],
            "launch",
            marks=pytest.mark.skipif(find_spec("deepspeed") is not None, reason="DeepSpeed is installed"),
        ),
        (["processes=2", "ppo.batch_size=1"], "ppo.batch_size"),
        (["processes=2", "renewal.every=2"], "renewal.every"),
        (["processes=2", "renewal.grader.every=2"], "renewal.grader"),
        (["processes=2", "launch=fsdp", "ppo.shared_trunk=true"], "ppo.shared_trunk"),
        (["processes=2", "launch=fsdp", "ppo.offload=true"], "ppo.offload"),
        (["processes=2", "launch=fsdp", "vllm=http://127.0.0.1:8000"], "vllm"),
    ],
)
def test_what_does_not_go_with_processes_is_refused_before_anything_runs(
    overrides: list[str], field: str
) -> None:
    with pytest.raises(InputError, match=f"field '{field}'"):
        compose_run(["experiment=smoke", *overrides])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- a\n", "no distributed_type"),
        ("a: [", "cannot be read"),
        ("{distributed_type: NO, num_machines: 2}", "2 machines"),
    ],
)
def test_a_file_that_is_no_launch_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "launch.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=problem):
        read_launch(str(path))
