"""Metrics reach the trackers once, with the numbers of metrics.jsonl."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from ppo_world import (
    train_small,
)

from evals.values.errors import InputError
from trainers.rl.ppo import Options, PPOConfig
from trainers.rl.trackers import NAMES, check_trackers


def test_an_unknown_tracker_is_refused() -> None:
    """A typo tracked nothing."""
    with pytest.raises(InputError, match=r"field 'trackers'.*notepad.*tensorboard"):
        check_trackers(["notepad"])


def test_a_tracker_that_is_not_installed_is_refused_before_training() -> None:
    """The run failed at its first update with an AttributeError of Accelerate's."""
    missing = [name for name in NAMES if find_spec(name) is None]
    if not missing:
        pytest.skip("every tracker is installed here")
    with pytest.raises(InputError, match=rf"{missing[0]} is not installed.*pip install -e .\.\[trackers\]"):
        check_trackers([missing[0]])


def test_tensorboard_has_every_number_once(tmp_path: Path) -> None:
    """A metric was missing, logged twice, or at another step."""
    pytest.importorskip("tensorboard", reason="needs the extra 'trackers'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = PPOConfig(updates=3, batch_size=8, max_new_tokens=6, checkpoints=1)
    rows = train_small(tmp_path, settings, options=Options(trackers=["tensorboard"]))
    numbers = {key for key, value in rows[0].items() if key != "update" and value is not None}
    logged: dict[str, list[tuple[int, float]]] = {name: [] for name in numbers}
    for file in (tmp_path / "trackers").rglob("events.out.tfevents.*"):  # settings have files of their own
        read = EventAccumulator(str(file))
        read.Reload()
        for name in numbers & set(read.Tags()["scalars"]):
            logged[name] += [(event.step, event.value) for event in read.Scalars(name)]
    for name, events in logged.items():
        assert [step for step, _ in events] == [1, 2, 3], name
        assert [value for _, value in events] == pytest.approx([row[name] for row in rows], rel=1e-5), name
