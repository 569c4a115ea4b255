"""harness/commands/completion.py: what bash completes."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.commands import COMMANDS
from harness.commands.completion import complete, replies

ROOT = Path(__file__).resolve().parents[2]
BREAKS = " \t\n\"'><=;|&(:"  # bash's own
INSTALL = 'eval "$(rbrbench run --shell-completion install=bash)"'


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """The environment of a bash that finds the command."""
    program = tmp_path / "bin/rbrbench"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rbrbench "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "TERM": "dumb", "PS1": "> "}


def tabbed(typed: str, whole: str, shell: dict[str, str], cwd: Path) -> None:
    """Waits until `whole` stands on bash's line after `typed` and a tab; fails where it does not come."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(cwd)
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], shell)

    def until(end: str) -> None:
        seen, deadline = "", time.monotonic() + 120
        while end not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([terminal], [], [], 1.0)[0]:
                seen += os.read(terminal, 4096).decode()

    try:
        os.write(terminal, f"{INSTALL}; echo rea''dy\n".encode())
        until("ready\r\n")
        os.write(terminal, f"{typed}\t".encode())
        until(whole)
    finally:
        os.write(terminal, b"\x03\nexit\n")
        os.close(terminal)
        os.waitpid(process, 0)


def test_bash_completes_a_line(shell: dict[str, str], tmp_path: Path) -> None:
    """Hydra's completion asked `rbrbench -sc query=bash`, which is no command, and completed nothing."""
    program = (
        f"{INSTALL}; "
        + """
    for line in 'rbrbench eval' 'rbrbench run experiment=smol' 'rbrbench run ppo.kl_coe' 'rbrbench run algorithm=r' \\
        'rbrbench evaluate decoding.temp' 'rbrbench run --config-dir mine experiment=my'; do
        COMP_LINE="$line" COMP_POINT=${#line}
        _rbrbench rbrbench
        printf '[%s]' "${COMPREPLY[@]}"; echo
    done; complete -p rbrbench; echo "$COMP_WORDBREAKS" """
    )
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/my$(touch harm).yaml").write_text("name: x\n")
    done = subprocess.run(
        ["bash", "--norc", "-c", program],
        env=shell,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:6] == [
        "[evaluate ]",
        "[smollm ]",
        "[ppo.kl_coef=]",
        "[reinforce ][rloo ]",
        "[decoding.temperature=]",
        "[my$(touch harm) ]",
    ]
    assert "-F _rbrbench" in lines[6] and "=" in done.stdout.partition("rbrbench rbrbench")[2]
    assert not (tmp_path / "harm").exists()


def test_a_tab_completes_what_was_typed(shell: dict[str, str], tmp_path: Path) -> None:
    """A reply that repeats the key before `=` makes `experiment=experiment=smollm` of the line."""
    (tmp_path / "own_rules.yaml").write_text("")
    tabbed("rbrbench run experiment=smol", "rbrbench run experiment=smollm ", shell, tmp_path)
    tabbed("rbrbench run rulebook=own", "rbrbench run rulebook=own_rules.yaml", shell, tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_completes_its_keys(command: str) -> None:
    """What --help lists is what is completed, one level at a time."""
    found = replies(f"rbrbench {command} ", BREAKS)
    assert all(reply[-1] in "=." and reply.count(".") <= 1 for reply in found)
    assert bool(found) == (command not in ("rulebook", "freeze", "fetch"))


def test_hydras_keys_and_nested_options_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine/experiment/kl").mkdir(parents=True)
    (tmp_path / "mine/experiment/kl/low.yaml").write_text("name: x\n")
    assert replies("rbrbench run hydra", BREAKS) == ["hydra.", "hydra/launcher=", "hydra/sweeper="]
    assert replies("rbrbench run hydra/launcher=ra", BREAKS) == ["ray "]
    assert replies("rbrbench run hydra.s", BREAKS) == ["hydra.sweep."]
    assert replies("rbrbench run --config-dir ~/mine experiment=kl", BREAKS) == ["kl/low "]


def test_what_is_unknown_is_completed_by_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tab in the middle of a mistyped line printed a traceback into it."""
    for line in (
        "",
        "rbrbench",
        "rbrbench nonsense x",
        "rbrbench run no.such.key=",
        "rbrbench run ==",
        "rbrbench run é",
    ):
        monkeypatch.setenv("COMP_LINE", line)
        monkeypatch.setenv("COMP_POINT", str(len(line.encode())))
        assert complete(["-sc", "query=bash"]) == 0
    assert not capsys.readouterr().out.replace("--help", "").strip().startswith("Traceback")
