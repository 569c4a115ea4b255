"""A sweep of seeds by two processes at once beside the same seeds one after another.

    python benchmarks/sweep_at_once.py [--seeds 4] [--at-once 2] [overrides, default experiment=demo]

Each runs into a fresh folder with threads=1, by Hydra's basic launcher and by joblib's. Prints the seconds of both,
their ratio, what the imports of one process take, and whether the two made the same bytes. Target for four seeds of
the demo on two cores: at most 0.6; exit code 1 above it, or where bytes differ. Then a sweep of `ppo.kl_coef` shows by
counting that a stage which both jobs need is computed once. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST = 0.6
SAME = ("metrics.csv", "training.jsonl", "rewards.jsonl")
IMPORTS = "import harness.pipeline.sweep, datasets, lm_eval, trl, sklearn"


def sweep(folder: Path, *overrides: str) -> float:
    """Seconds of a sweep, with everything that a user waits for."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "rbrbench", "run", "-m", "threads=1", f"results={folder}", *overrides]
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - began


def computed(folder: Path) -> Counter[str]:
    """How often each stage was computed: one folder of the store for each time."""
    return Counter(path.parent.parent.name for path in folder.glob(".store/*/*/manifest.json"))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("overrides", nargs="*", default=["experiment=demo"])
    asked = parser.parse_args()
    at_once = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={asked.at_once}"]
    seeds = [*asked.overrides, "name=seeds", f"seed=range(0,{asked.seeds})"]
    with tempfile.TemporaryDirectory() as place:
        one, two, three = (Path(place) / name for name in ("one", "two", "three"))
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", IMPORTS], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True
        )
        imports = time.perf_counter() - began
        after, together = sweep(one, *seeds), sweep(two, *seeds, *at_once)
        ratio = together / after
        same = all((one / "seeds" / f).read_bytes() == (two / "seeds" / f).read_bytes() for f in SAME)
        sweep(three, *asked.overrides, "name=kl", "methods=[rbr_ppo]", "ppo.kl_coef=0.1,0.2", *at_once)
        rows = (three / "kl/stages.jsonl").read_text(encoding="utf-8").splitlines()
        needed = len({(row["stage"].split(":")[0], row["key"]) for row in map(json.loads, rows)})
        made = sum(computed(three).values())
    print(
        f"one after another {after:.0f} s, {asked.at_once} at once {together:.0f} s: {ratio:.2f} (target {MOST})"
    )
    print(f"imports of one process: {imports:.1f} s, {imports / after:.1%} of the first")
    print(
        f"same bytes: {same}; stages of two values of ppo.kl_coef: {len(rows)}, distinct {needed}, in the store {made}"
    )
    return int(ratio > MOST or not same or made != needed)


if __name__ == "__main__":
    sys.exit(main())
