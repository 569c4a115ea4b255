"""The passes that a round's first step differentiates are made once, where its tokens are judged."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from ppo_world import eager_to_end, make_critic, small_config, train_small

from trainers.models.selected_states import BackboneStates

FILES = ("metrics.jsonl", "checkpoint-3/model.safetensors", "critic/model.safetensors")


def trained(out: Path, dtype: torch.dtype, shared: bool, size: int, ahead: bool) -> tuple[list[bytes], int]:
    """What a training wrote, and how many passes through a trunk it took."""
    passes, whole = 0, BackboneStates.__call__

    def counted(self: BackboneStates, *args: torch.Tensor) -> torch.Tensor:
        nonlocal passes
        passes += 1
        return whole(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BackboneStates, "__call__", counted)
        if not ahead:
            patch.setattr("trainers.rl.experience.pass_ahead", lambda *_: None)
        policy = eager_to_end().to(dtype)
        settings = {"updates": 3, "batch_size": 16, "micro_batch_size": size, "epochs": 2, "checkpoints": 1}
        config = small_config(**settings, shared_trunk=shared)
        models = {"policy": policy, "critic": make_critic().to(dtype), "reference": copy.deepcopy(policy)}
        train_small(out, config, **models)
    return [(out / name).read_bytes() for name in FILES], passes


@pytest.mark.parametrize("size", [16, 8])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_pass_made_ahead_changes_no_byte(
    tmp_path: Path, dtype: torch.dtype, shared: bool, size: int
) -> None:
    """Values and old log-probabilities were computed without a gradient, and again with one a moment later."""
    expected, often = trained(tmp_path / "apart", dtype, shared, size, ahead=False)
    found, seldom = trained(tmp_path / "ahead", dtype, shared, size, ahead=True)
    assert found == expected
    spared = (
        2 if dtype == torch.bfloat16 and not shared else 1
    )  # the policy's and the critic's, or the one of both
    assert often - seldom == 3 * spared
