"""The processes of one training run: sums and gathers over them, and nothing at all for one process.

Every process draws the same random numbers, takes its slice of each batch, and adds its sums to those of
the others, so that their count changes results by rounding alone. Each holds the whole models and optimisers,
or a part: of the optimisers with DeepSpeed (`zero`), of all with FSDP (`sharding`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from evals.values.errors import InputError
from trainers.devices.announced import zero_stage
from trainers.devices.optimizer import adam
from trainers.devices.sharding import is_sharded, shard
from trainers.devices.zero import ZeroAdam, import_deepspeed


class Processes:
    """One process: every collective is the identity and costs nothing.

    `shards`: models are split. `in_step`: every process has to make as many passes as the others.
    """

    rank = 0
    count = 1
    shards = False
    in_step = False

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, x: Tensor) -> Tensor:
        """The sum of `x` over processes, on each of them."""
        return x

    def gather(self, value: Any) -> list[Any]:
        """`value` of every process, in order of rank, on each of them."""
        return [value]

    def wait(self) -> None:
        """Return when every process has come here."""

    def place(self, *models: Any, by_layer: bool = True) -> None:
        """Move `models` to this process's own device, or its part of them; one process leaves them where they are.

        `by_layer`: how split models are gathered (`trainers.devices.sharding.shard`).
        """

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Give each of `parameters` the sum of its gradients over processes."""

    def adam(self, groups: Sequence[Mapping[str, Any]], eps: float, max_grad_norm: float) -> torch.optim.Adam:
        """Adam over parameter groups, each with `params` and its `base_lr`; frozen weights are left out."""
        return adam(groups, eps)

    def backward(self, optimizer: torch.optim.Optimizer, loss: Tensor, divisor: int) -> None:
        """Add the gradients of `loss` / `divisor` to those of the next step."""
        (loss / divisor).backward()

    def step(self, optimizer: torch.optim.Optimizer, max_grad_norm: float) -> None:
        """A step along the gradients, summed over processes, their norm at most `max_grad_norm`."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.sum_gradients(parameters)
        nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def close(self, optimizer: torch.optim.Optimizer) -> None:
        """Let go of what `optimizer` holds beside the weights."""

    def agree(self, problem: InputError | None) -> None:
        """Raise on every process the problem that any has, so that none waits for that one in vain."""
        texts = [text for text in self.gather(str(problem) if problem else None) if text]
        if problem is not None:
            raise problem
        if texts:
            said, _, fix = texts[0].rpartition("; ")
            raise InputError(said, fix=fix)

    def share(self, rows: list[int]) -> list[int]:
        """This process's slice of `rows`; the slices joined in order of rank are `rows` again."""
        ends = [len(rows) * i // self.count for i in range(self.count + 1)]
        return rows[ends[self.rank] : ends[self.rank + 1]]


class AcceleratedProcesses(Processes):
    """Several processes, set up by `accelerate launch` or `torchrun`."""

    def __init__(self, shards: bool = False) -> None:
        self.shards = self.in_step = shards
        from accelerate import Accelerator
        from accelerate.utils import patch_environment

        # For collectives alone: `trainers.devices.zero` makes DeepSpeed's engines.
        with patch_environment(ACCELERATE_USE_DEEPSPEED="false"):
            self._accelerator = Accelerator(cpu=not torch.cuda.is_available())
        self.rank = self._accelerator.process_index
        self.count = self._accelerator.num_processes

    def sum(self, x: Tensor) -> Tensor:
        # A copy, since the collective writes in place; NCCL adds on its own device only.
        moved = x.detach().clone().to(self._accelerator.device)
        return self._accelerator.reduce(moved, reduction="sum").to(x.device)

    def gather(self, value: Any) -> list[Any]:
        from accelerate.utils import gather_object

        return gather_object([value])

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()

    def place(self, *models: Any, by_layer: bool = True) -> None:
        device = self._accelerator.device
        if not self.shards:
            for model in models:
                model.to(device)
            return
        from torch.distributed.device_mesh import init_device_mesh

        mesh = init_device_mesh(device.type, (self.count,))
        for model in models:
            if not is_sharded(model):
                shard(model, mesh, by_layer=by_layer)

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        if self.shards:  # The backward pass has summed them.
            return
        for parameter in parameters:  # A process whose rows are all unscored adds nothing.
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        flat = self.sum(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
        for parameter, grad in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            assert parameter.grad is not None  # since it was set above
            parameter.grad.copy_(grad.view_as(parameter))


class ZeroProcesses(AcceleratedProcesses):
    """Processes that have whole models, and each a part of the optimisers' state (`trainers.devices.zero`)."""

    def __init__(self, stage: int) -> None:
        import_deepspeed()  # Where it is missing, nothing has been written yet.
        super().__init__()
        self.in_step, self._stage = True, stage

    def adam(self, groups: Sequence[Mapping[str, Any]], eps: float, max_grad_norm: float) -> torch.optim.Adam:
        return ZeroAdam(groups, eps, max_grad_norm, self._stage, self.count)

    def backward(self, optimizer: torch.optim.Optimizer, loss: Tensor, divisor: int) -> None:
        assert isinstance(optimizer, ZeroAdam)
        optimizer.backward(loss, divisor)

    def step(self, optimizer: torch.optim.Optimizer, max_grad_norm: float) -> None:
        assert isinstance(optimizer, ZeroAdam)  # which was told the norm when it was made
        optimizer.take_step()

    def close(self, optimizer: torch.optim.Optimizer) -> None:
        assert isinstance(optimizer, ZeroAdam)
        optimizer.close()


def current_processes() -> Processes:
    """The processes that the launcher's environment announces.

    Raises InputError for a launch whose settings training would not follow.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    stage = zero_stage(os.environ)
    return ZeroProcesses(stage) if stage in (1, 2) else AcceleratedProcesses(shards=stage == 3)
