"""Processor seconds until a command answers: each one's --help, a configuration, a mistyped key.

    python benchmarks/start_up.py [TIMES]           median of so many processes each, 5 by default

User and system time of a fresh process whose bytecode is there, wherever it waits meanwhile.
"""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median

from harness.commands import COMMANDS

ASKED = (
    *([command, "--help"] for command in COMMANDS),
    ["run", "--cfg", "job", "experiment=demo"],
    ["run", "experiment=demo", "ppo.updatess=3"],
    ["run", "experiment=demo", "sed=1"],
)


def seconds(arguments: list[str]) -> float:
    program = [sys.executable, "-m", "rbrbench", *arguments]
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    used = os.wait4(process.pid, 0)[2]
    process.returncode = 0  # waited for
    return used.ru_utime + used.ru_stime


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    for arguments in ASKED:
        seconds(arguments)
        print(
            f"{median(seconds(arguments) for _ in range(times)):6.2f}  rbrbench {' '.join(arguments)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
