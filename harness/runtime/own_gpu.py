"""A GPU of its own for each of several jobs on one machine, where no cluster gives it."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

from evals.values.errors import InputError

VISIBLE = "CUDA_VISIBLE_DEVICES"
_held: list[int] = []  # descriptors, which lock until the process ends, however it ends


def visible_gpus() -> list[str]:
    """As the environment names them, else those that the machine has."""
    if VISIBLE in os.environ:
        return [name.strip() for name in os.environ[VISIBLE].split(",") if name.strip()]
    return sorted(path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))


def take_gpu(*, of_a_sweep: bool = True) -> str | None:
    """The one that this process has from now on; None where there are fewer than two to choose from.

    `of_a_sweep`: joblib's launcher started the process, and not another one.

    To be called before CUDA is used. Raises InputError where other processes have them all.
    """
    names = visible_gpus()
    if len(names) < 2:
        return None
    for name in names:
        place = Path(tempfile.gettempdir()) / f"rbrbench-gpu-{os.getuid()}-{name.replace('/', '-')}"
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        _held.append(descriptor)
        os.environ[VISIBLE] = name
        return name
    problem, key = f"more jobs at once than the {len(names)} GPUs here", "hydra.launcher.n_jobs"
    if not of_a_sweep:
        raise InputError(problem, fix=f"start {len(names)} processes on this machine")
    raise InputError(problem, field=key, fix=f"give {key}={len(names)}")
