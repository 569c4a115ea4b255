"""The command line's surroundings: streams that are closed or full, interrupts, faults of our own; as processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import harness.commands
from evals.values.errors import InputError, visible
from harness.runtime.console import Terminal
from rbrbench.cli import main

ROOT = Path(__file__).parents[2]
RULEBOOK = str(ROOT / "conf/rulebooks/sandbox.yaml")
SHELL = f"{sys.executable} -m rbrbench"


def hears_interrupts() -> None:
    """In a child: a test run's own SIGINT may be ignored, which children inherit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def shell(line: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        preexec_fn=hears_interrupts,
    )


def test_a_fault_of_our_own_is_one_line_and_never_a_gates_no(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A traceback ended with exit code 1, which means that a gate says no."""

    def broken(*_: object) -> int:
        raise KeyError("\x1b]0;owned\x07")

    monkeypatch.setattr("rbrbench.cli._run", broken)
    assert main(["report", "x"]) == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert "KeyError" in line and "\x1b" not in line
    found = re.search(r"the details stand in (\S+)$", line)
    assert found is not None
    details = Path(found[1])
    assert "Traceback" in details.read_text(encoding="utf-8")
    details.unlink()


def test_memory_and_the_systems_errors_are_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit of memory, or a folder that cannot be read, was a page of traceback and exit code 1."""
    errors: list[Exception] = [
        MemoryError(),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"
        ),
        PermissionError(13, "Permission denied", "/root/x"),
    ]
    for error, said in zip(
        errors, ("out of memory", "out of memory", "/root/x: Permission denied"), strict=True
    ):

        def broken(*_: object, error: Exception = error) -> int:
            raise error

        monkeypatch.setattr("rbrbench.cli._run", broken)
        assert main(["report", "x"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (f"{SHELL} rulebook {RULEBOOK} >&-", 0),
        (f"{SHELL} rulebook {RULEBOOK} 2>&-", 0),
        (f"{SHELL} rulebook missing.yaml 2>&-", 2),
        (f"{SHELL} rulebook {RULEBOOK} > /dev/full", 2),
        (f"{SHELL} rulebook missing.yaml 2> /dev/full", 2),
        (f"set -o pipefail; {SHELL} rulebook {RULEBOOK} | head -1", 0),
        (f"PYTHONIOENCODING=ascii {SHELL} rulebook {RULEBOOK}", 0),
    ],
)
def test_streams_that_are_closed_full_or_ascii(line: str, code: int) -> None:
    """A traceback at the end of a command that did its work; a reader that had enough was an error."""
    done = shell(line)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert len(done.stderr.splitlines()) == int(code == 2 and "2>" not in line)


def test_a_working_folder_that_is_gone(tmp_path: Path) -> None:
    done = shell(
        f"mkdir gone && cd gone && rmdir ../gone && {SHELL} gold grader.kind=recorded data=x", tmp_path
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr


def test_an_interrupt_while_modules_load_ends_the_process() -> None:
    """Libraries try imports and swallow what comes out: once in fourteen the run went on, and ended with 0."""
    program = (
        "import importlib, signal, sys\n"
        "from rbrbench.surroundings import end_at_interrupt_of_an_import\n"
        "end_at_interrupt_of_an_import()\n"
        "try:\n    import swallowed\nexcept BaseException:\n    pass\n"
        "print('went on')\n"
    )
    module = "import signal\ntry:\n    signal.raise_signal(signal.SIGINT)\nexcept BaseException:\n    pass\n"
    done = shell(
        "d=$(mktemp -d); printf '%s' \"$MODULE\" > $d/swallowed.py; "
        f'PYTHONPATH=$d:{ROOT} {sys.executable} -c "$PROGRAM"',
        MODULE=module,
        PROGRAM=program,
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert (
        done.stderr
        == "rbrbench: interrupted; finished stages are kept, the same command goes on from there\n"
    )


def test_interrupts_in_the_first_second_end_with_130() -> None:
    for wait in (0.1, 0.4, 0.9):
        process = subprocess.Popen(
            [sys.executable, "-m", "rbrbench", "run", "experiment=smoke", "name=never"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=hears_interrupts,
        )
        time.sleep(wait)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        started = "interrupted" in errors  # before its first line Python itself answers, with a trace
        assert process.returncode in ((130,) if started else (130, 1, -signal.SIGINT))


def test_text_of_others_does_not_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Names, columns, questions and reasons reached the terminal as they were: a title was set, a line erased."""
    hostile = "\x1b]0;owned\x07 \x9b2J \u202e reversed \ud800"
    assert str(InputError(hostile, field=hostile, fix="no")).isprintable()
    Terminal().print(hostile)
    shown = capsys.readouterr().out
    assert not set("\x1b\x07\x9b\u202e\ud800") & set(shown)
    assert "\\x1b]0;owned" in shown
    assert visible("Straße, 你好, ¿qué?\nline") == "Straße, 你好, ¿qué?\nline"


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """`rbrbench run --version` told Hydra's."""
    assert main(["--version"]) == main(["run", "--version"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second and re.fullmatch(r"rbrbench \d+\.\d+\.\d+", first)


def test_every_command_can_be_called_through_the_guard() -> None:
    assert set(harness.commands.COMMANDS) >= {"run", "evaluate", "regress"}
    assert main(["--help"]) == 0
