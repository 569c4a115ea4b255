"""Training over two "machines" on one: losses and weights of one process, and a kill of either resumed.

    python benchmarks/two_machines.py [--launcher accelerate|torchrun] [--repeats 1] [--folder FOLDER] [KEY=VALUE ...]

Two launchers, each with `num_machines: 2` and a process of its own, on the loopback. Trains PPO at smoke size in one
process, over both, and over both with all processes of either machine killed (SIGKILL) once a state is saved: the other
has to end within a minute, and the same command to go on. Prints the largest difference of a metric (by its size, or 1)
and of a weight from those of one process, and how long the survivor took to end. Ends with 1 beyond 1e-5 or a minute.
REPEATS kills of each machine; some 5 minutes with one on two idle cores. Further KEY=VALUE make the training larger.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[1]
RUN = ["run", "experiment=smoke", "threads=1", "methods=[helpful_ppo]", "capability.tasks=[]"]
RUN += ["evaluation.graded_samples=0", "ppo.save_every=1"]
CLOSE, SOON = 1e-5, 60.0
NAMES = ("first", "second")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def command(launcher: str, machine: int, port: int) -> list[str]:
    if launcher == "torchrun":
        found = ["torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1"]
        found += ["--node_rank", str(machine), "--master_addr", "127.0.0.1", "--master_port", str(port), "-m"]
        return [sys.executable, "-m", *found, "rbrbench"]
    found = ["accelerate.commands.launch", "--config_file", str(ROOT / "conf/accelerate/two_machines.yaml")]
    found += ["--num_processes", "2", "--machine_rank", str(machine), "--main_process_ip", "127.0.0.1"]
    return [sys.executable, "-m", *found, "--main_process_port", str(port), "--module", "rbrbench"]


def start(
    folder: Path, name: str, keys: list[str], launcher: str, machine: int | None = None, port: int = 0
) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    program = [sys.executable, "-m", "rbrbench"] if machine is None else command(launcher, machine, port)
    several = [] if machine is None else ["processes=2", "launch=two_machines"]
    with open(folder / f"said-{name}-{machine}.txt", "ab") as said:
        arguments = [*program, *RUN, *several, f"name={name}", *keys]
        return subprocess.Popen(
            arguments, cwd=folder, env=environment, stdout=said, stderr=said, start_new_session=True
        )


def kill_tree(top: int) -> None:
    """SIGKILL to a process and all that it has started: a launcher gives its processes sessions of their own."""
    parents = {}
    for place in Path("/proc").iterdir():
        try:
            if place.name.isdigit():
                parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    tree, found = {top}, {top}
    while found:
        found = {process for process, parent in parents.items() if parent in found}
        tree |= found
    for process in tree:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def started(folder: Path, name: str, keys: list[str], launcher: str) -> list[subprocess.Popen[bytes]]:
    """Both machines."""
    port = free_port()
    return [start(folder, name, keys, launcher, machine, port) for machine in (0, 1)]


def both(folder: Path, name: str, keys: list[str], launcher: str) -> None:
    machines = started(folder, name, keys, launcher)
    if any([machine.wait() for machine in machines]):
        raise SystemExit((folder / f"said-{name}-0.txt").read_text()[-3000:])


def killed(folder: Path, name: str, keys: list[str], launcher: str, victim: int) -> float:
    """Seconds from the kill of a machine in the middle of PPO to the end of the other."""
    machines = started(folder, name, keys, launcher)
    while not list(folder.glob("results/.store/ppo/.partial-*/state-*/state.json")):
        if machines[0].poll() is not None:
            raise SystemExit((folder / f"said-{name}-0.txt").read_text()[-3000:])
        time.sleep(0.05)
    began = time.monotonic()
    kill_tree(machines[victim].pid)
    machines[1 - victim].wait()
    seconds = time.monotonic() - began
    if len(list(folder.glob("results/.store/ppo/*/manifest.json"))) > 1:  # one process's
        raise SystemExit("the survivor went on to the end")
    return seconds


def trained(folder: Path, name: str) -> Path:
    rows = [
        json.loads(line) for line in (folder / "results" / name / "stages.jsonl").read_text().splitlines()
    ]
    key = next(row["key"] for row in rows if row["stage"].startswith("ppo"))
    return folder / "results/.store/ppo" / key


def differences(one: Path, other: Path) -> tuple[float, float]:
    """The largest of a metric, by its size or 1, and of a weight."""
    first, second = (
        [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
        for place in (one, other)
    )
    metrics = [
        abs(value - b[key]) / max(1.0, abs(value))
        for a, b in zip(first, second, strict=True)
        for key, value in a.items()
        if isinstance(value, float) and not key.startswith("time/")
    ]
    weights = []
    for file in sorted(one.glob("*/model.safetensors")):
        a, b = load_file(file), load_file(other / file.relative_to(one))
        weights += [float((a[key] - b[key]).abs().max()) for key in a]
    return max(metrics), max(weights)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--launcher", choices=("accelerate", "torchrun"), default="accelerate")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("keys", nargs="*")
    asked = parser.parse_args()
    print(
        f"{asked.launcher}, {asked.repeats} kills of each machine: {' '.join([*RUN, *asked.keys])}",
        flush=True,
    )
    began = time.monotonic()
    folder = (asked.folder or Path(tempfile.mkdtemp())).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if start(folder, "one", asked.keys, asked.launcher).wait():
        raise SystemExit((folder / "said-one-None.txt").read_text()[-3000:])
    alone, bad = trained(folder, "one"), False
    kills = [(f"{name}_killed{n}", victim) for n in range(asked.repeats) for victim, name in enumerate(NAMES)]
    for name, victim in [("two", None), *kills]:
        seconds = 0.0
        if victim is not None:
            shutil.rmtree(trained(folder, "two"))
            seconds = killed(folder, name, asked.keys, asked.launcher, victim)
        both(folder, name, asked.keys, asked.launcher)
        metric, weight = differences(alone, trained(folder, name))
        said = f", the other machine ended after {seconds:.1f} s" if victim is not None else ""
        print(f"{name}: metrics within {metric:.1e}, weights within {weight:.1e}{said}", flush=True)
        bad |= metric > CLOSE or weight > CLOSE or seconds > SOON
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")
    if not bad and asked.folder is None:
        shutil.rmtree(folder)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
