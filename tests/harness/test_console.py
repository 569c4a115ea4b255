"""harness/runtime/console.py: bars for people at a terminal, plain lines everywhere else."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from harness.runtime.console import Console, duration
from harness.storage.provenance import ROOT
from harness.storage.store import Artifact


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def artifact(cached: bool, seconds: float = 41.23, memory: float = 612.4) -> Artifact:
    return Artifact(Path("x"), "0" * 16, "pretrain", cached, seconds, memory, {})


def test_plain_lines_have_share_rate_and_time_left(stream: io.StringIO) -> None:
    """A log of a long run stayed silent for an hour, or got a line for every step."""
    clock = Clock()
    console = Console(stream, clock=clock, interval=10)
    with console.stage("ppo rbr", total=100, unit="updates") as advance:
        for _ in range(25):
            clock.now += 1
            advance(1)
    assert stream.getvalue().splitlines() == [
        "ppo rbr:  10 %  10/100 updates  1.0/s  1 min 30 s left",
        "ppo rbr:  20 %  20/100 updates  1.0/s  1 min 20 s left",
    ]


def test_unknown_total_has_no_share(stream: io.StringIO) -> None:
    """A stage of unknown length claimed to be 0 % done."""
    clock = Clock()
    with Console(stream, clock=clock, interval=2).stage("read", unit="rows") as advance:
        for _ in range(2):
            clock.now += 1
            advance(500)
    assert stream.getvalue().splitlines() == ["read: 1,000 rows  500.0/s"]


def test_rate_counts_this_run_s_work_only(stream: io.StringIO) -> None:
    """A resumed stage reported the rate of work that an earlier run had done."""
    clock = Clock()
    with Console(stream, clock=clock, interval=2).stage("ppo", total=100) as advance:
        advance(80)  # found done
        for _ in range(2):
            clock.now += 1
            advance(1)
    assert stream.getvalue().splitlines() == ["ppo:  82 %  82/100 steps  1.0/s  18 s left"]


def test_line_at_a_stage_s_end(stream: io.StringIO) -> None:
    """Nobody could see which stages came from the store and what the others had cost."""
    console = Console(stream)
    console.finished("pretrain", artifact(cached=False), "loss 1.93")
    console.finished("sft/helpful", artifact(cached=True, seconds=3723))
    assert stream.getvalue().splitlines() == [
        "pretrain                     computed in           41 s      612 MB  loss 1.93",
        "sft/helpful                  cached, saved   1 h 02 min      612 MB",
    ]


def test_report_path_is_the_last_line_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """A script that takes the report's path from the last line got a progress bar."""
    console = Console()
    with console.stage("evaluate", total=1) as advance:
        advance(1)
    console.report("results/demo/report.html")
    out, err = capsys.readouterr()
    assert out == "Report: results/demo/report.html\n"
    assert err == ""


def test_text_is_never_markup_and_never_wrapped(stream: io.StringIO) -> None:
    """A name in square brackets vanished; a long path was broken in two."""
    text = "[red]suites=[xstest][/red] " + "x" * 300
    Console(stream).say(text)
    assert stream.getvalue() == text + "\n"


def test_stage_ends_when_its_work_fails(stream: io.StringIO) -> None:
    """An exception inside a stage left its bar on the screen for the rest of the run."""
    console = Console(stream)
    with pytest.raises(ValueError), console.stage("outer", total=1), console.stage("inner", total=1):
        raise ValueError("diverged")
    with console.stage("next", total=1) as advance:
        advance(1)
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (7384, "2 h 03 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    """59.6 seconds were shown as "60 s", and 9.96 as "10.0 s"."""
    assert duration(seconds) == text


CHILD = textwrap.dedent(
    """
    import sys, time
    from harness.runtime.console import Console

    console = Console()
    with console.stage("pretrain", total=40, unit="steps") as advance:
        with console.stage("[inner]", total=4) as inner:
            for _ in range(4):
                time.sleep(0.25)
                advance(10)
                inner(1)
        print("a library's own line", file=sys.stderr)
    console.say("pretrain done")
    """
)


def on_terminal(program: str, term: str) -> str:
    """What a program writes to a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": term, "COLUMNS": "100"}
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        environment.pop(name, None)
    child = subprocess.Popen([sys.executable, "-c", program], stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    written = b""
    while block := _read(ours):
        written += block
    os.close(ours)
    assert child.wait(60) == 0, written.decode()
    return written.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux reports the other side's end as an input/output error
        return b""


def test_bars_at_a_real_terminal() -> None:
    """Two bars at once raised LiveError; a library's line tore the bar apart."""
    written = on_terminal(CHILD, "xterm-256color")
    assert "pretrain" in written and "[inner]" in written
    assert re.search(r"\d+/40 steps", written) and re.search(r"[\d.]+/s  [\d.]+ s left", written)
    lines = [line for line in written.splitlines() if "library" in line or "done" in line]
    assert [line.rstrip()[-20:] for line in lines] == ["a library's own line", "pretrain done"]


def test_no_bars_at_a_dumb_terminal() -> None:
    """An editor's console filled with control codes."""
    assert on_terminal(CHILD, "dumb").splitlines() == ["a library's own line", "pretrain done"]
