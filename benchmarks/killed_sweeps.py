"""Sweeps that are killed at random: does the same command afterwards end as if nothing had happened?

    python benchmarks/killed_sweeps.py [--sweeps 30] [--seed 0] [--folder FOLDER] [KEY=VALUE ...]

A sweep of `ppo.kl_coef` runs its two jobs at once (joblib's launcher) on one store. First one that nobody disturbs:
each stage that both jobs need is computed by one of them, by count. Then SWEEPS times, in a folder of its own: the
sweep is started and killed (SIGKILL) after a random share of the undisturbed sweep's time, by turns one of its jobs,
its launcher or all of it; then the same command runs to its end. Metrics, training curves without their times, samples
and weights have to be those of the undisturbed sweep, byte for byte, and no stage that had been finished is computed
again. Ends with 1 where one is not. Further KEY=VALUE make the sweep smaller or larger.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "killed"
SWEEP = ["run", "-m", "experiment=smoke", "threads=1", "ppo.kl_coef=0.05,0.5", f"name={NAME}"]
SWEEP += ["methods=[helpful_ppo]", "capability.tasks=[]", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
VICTIMS = ("job", "launcher", "group")
Contents = dict[str, bytes]


def start(folder: Path, keys: list[str]) -> subprocess.Popen[bytes]:
    """The sweep, in a session of its own; what it says is in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    with open(folder / "said.txt", "ab") as said:
        command = [sys.executable, "-m", "rbrbench", *SWEEP, *keys]
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=said, stderr=said, start_new_session=True
        )


def session(leader: int) -> dict[int, str]:
    """The processes of a session, and their command lines."""
    found = {}
    for place in Path("/proc").iterdir():
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            if place.name.isdigit() and int(fields[3]) == leader and fields[0] != "Z":
                found[int(place.name)] = (place / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return found


def kill(sweep: subprocess.Popen[bytes], victim: str, rng: random.Random) -> str:
    """SIGKILL to one job, to the launcher or to all; which it was."""
    processes = session(sweep.pid)
    jobs = [number for number, line in processes.items() if "loky" in line and "tracker" not in line]
    if victim == "job" and jobs:
        os.kill(rng.choice(sorted(jobs)), signal.SIGKILL)
        sweep.wait()
        return "job"
    for number in [sweep.pid] if victim == "launcher" else processes:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue
    sweep.wait()
    return "group" if victim == "group" else "launcher"


def end_session(leader: int) -> None:
    """End what a dead launcher left: joblib's workers finish their job, and wait for another that never comes."""
    for number in session(leader):
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue


def contents(folder: Path) -> Contents:
    """What a sweep is: metrics, curves, samples and weights by name."""
    results = folder / "results" / NAME
    found = {"metrics.csv": (results / "metrics.csv").read_bytes()}
    rows = [json.loads(line) for line in (results / "training.jsonl").read_text().splitlines()]
    curves = [{key: value for key, value in row.items() if not key.startswith("time/")} for row in rows]
    found["training.jsonl"] = json.dumps(curves).encode()
    for path in sorted([*results.glob("samples/**/*.jsonl*"), *results.glob("models/**/*.safetensors")]):
        found[path.relative_to(results).as_posix()] = path.read_bytes()
    return found


def finished(folder: Path) -> dict[str, str]:
    """{stage and key: when it was made} of the store."""
    manifests = folder.glob("results/.store/*/*/manifest.json")
    rows = [
        (path, json.loads(path.read_text())) for path in manifests if not path.parent.name.startswith(".")
    ]
    return {f"{row['stage']} {row['key']}": row["created"] for _, row in rows}


def computed(said: str) -> Counter[str]:
    """How often each stage was computed, by what the jobs say at its end."""
    labels = (line.partition("  ")[0] for line in said.splitlines() if " computed in " in line)
    return Counter(label.rpartition("] ")[2] for label in labels)  # without the job's own name


def undisturbed(folder: Path, keys: list[str]) -> tuple[Contents, float]:
    began = time.monotonic()
    sweep = start(folder, keys)
    if sweep.wait():
        raise SystemExit((folder / "said.txt").read_text()[-3000:])
    seconds = time.monotonic() - began
    counts, made = computed((folder / "said.txt").read_text()), len(finished(folder))
    shared = {stage: count for stage, count in counts.items() if count == 1}
    print(f"undisturbed: {seconds:.0f} s, {sum(counts.values())} stages computed, {made} in the store,")
    print(f"  once, by one job for both: {', '.join(sorted(shared))}")
    print(f"  in each job: {', '.join(sorted(set(counts) - set(shared)))}", flush=True)
    if sum(counts.values()) != made:
        raise SystemExit("a stage was computed twice")
    return contents(folder), seconds


def disturbed(
    folder: Path, keys: list[str], victim: str, after: float, rng: random.Random
) -> tuple[str, list[str]]:
    """What was killed when, and what differs from an undisturbed sweep's."""
    sweep = start(folder, keys)
    try:
        sweep.wait(after)
        victim = "nothing, it had ended"
    except subprocess.TimeoutExpired:
        victim = kill(sweep, victim, rng)
    before = finished(folder)
    again = start(folder, keys)
    code = again.wait()
    end_session(sweep.pid)
    if code:
        return victim, [(folder / "said.txt").read_text()[-1500:]]
    after_all = finished(folder)
    return victim, [
        f"{stage} was computed again" for stage, made in before.items() if after_all.get(stage) != made
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("keys", nargs="*")
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    whole = asked.folder or Path(tempfile.mkdtemp())
    expected, seconds = undisturbed(whole / "undisturbed", asked.keys)
    bad = 0
    for number in range(asked.sweeps):
        folder = whole / f"sweep{number}"
        after = rng.uniform(0.1, 1.0) * seconds
        victim, problems = disturbed(folder, asked.keys, VICTIMS[number % 3], after, rng)
        if not problems:
            found = contents(folder)
            names = sorted(found.keys() | expected.keys())
            problems = [f"{name} differs" for name in names if found.get(name) != expected.get(name)]
        left = [p.name for p in folder.glob("results/.store/*/.lock-*")]
        print(
            f"{number + 1}: killed after {after:.0f} s: {victim}: {'; '.join(problems) or 'the same'} {left or ''}",
            flush=True,
        )
        bad += bool(problems)
        if not problems:
            shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{asked.sweeps - bad} of {asked.sweeps} sweeps ended as the undisturbed one, {len(expected)} files each"
    )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
