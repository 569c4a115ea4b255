"""A sweep of seeds by two processes at once beside the same seeds one after another.

    python benchmarks/sweep_at_once.py [--size short|demo] [--seeds 4] [--at-once 2] [KEY=VALUE ...]
    python benchmarks/sweep_at_once.py --size demo --folder FOLDER --part after; ... --part at_once; ... --part shared

Each runs into a fresh folder with threads=1, by Hydra's basic launcher and by joblib's. Prints the seconds of both,
their ratio, what the imports of one process take, and whether the two made the same bytes. Target for four seeds on two
cores: at most 0.6; exit code 1 above it, or where bytes differ. Then a sweep of `ppo.kl_coef` shows by counting that a
stage which both jobs need is computed once. Nothing else should run meanwhile. `short` is the demo with one method, a
third of its pre-training and a quarter of its updates, an hour in all; `demo` is the whole, three times as long: with a
FOLDER that stays, each part may be run by a call of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST = 0.6
SAME = ("metrics.csv", "training.jsonl", "rewards.jsonl")
IMPORTS = "import harness.pipeline.sweep, datasets, lm_eval, trl, sklearn"
SIZES = {
    "short": [
        "experiment=demo",
        "methods=[rbr_ppo]",
        "pretrain.epochs=5",
        "ppo.updates=22",
        "grader.anyway=true",
    ],
    "demo": ["experiment=demo"],
}
AFTER, AT_ONCE, SHARED = PARTS = ("after", "at_once", "shared")
SECONDS = "seconds.json"  # of the parts that a folder has


@dataclass(frozen=True)
class Bench:
    """`keys` of every run, `launcher` of those at once, the folder of all, and how many seeds."""

    folder: Path
    keys: Sequence[str]
    launcher: Sequence[str]
    seeds: int

    def part(self, name: str) -> None:
        """Run one part in a fresh folder, and keep its seconds."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        several = [] if name == AFTER else self.launcher
        seconds = self._seconds() | {name: sweep(folder, *self.keys, *self._swept(name), *several)}
        (self.folder / SECONDS).write_text(json.dumps(seconds))
        print(f"{name}: {seconds[name]:.0f} s", flush=True)

    def _swept(self, name: str) -> list[str]:
        if name == SHARED:
            return ["name=kl", "methods=[rbr_ppo]", "ppo.kl_coef=0.1,0.2"]
        return ["name=seeds", f"seed=range(0,{self.seeds})"]

    def _seconds(self) -> dict[str, float]:
        path = self.folder / SECONDS
        return dict(json.loads(path.read_text())) if path.is_file() else {}

    def is_faster(self) -> bool:
        """Whether the seeds at once took at most MOST of the time, and made the same; says by how much."""
        seconds, imports = self._seconds(), imports_of_a_process()
        if not {AFTER, AT_ONCE} <= seconds.keys():
            return True
        ratio = seconds[AT_ONCE] / seconds[AFTER]
        one, two = (self.folder / name / "seeds" for name in (AFTER, AT_ONCE))
        same = all((one / file).read_bytes() == (two / file).read_bytes() for file in SAME)
        print(f"at once: {ratio:.2f} of one after another (target {MOST}); same bytes: {same}")
        print(f"imports of one process: {imports:.1f} s, {imports / seconds[AFTER]:.1%} of one after another")
        return ratio <= MOST and same

    def shares(self) -> bool:
        """Whether each stage that two values of ppo.kl_coef need was computed once, by count."""
        folder = self.folder / SHARED
        if not folder.is_dir():
            return True
        rows = (folder / "kl/stages.jsonl").read_text(encoding="utf-8").splitlines()
        needed = len({(row["stage"].split(":")[0], row["key"]) for row in map(json.loads, rows)})
        made = sum(computed(folder).values())
        print(f"stages of two values of ppo.kl_coef: {len(rows)}, distinct {needed}, in the store {made}")
        return made == needed


def sweep(folder: Path, *overrides: str) -> float:
    """Seconds of a sweep, with everything that a user waits for."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "rbrbench", "run", "-m", "threads=1", f"results={folder}", *overrides]
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return time.perf_counter() - began


def imports_of_a_process() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    return time.perf_counter() - began


def computed(folder: Path) -> Counter[str]:
    """How often each stage was computed: one folder of the store for each time."""
    return Counter(path.parent.parent.name for path in folder.glob(".store/*/*/manifest.json"))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="short")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--part", choices=PARTS, action="append", help="may be repeated; without it all")
    parser.add_argument("--folder", type=Path, help="to be kept; without it a temporary one")
    parser.add_argument("keys", nargs="*")
    asked = parser.parse_args()
    keys = [*SIZES[asked.size], *asked.keys]
    print(f"{asked.seeds} seeds, {asked.at_once} at once, threads=1: {' '.join(keys)}", flush=True)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        folder = (asked.folder or Path(place)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        launcher = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={asked.at_once}"]
        bench = Bench(folder, keys, launcher, asked.seeds)
        for part in asked.part or PARTS:
            bench.part(part)
        fine = [bench.is_faster(), bench.shares()]
    print(f"{(time.perf_counter() - began) / 60:.1f} minutes")
    return int(not all(fine))


if __name__ == "__main__":
    sys.exit(main())
