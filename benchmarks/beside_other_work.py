"""A run beside another program on the same cores, with OpenMP's own spinning and with rbrbench's.

    python benchmarks/beside_other_work.py [--repeats 3] [--threads 2] [--also ROUNDS …] [--only alone|beside]
        [overrides, default experiment=smoke]

Runs the same experiment into fresh folders, alone and beside a program that multiplies matrices with as many
threads, under GOMP_SPINCOUNT=300000 (libgomp's own) and under what `rbrbench` sets. Prints each stage's median
seconds (of those over a second) and the ratio of the two. Targets: beside other work at least 2.5 times as fast,
alone at most 5 % slower; exit code 1 where the sum of all stages misses one. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rbrbench.surroundings import SPIN

ROOT = Path(__file__).parents[1]
LIBGOMP = "300000"
RIVAL = """
import torch
torch.set_num_threads({threads})
a = torch.rand(1500, 1500)
while True:
    a = a @ a
    a /= a.norm()
"""
LEAST, MOST = 2.5, 1.05


def seconds(spin: str, beside: bool, threads: int, overrides: list[str]) -> dict[str, float]:
    """{stage: seconds} of a run into a fresh folder; `all` is their sum."""
    environment = os.environ | {"GOMP_SPINCOUNT": spin, "PYTHONPATH": str(ROOT)}
    environment.pop("OMP_NUM_THREADS", None)
    rival = None
    with tempfile.TemporaryDirectory() as folder:
        if beside:
            rival = subprocess.Popen([sys.executable, "-c", RIVAL.format(threads=threads)])
        try:
            command = [sys.executable, "-m", "rbrbench", "run", *overrides, f"threads={threads}"]
            where = [f"results={folder}", "name=timed"]
            subprocess.run([*command, *where], env=environment, check=True, capture_output=True)
        finally:
            if rival is not None:
                rival.kill()
                rival.wait()
        lines = (Path(folder) / "timed/stages.jsonl").read_text(encoding="utf-8").splitlines()
    found: dict[str, float] = {}
    for row in map(json.loads, lines):
        found[row["stage"]] = found.get(row["stage"], 0.0) + row["seconds"]
    return found | {"all": sum(found.values())}


def compared(spins: list[str], beside: bool, options: argparse.Namespace) -> float:
    """Prints each stage's median seconds under every number of rounds; returns how many times as fast all stages
    are under rbrbench's own as under libgomp's. The runs take turns, so that a slow minute falls on all of them.
    """
    runs: dict[str, list[dict[str, float]]] = {spin: [] for spin in spins}
    for _ in range(options.repeats):
        for spin in spins:
            runs[spin].append(seconds(spin, beside, options.threads, options.overrides))
    print(f"{'beside other work' if beside else 'alone'}: median seconds of {options.repeats} runs (spread)")
    print(f"  {'rounds of spinning':28} " + " ".join(f"{spin:>14}" for spin in spins) + "   times as fast")
    for stage in runs[SPIN][0]:
        of = {spin: [run[stage] for run in runs[spin]] for spin in spins}
        middle = {spin: statistics.median(of[spin]) for spin in spins}
        if middle[LIBGOMP] >= 1.0:
            cells = " ".join(f"{middle[s]:8.1f} ({max(of[s]) / min(of[s]):.2f})" for s in spins)
            print(f"  {stage:28} {cells} {middle[LIBGOMP] / middle[SPIN]:15.2f}", flush=True)
    return middle[LIBGOMP] / middle[SPIN]


def main() -> int:
    parser = argparse.ArgumentParser(
        description="A run beside other work, by how long OpenMP's threads spin."
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--also", nargs="*", default=[], help="further numbers of rounds to show")
    parser.add_argument("--only", choices=("alone", "beside"), help="one of the two, default both")
    parser.add_argument("overrides", nargs="*", default=["experiment=smoke"])
    options = parser.parse_args()
    spins = [LIBGOMP, *options.also, SPIN]
    good = True
    if options.only != "beside":
        good &= 1 / compared(spins, False, options) <= MOST
    if options.only != "alone":
        good &= compared(spins, True, options) >= LEAST
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
