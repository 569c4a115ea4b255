"""Adam for weights of any precision: what is kept in bfloat16 is trained through float32 copies.

A step of Adam moves a weight by about its learning rate. In bfloat16 a weight of 0.02 has neighbours
1.2e-4 apart, so that a step of 1e-6 is rounded away, every time. The copies take the steps, sum the
gradients of the micro-batches, and are rounded into the model's weights after each step (Micikevicius
et al. 2017, arXiv 1710.03740, section 3.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainers.devices.sharding import part_of, whole_tensors
from trainers.devices.zero import MASTER, ZeroAdam


def adam(groups: Sequence[Mapping[str, Any]], eps: float) -> torch.optim.Adam:
    """Adam over parameter groups, each with `params` and its `base_lr`; frozen weights are left out."""
    trained = [{**group, "params": [p for p in group["params"] if p.requires_grad]} for group in groups]
    if all(p.dtype == torch.float32 for group in trained for p in group["params"]):
        return torch.optim.Adam(trained, lr=0.0, eps=eps, fused=True)
    return MasterAdam(trained, eps)


class MasterAdam(torch.optim.Adam):
    """Adam on float32 masters of the given weights; `param_groups` hold the masters, with their gradients.

    A weight's own gradient is added to its master's as soon as it is complete, and freed. Weights that
    are float32 already are their own masters.
    """

    def __init__(self, groups: Iterable[Mapping[str, Any]], eps: float) -> None:
        self._pairs: list[tuple[Tensor, Tensor]] = []
        mastered = [{**group, "params": [self._master(p) for p in group["params"]]} for group in groups]
        super().__init__(mastered, lr=0.0, eps=eps, fused=True)

    def _master(self, weight: Tensor) -> Tensor:
        if weight.dtype == torch.float32:
            return weight
        master = weight.detach().float().requires_grad_()
        self._pairs.append((weight, master))

        def move_gradient(parameter: Tensor) -> None:
            assert parameter.grad is not None
            if master.grad is None:
                master.grad = torch.zeros_like(master)
            master.grad += parameter.grad
            parameter.grad = None

        weight.register_post_accumulate_grad_hook(move_gradient)
        return master

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        super().step()
        self.round_weights()

    @torch.no_grad()
    def round_weights(self) -> None:
        """Give the model its masters' values, rounded."""
        for weight, master in self._pairs:
            weight.copy_(master)

    @property
    def masters(self) -> list[Tensor]:
        return [master for _, master in self._pairs]


def optimizer_tensors(optimizer: torch.optim.Optimizer, keep: bool = True) -> dict[str, Tensor]:
    """All that an optimiser remembers, by name, whole; one that is split asks it of every process (`whole_tensors`)."""
    if isinstance(optimizer, ZeroAdam):
        return optimizer.whole_state(keep)
    state = optimizer.state_dict()["state"]
    tensors = {f"{index}.{key}": value for index, entry in state.items() for key, value in entry.items()}
    masters = optimizer.masters if isinstance(optimizer, MasterAdam) else []
    tensors |= {f"{index}.{MASTER}": master.detach() for index, master in enumerate(masters)}
    return whole_tensors(tensors, keep)


@torch.no_grad()
def set_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The reverse of `optimizer_tensors`, on an optimiser of the same weights, split over processes or not.

    The weights have to be in place.
    """
    if isinstance(optimizer, ZeroAdam):
        optimizer.set_whole_state(tensors)
        return
    state: dict[int, dict[str, Tensor]] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        if key == MASTER:
            assert isinstance(optimizer, MasterAdam)
            master = optimizer.masters[int(index)]
            master.copy_(part_of(value, master))
        else:
            moment = value if key == "step" else part_of(value, parameters[int(index)])
            state.setdefault(int(index), {})[key] = moment
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
