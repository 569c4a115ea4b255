"""A run whose renewals are cut short by kills, and that is started again until it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from evals.values.conversation import Response
from trainers.reward.reward import Breakdown, Reward


class Dying:
    """Pays as `reward` does, and dies when it is asked a second time."""

    def __init__(self, reward: Reward) -> None:
        self.reward, self.calls = reward, 0

    def __call__(self, responses: Sequence[Response]) -> Breakdown:
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("killed")
        return self.reward(responses)


def dying_at(update: int, label: Callable[[int, Any], Any]) -> Callable[[int, Any], Any]:
    """Labels as `label` does, and dies in the renewal after `update`."""

    def dying(now: int, asked: Any) -> Any:
        if now == update:
            raise RuntimeError("killed")
        return label(now, asked)

    return dying


def run_with_kills(
    run: Callable[..., Any], reward: Reward, label: Callable[[int, Any], Any], renewed: Path
) -> None:
    """Killed before the first renewal, in the second, of update 4, and then run to its end; `renewed` has its folders.

    `run` takes the label and the reward of the start by these names.
    """
    with pytest.raises(RuntimeError, match="killed"):
        run(reward=Dying(reward))
    with pytest.raises(RuntimeError, match="killed"):
        run(label=dying_at(4, label))
    (renewed / ".4").mkdir()  # what a kill leaves of a training
    run()
