"""The command line in this process, one smoke run for all workers, and a folder to try a page's commands in."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from harness.storage.provenance import ROOT
from rbrbench.cli import main

SHELL_SIGNS = set("|&;<>$`~*?\\")
SMOKE = ["run", "experiment=smoke", "threads=1"]


@dataclass(frozen=True)
class Done:
    """What a command left, under subprocess's names."""

    returncode: int
    stdout: str
    stderr: str


def rbrbench(*arguments: str, cwd: Path) -> Done:
    """The command in this process: where the process itself is not what is tested, it costs no import of torch."""
    out, errors = io.StringIO(), io.StringIO()
    with chdir(cwd), redirect_stdout(out), redirect_stderr(errors):
        code = main(list(arguments))
    return Done(code, out.getvalue(), errors.getvalue())


def rbrbench_process(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command as a user starts it, with these of the environment."""
    return subprocess.run(
        [sys.executable, "-m", "rbrbench", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        timeout=600,
    )


def finished_smoke_run(shared: Path) -> Path:
    """A folder in `shared` with one finished smoke run, made by whichever worker comes first; nobody writes to it."""
    folder = shared / "smoke_run"
    with FileLock(f"{folder}.lock"):
        if not (folder / "finished").exists():
            folder.mkdir(exist_ok=True)
            done = rbrbench_process(*SMOKE, cwd=folder)
            assert done.returncode == 0, done.stderr[-2000:]
            assert done.stdout.strip().endswith("results/smoke/report.html")
            (folder / "finished").touch()
    return folder


class Checkout:
    """A folder like the checkout: conf/, and `rbrbench` on the path. `modules` are folders to import from, too."""

    def __init__(self, folder: Path, modules: Sequence[Path] = ()) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "conf", folder / "conf")
        script = folder / "bin" / "rbrbench"
        script.parent.mkdir()
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m rbrbench "$@"\n')
        script.chmod(0o755)
        path = f"{script.parent}{os.pathsep}{os.environ['PATH']}"
        own = os.pathsep.join(map(str, [ROOT, *modules]))
        self.environment = os.environ | {"PATH": path, "PYTHONPATH": own, "CUDA_VISIBLE_DEVICES": ""}

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def line(self, command: str) -> Done | subprocess.CompletedProcess[str]:
        """A line of a page: in this process where it is `rbrbench` with plain arguments."""
        words = shlex.split(command, comments=True)
        if words[:1] != ["rbrbench"] or SHELL_SIGNS & set(command.partition(" #")[0]):
            return self.shell(command)
        return rbrbench(*words[1:], cwd=self.folder)

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        """A line or a block of a page, up to its first failure."""
        return self.run(["bash", "-e", "-c", command])
