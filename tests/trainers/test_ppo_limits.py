"""Limits on KL and entropy: the run stops there, or goes back to before and on with more kl_coef."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from ppo_world import (
    rows_of,
    small_config,
    train_small,
)

from evals.values.errors import InputError
from trainers.rl import checkpoint as ppo_checkpoint
from trainers.rl.alarm import crossed_limit
from trainers.rl.ppo import PPOConfig


def config(**changes: Any) -> PPOConfig:
    settings: dict[str, Any] = {"updates": 10, "batch_size": 16, "micro_batch_size": 16}
    rates = {"learning_rate": 5e-3, "critic_learning_rate": 5e-3, "kl_coef": 0.01}
    return small_config(**(settings | rates | {"checkpoints": 2, "save_every": 2} | changes))


def run(out: Path, settings: PPOConfig) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of metrics, and run.json."""
    train_small(out, settings)
    return read(out)


def read(out: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    return rows_of(out), json.loads((out / "run.json").read_text())


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The same run without a limit."""
    return run(tmp_path_factory.mktemp("free"), config())[0]


def kl_between(free: list[dict[str, Any]], update: int) -> float:
    """A limit that is first crossed by the samples of `update`."""
    before = max(row["objective/kl"] for row in free[: update - 1])
    assert free[update - 1]["objective/kl"] > before
    return (before + free[update - 1]["objective/kl"]) / 2


def first_high(free: list[dict[str, Any]]) -> int:
    """An update from the fourth on whose KL is more than that of all before it."""
    kl = [row["objective/kl"] for row in free]
    return next(u for u in range(4, 11) if kl[u - 1] > max(kl[: u - 1]))


def test_a_limit_is_named_with_its_value() -> None:
    """A limit was crossed without a word, or compared with the wrong sign."""
    metrics = {"objective/kl": 12.0, "objective/entropy": 0.2}
    assert crossed_limit(metrics, config()) is None
    assert crossed_limit(metrics, config(kl_limit=12.0, entropy_floor=0.2)) is None
    assert "kl_limit 11" in str(crossed_limit(metrics, config(kl_limit=11.0)))
    assert "entropy_floor 0.3" in str(crossed_limit(metrics, config(entropy_floor=0.3)))
    assert crossed_limit({"objective/kl": None, "objective/entropy": None}, config(kl_limit=1.0)) is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kl_limit": 0.0}, "kl_limit"),
        ({"entropy_floor": -1.0}, "entropy_floor"),
        ({"on_limit": "hope"}, "on_limit"),
    ],
)
def test_limits_out_of_range_are_refused(changes: dict[str, Any], field: str) -> None:
    """A limit of 0 stopped every run at its first update."""
    with pytest.raises(InputError, match=f"field 'ppo.{field}'"):
        config(**changes)


def test_stop_ends_the_run_where_the_limit_is_crossed(
    tmp_path: Path, free: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """The run went on, or left no policy for evaluation."""
    update = first_high(free)
    with caplog.at_level(logging.WARNING, logger="trainers.rl.loop"):
        rows, record = run(tmp_path, config(kl_limit=kl_between(free, update)))
    assert [{k: v for k, v in row.items() if k != "control/limit"} for row in rows] == free[:update]
    assert record["finished"] and record["updates"] == update
    assert (tmp_path / f"checkpoint-{update}" / "model.safetensors").is_file()
    assert len(record["events"]) == 1 and "kl_limit" in record["events"][0]
    assert "kl_limit" in caplog.text
    assert not list(tmp_path.glob("state-*"))


def test_entropy_floor_stops_the_run(tmp_path: Path, free: list[dict[str, Any]]) -> None:
    """Entropy collapse was only noticed by looking at the curve."""
    entropy = [row["objective/entropy"] for row in free]
    update = next(u for u in range(2, 11) if entropy[u - 1] < min(entropy[: u - 1]))
    floor = (entropy[update - 1] + min(entropy[: update - 1])) / 2
    rows, record = run(tmp_path, config(entropy_floor=floor))
    assert len(rows) == update and "entropy_floor" in record["events"][0]
    assert "entropy_floor" in rows[-1]["control/limit"]


def test_a_limit_that_the_start_crosses_is_refused(tmp_path: Path) -> None:
    """The run ended at once, without a policy and without a word."""
    with pytest.raises(InputError, match=r"entropy_floor.*widen them"):
        run(tmp_path, config(entropy_floor=50.0))


def test_rollback_goes_on_from_before_with_more_kl_coef(tmp_path: Path, free: list[dict[str, Any]]) -> None:
    """The state gone back to held the policy that had crossed, so that it crossed for ever."""
    update = first_high(free)
    limit = kl_between(free, update)
    rows, record = run(tmp_path, config(kl_limit=limit, on_limit="rollback"))
    assert [row["update"] for row in rows] == list(range(1, len(rows) + 1))
    assert all(row["objective/kl"] <= limit for row in rows)
    rollbacks = [row["control/rollbacks"] for row in rows]
    assert rollbacks[0] == 0 or record["events"][0].count("back to update 0")
    assert rollbacks == sorted(rollbacks)
    assert "back to update" in record["events"][0]
    last = 0.01 * 2.0 ** rollbacks[-1]
    assert rows[-1]["objective/kl_coef"] == pytest.approx(last)


def test_rollbacks_come_to_an_end(tmp_path: Path) -> None:
    """A policy that every update takes beyond the limit was rolled back without end."""
    with pytest.raises(InputError, match=r"back to update 0, kl_coef 0.04 to 0.08.*widen"):
        run(tmp_path, config(kl_limit=1e-6, on_limit="rollback"))


@pytest.mark.parametrize("call", [1, 2])
def test_a_kill_in_a_rollback_changes_nothing(
    tmp_path: Path, free: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """Between dropping the states and writing the new one, the rollback was lost or counted twice."""
    settings = config(kl_limit=kl_between(free, first_high(free)), on_limit="rollback")
    unbroken = run(tmp_path / "unbroken", settings)
    calls, original = [0], ppo_checkpoint.RunFolder.roll_back

    def dying(self: Any, learner: Any, limit: str) -> bool:
        calls[0] += 1
        if calls[0] == 1:
            with monkeypatch.context() as inner:
                name, ends = ("_write_state", RuntimeError) if call == 1 else ("restore", RuntimeError)

                def die(*_: Any) -> None:
                    raise ends("killed")

                inner.setattr(ppo_checkpoint.RunFolder, name, die)
                return original(self, learner, limit)
        return original(self, learner, limit)

    monkeypatch.setattr(ppo_checkpoint.RunFolder, "roll_back", dying)
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path / "killed", settings)
    assert run(tmp_path / "killed", settings) == unbroken
    files = [
        sorted(p.glob("checkpoint-*/model.safetensors")) for p in (tmp_path / "unbroken", tmp_path / "killed")
    ]
    assert [f.read_bytes() for f in files[0]] == [f.read_bytes() for f in files[1]] != []
