"""Sweeps that are killed at random: does the same command afterwards end as if nothing had happened?

    python benchmarks/killed_sweeps.py [--sweeps 30] [--first 0] [--seed 0] [--folder FOLDER] [KEY=VALUE ...]

A sweep of `ppo.kl_coef` runs its two jobs at once (joblib's launcher) on one store. First one that nobody disturbs:
each stage that both jobs need is computed by one of them, by count. Then SWEEPS times, in a folder of its own: the
sweep is started and killed (SIGKILL) after a random share of the undisturbed sweep's time, by turns one of its jobs,
its launcher or all of it (where it had ended before, another moment is drawn); then the same command runs to its end.
Metrics, training curves without their times, samples and weights have to be those of the undisturbed sweep, byte for
byte, and no stage that had been finished is computed again. Ends with 1 where one is not. Further KEY=VALUE make the
sweep smaller or larger. `--first N` leaves out the first N kills of the seed: what one call has no time for another
goes on with.
tests/harness/test_killed_sweeps.py kills three.
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).resolve().parents[1]
NAME = "killed"
SWEEP = ["run", "-m", "experiment=smoke", "threads=1", "ppo.kl_coef=0.05,0.5", f"name={NAME}"]
SWEEP += ["methods=[helpful_ppo]", "capability.tasks=[]"]
AT_ONCE = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
JOB, LAUNCHER, GROUP = VICTIMS = ("job", "launcher", "group")
ENDED = "nothing, it had ended"
Contents = dict[str, bytes]


class Sweep(Protocol):
    """A sweep's process, the leader of its session: as much of `subprocess.Popen` as is used here."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self) -> int: ...


Start = Callable[[Path, Sequence[str]], Sweep]


def start(folder: Path, keys: Sequence[str]) -> Sweep:
    """The sweep, in a session of its own; what it says is in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    with open(folder / "said.txt", "ab") as said:
        command = [sys.executable, "-m", "rbrbench", *SWEEP, *AT_ONCE, *keys]
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


def kill(sweep: Sweep, victim: str, rng: random.Random) -> str:
    """SIGKILL to one job, to the launcher or to all; which it was."""
    processes = session(sweep.pid)
    jobs = [n for n, line in processes.items() if "loky" in line and "tracker" not in line and n != sweep.pid]
    if victim == JOB and jobs:
        os.kill(rng.choice(sorted(jobs)), signal.SIGKILL)
        sweep.wait()
        return JOB
    for number in processes if victim == GROUP else [sweep.pid]:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue
    sweep.wait()
    return GROUP if victim == GROUP else LAUNCHER


def end_session(leader: int) -> None:
    """End what a launcher left: joblib's workers finish their job, and wait for another that never comes."""
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
    rows = [json.loads(path.read_text()) for path in manifests if not path.parent.name.startswith(".")]
    return {f"{row['stage']} {row['key']}": row["created"] for row in rows}


def computed(said: str) -> Counter[str]:
    """How often each stage was computed, by what the jobs say at its end."""
    labels = (line.partition("  ")[0] for line in said.splitlines() if " computed in " in line)
    return Counter(label.rpartition("] ")[2] for label in labels)  # without the job's own name


def undisturbed(folder: Path, keys: Sequence[str]) -> tuple[Contents, float]:
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
    folder: Path,
    keys: Sequence[str],
    victim: str,
    is_time: Callable[[], bool],
    rng: random.Random,
    expected: Contents,
    start: Start = start,
) -> tuple[str, list[str]]:
    """What was killed as soon as `is_time`, and what differs from `expected`, an undisturbed sweep's."""
    sweep = start(folder, keys)
    while not is_time() and sweep.poll() is None:
        time.sleep(0.02)
    victim = kill(sweep, victim, rng) if sweep.poll() is None else ENDED
    before, again = finished(folder), start(folder, keys)
    try:
        if again.wait():
            return victim, [(folder / "said.txt").read_text()[-1500:]]
    finally:
        end_session(sweep.pid)
        end_session(again.pid)
    after, found = finished(folder), contents(folder)
    twice = [f"{stage} was computed again" for stage, made in before.items() if after.get(stage) != made]
    names = sorted(found.keys() | expected.keys())
    return victim, twice + [f"{name} differs" for name in names if found.get(name) != expected.get(name)]


def later(seconds: float) -> Callable[[], bool]:
    """Whether so many have passed since this was called."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=30)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("keys", nargs="*")
    asked = parser.parse_args()
    print(f"kills {asked.first + 1} to {asked.first + asked.sweeps} of seed {asked.seed}; {' '.join(SWEEP)}")
    whole = asked.folder or Path(tempfile.mkdtemp())
    expected, seconds = undisturbed(whole / "undisturbed", asked.keys)
    bad, began = 0, time.monotonic()
    for number in range(asked.first, asked.first + asked.sweeps):
        folder, rng = whole / f"sweep{number}", random.Random(f"{asked.seed} {number}")
        victim = ENDED
        while victim == ENDED:
            shutil.rmtree(folder, ignore_errors=True)
            after = rng.uniform(0.1, 1.0) * seconds
            victim, problems = disturbed(folder, asked.keys, VICTIMS[number % 3], later(after), rng, expected)
            seconds = after if victim == ENDED else seconds
        left = [p.name for p in folder.glob("results/.store/*/.lock-*")]
        said = "; ".join(problems) or "the same"
        print(f"{number + 1}: killed after {after:.0f} s: {victim}: {said} {left or ''}", flush=True)
        bad += bool(problems)
        if not problems:
            shutil.rmtree(folder, ignore_errors=True)
    minutes = (time.monotonic() - began) / 60
    print(
        f"{asked.sweeps - bad} of {asked.sweeps} sweeps ended as the undisturbed one, {len(expected)} files each"
    )
    print(f"{minutes:.1f} minutes")
    if not bad and asked.folder is None:
        shutil.rmtree(whole)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
