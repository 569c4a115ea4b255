"""A run that is killed goes on, and ends with the same bytes as one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from ppo_world import NoisyReward, train_noisily

from evals.values.conversation import Response
from evals.values.errors import InputError
from trainers.reward.reward import Breakdown

ROOT = Path(__file__).parents[2]


class Interrupting(NoisyReward):
    """Does something in the n-th call of this process, before grading."""

    def __init__(self, call: int, act: object) -> None:
        super().__init__()
        self.call, self.act, self.calls = call, act, 0

    def __call__(self, responses: Sequence[Response]) -> Breakdown:
        self.calls += 1
        if self.calls == self.call:
            self.act()
        return super().__call__(responses)


PHASES = [
    "sampling",
    "grading",
    "update",
    "writing a state",
    "after writing, before renaming",
    "dropping an old state",
    "writing a checkpoint",
    "after a row, before its times",
    "finishing",
    "dropping the last states",
]


def crash() -> None:
    raise RuntimeError("crash")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("unbroken")
    train_noisily(out)
    return artifacts(out)


def artifacts(out: Path) -> dict[str, bytes]:
    """Every file of a finished run but the wall-clock times."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.name != "timings.jsonl"]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def states(out: Path) -> list[str]:
    return sorted(path.name for path in out.glob("state-*"))


def crash_in_update(out: Path, update: int) -> None:
    with pytest.raises(RuntimeError, match="crash"):
        train_noisily(out, Interrupting(update, crash))


def updates_timed(out: Path) -> list[int]:
    return [json.loads(line)["update"] for line in (out / "timings.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_kills_at_any_moment_change_nothing(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    """Resuming reset the optimiser (NeMo-RL issue 3171) or lost the data's position (OpenRLHF 1103)."""
    killer = [sys.executable, str(Path(__file__).parents[1] / "tiny" / "ppo_killer.py"), str(tmp_path), "20"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(killer, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    ends = done.stdout.splitlines()
    phases = ends[: ends.index("finished")]
    assert phases == PHASES, ends  # each child died where it should, and the next one ended the run
    assert ends[-1] == "finished" and sum(end.endswith(" s") for end in ends) == 20
    for kills in ("phases", "random"):
        assert artifacts(tmp_path / kills) == unbroken
        assert updates_timed(tmp_path / kills) == list(range(1, 13))


def test_a_crash_loses_only_the_updates_since_the_state(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    """The run began anew; rows of metrics after the state stood there twice."""
    crash_in_update(tmp_path, 8)
    assert states(tmp_path) == ["state-4", "state-6"]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 7
    again = Interrupting(99, crash)
    train_noisily(tmp_path, again)
    assert again.calls == 6
    assert artifacts(tmp_path) == unbroken


@pytest.mark.parametrize("damage", ["a flipped bit", "a cut file", "no state.json", "an empty state.json"])
def test_a_corrupt_state_falls_back_to_the_one_before(
    tmp_path: Path, unbroken: dict[str, bytes], damage: str
) -> None:
    """A half-written newest state ended every later attempt, or was loaded."""
    crash_in_update(tmp_path, 8)
    newest = tmp_path / "state-6"
    weights = newest / "critic_optimizer.safetensors"
    content = bytearray(weights.read_bytes())
    if damage == "a flipped bit":
        content[-3] ^= 4
        weights.write_bytes(content)
    elif damage == "a cut file":
        weights.write_bytes(content[: len(content) // 2])
    elif damage == "no state.json":
        (newest / "state.json").unlink()
    else:
        (newest / "state.json").write_text("")
    again = Interrupting(99, crash)
    with pytest.warns(UserWarning, match=r"state-6.*going on from the state before"):
        train_noisily(tmp_path, again)
    assert again.calls == 8
    assert artifacts(tmp_path) == unbroken


def test_without_a_sound_state_the_run_begins_anew(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    """Both states damaged: nothing may be left of what was half loaded."""
    crash_in_update(tmp_path, 6)
    for state in states(tmp_path):
        (tmp_path / state / "generators.safetensors").write_bytes(b"")
    with pytest.warns(UserWarning):
        train_noisily(tmp_path)
    assert artifacts(tmp_path) == unbroken


def test_sigterm_saves_and_leaves(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    """A scheduler's polite signal lost the updates since the last state, or was swallowed."""
    before = signal.getsignal(signal.SIGTERM)
    terminate = Interrupting(5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as stop:
        train_noisily(tmp_path, terminate)
    assert stop.value.code == 143
    assert states(tmp_path) == ["state-4", "state-5"]
    assert signal.getsignal(signal.SIGTERM) is before
    train_noisily(tmp_path)
    assert artifacts(tmp_path) == unbroken


def test_sigterm_in_the_last_update_ends_the_run(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    """A run that was complete exited as if it were not."""
    train_noisily(tmp_path, Interrupting(12, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert artifacts(tmp_path) == unbroken


def test_a_cut_row_of_metrics_is_mended(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    """A kill in the middle of a line left JSON that no reader takes."""
    crash_in_update(tmp_path, 8)
    for name in ("metrics.jsonl", "timings.jsonl"):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text[:-20])
    train_noisily(tmp_path)
    assert artifacts(tmp_path) == unbroken
    assert updates_timed(tmp_path) == list(range(1, 13))


def test_a_damaged_run_file_is_one_clear_line(tmp_path: Path) -> None:
    """run.json that is not JSON ended in a traceback."""
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json"):
        train_noisily(tmp_path)
