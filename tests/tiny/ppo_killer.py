"""Run as a program: train in a child process, kill it with SIGKILL, start it again, until it ends.

    python ppo_killer.py OUT KILLS

In OUT/phases one kill inside each phase and then a run to the end; in OUT/random KILLS kills at
random moments, from the start again where a run ended before its kill, and then a run to the end.
Children are forked, since starting Python and importing torch would take longer than all of the training.
Prints a line a child: where it was killed, or `finished`.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import evals.models.token_loop
import trainers.devices.processes
import trainers.rl.checkpoint
import trainers.rl.ppo
import trainers.rl.saved_state

sys.path.insert(0, str(Path(__file__).parent))
import ppo_world


def always(*_: Any) -> bool:
    return True


def of_state(*paths: Any) -> bool:
    """Whether a function is about to touch a whole state; it is written under another name."""
    return Path(paths[-1]).name.startswith("state-")


# Phase -> the function in whose n-th call, of those that the last part picks, the child dies.
PHASES: dict[str, tuple[Any, str, int, Callable[..., bool]]] = {
    "sampling": (evals.models.token_loop.TokenLoop, "choose", 12, always),
    "grading": (ppo_world.NoisyReward, "__call__", 3, always),
    "update": (trainers.devices.processes.Processes, "step", 21, always),
    "writing a state": (trainers.rl.saved_state, "save_file", 7, always),
    "after writing, before renaming": (trainers.rl.checkpoint.os, "replace", 2, of_state),
    "dropping an old state": (trainers.rl.checkpoint.shutil, "rmtree", 1, of_state),
    "writing a checkpoint": (trainers.rl.checkpoint, "save_plain", 1, always),
    "after a row, before its times": (trainers.rl.checkpoint.RunFolder, "record_times", 1, always),
    "finishing": (trainers.rl.checkpoint.RunFolder, "finish", 1, always),
    "dropping the last states": (trainers.rl.checkpoint.shutil, "rmtree", 1, of_state),
}


def die_in(owner: Any, name: str, call: int, picks: Callable[..., bool]) -> None:
    """Make the `call`-th call of owner.name that is picked kill this process."""
    original, calls = getattr(owner, name), [0]

    def dying(*args: Any, **kwargs: Any) -> Any:
        calls[0] += picks(*args)
        if calls[0] == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, name, dying)


def child(out: Path, phase: str | None, delay: float | None) -> int:
    """Train in a child, to the end, or until it dies in `phase` or after `delay` seconds; its status."""
    pid = os.fork()
    if pid == 0:
        if phase is not None:
            die_in(*PHASES[phase])
        ppo_world.train_noisily(out)
        os._exit(0)
    if delay is not None:
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(out: Path, kills: int) -> None:
    torch.set_num_threads(1)
    phases, at_random = out / "phases", out / "random"
    for phase in PHASES:
        print(phase if child(phases, phase, None) == -signal.SIGKILL else "finished", flush=True)
    print("finished" if child(phases, None, None) == 0 else "failed", flush=True)
    rng = random.Random(0)
    while kills:
        delay = rng.uniform(0.0, 0.4)
        killed = child(at_random, None, delay) == -signal.SIGKILL
        print(f"{delay:.3f} s" if killed else "finished", flush=True)
        kills -= killed
        if not killed:  # faster than the delay: the next ones need something to kill
            shutil.rmtree(at_random)
    print("finished" if child(at_random, None, None) == 0 else "failed", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
