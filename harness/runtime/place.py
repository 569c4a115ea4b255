"""Which of the processes of a run this one is, by what the launcher that started them announced."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from dataclasses import dataclass

from harness.storage.digest import digest

PARENT = "RBRBENCH_PARENT"  # in a worker: the process that started it
SLURM = {
    "RANK": "SLURM_PROCID",
    "WORLD_SIZE": "SLURM_STEP_NUM_TASKS",
    "LOCAL_RANK": "SLURM_LOCALID",
}
# By which libraries would take a stage of one process for one of several.
OF_LAUNCHERS: tuple[str, ...] = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_", "TORCHELASTIC_", "ACCELERATE_", "FSDP_"),
    *("PMI_", "PMIX_", "OMPI_COMM_WORLD_"),
)


@dataclass(frozen=True)
class Place:
    """This process among the `count` of its run; `local`: among those of its machine. `meeting` names the launch."""

    rank: int
    count: int
    local_rank: int
    local_count: int
    address: str  # of the first one's machine; "": it has to say
    meeting: str

    def variables(self, address: str, port: int) -> dict[str, str]:
        """What tells torch its place in a training whose first worker listens at `address` and `port`."""
        numbers = {"RANK": self.rank, "WORLD_SIZE": self.count, "LOCAL_RANK": self.local_rank}
        numbers |= {"LOCAL_WORLD_SIZE": self.local_count, "MASTER_PORT": port}
        return {name: str(number) for name, number in numbers.items()} | {"MASTER_ADDR": address}


def place_in(environment: MutableMapping[str, str]) -> Place | None:
    """By what a launcher announced, which is taken out of `environment`; None for one process.

    Under SLURM a process that `srun` started: a batch script is told how many tasks it may start, and is one.
    """
    names = {} if "WORLD_SIZE" in environment else SLURM
    found = {name: environment.get(names.get(name, name), "") for name in SLURM}
    if not all(value.isdigit() for value in found.values()) or int(found["WORLD_SIZE"]) < 2:
        return None
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE" if names else "LOCAL_WORLD_SIZE", "1")
    local = int("".join(x if x.isdigit() else " " for x in tasks).split()[0])  # SLURM says `4(x2)`
    launch = ["MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"]
    launch += ["SLURM_JOB_ID", "SLURM_STEP_ID"] if names else []
    meeting = digest([environment.get(name, "") for name in launch])
    rank, count, local_rank = (int(found[name]) for name in SLURM)
    place = Place(rank, count, local_rank, local, environment.get("MASTER_ADDR", ""), meeting)
    for name in [name for name in environment if name.startswith(OF_LAUNCHERS)]:
        del environment[name]
    return place


_started: list[Place | None] = []


def started_place() -> Place | None:
    """This process's place, as it was when it started; None where no launcher started several, and in a worker."""
    if PARENT in os.environ:
        return None
    if not _started:
        _started.append(place_in(os.environ))
    return _started[0]


def is_placed() -> bool:
    """Whether this process is one of several that a launcher started, or a worker."""
    return PARENT in os.environ or started_place() is not None
