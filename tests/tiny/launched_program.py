"""What tests/harness/test_launch.py starts in several processes."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from evals.values.errors import InputError
from harness.runtime.launch import end_with_parent, tell, telling_failures


def main(what: str, folder: str) -> None:
    rank = os.environ["RANK"]
    end_with_parent(0.2)
    with telling_failures():
        if what == "fail":
            raise InputError("is 7", field="ppo.updates", fix="give less; or more")
        if what == "crash":
            raise OSError("no such luck")
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        tell("say", f"{rank} of {os.environ['WORLD_SIZE']}")
        print("a library's own line")
        Path(folder, rank).write_text(str(os.getpid()))
        if what == "wait":
            time.sleep(300)


if __name__ == "__main__":
    main(*sys.argv[1:])
