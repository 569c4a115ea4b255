"""The processes of one training run: sums and gathers over them, and nothing at all for one process.

Every process draws the same random numbers, takes its slice of each batch, and adds its sums to those of
the others, so that their count changes results by rounding alone. Each holds the whole models, or, launched
with Accelerate's FSDP, its part of them (`trainers.sharding`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from evals.errors import InputError
from trainers.sharding import is_sharded, shard


class Processes:
    """One process: every collective is the identity and costs nothing."""

    rank = 0
    count = 1
    shards = False

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

        `by_layer`: how split models are gathered (`trainers.sharding.shard`).
        """

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Give each of `parameters` the sum of its gradients over processes."""

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
    """Several processes, set up by `accelerate launch` or `torchrun`.

    Raises InputError for a launch whose settings training would not follow.
    """

    def __init__(self) -> None:
        self.shards = shards_models(os.environ)
        from accelerate import Accelerator

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


def current_processes() -> Processes:
    """The processes that the launcher's environment announces."""
    return AcceleratedProcesses() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Processes()


# What `accelerate launch` announces of a configuration, and the one value that training here follows.
_LAUNCH = {
    "ACCELERATE_USE_DEEPSPEED": ("false", "distributed_type", "DeepSpeed has an optimiser of its own"),
    "ACCELERATE_USE_MEGATRON_LM": ("false", "distributed_type", "Megatron-LM has models of its own"),
    "ACCELERATE_MIXED_PRECISION": ("no", "mixed_precision", "the weights' own precision decides"),
}
_FSDP_LAUNCH = {
    "FSDP_VERSION": ("2", "fsdp_version", "only the second version is supported"),
    "FSDP_RESHARD_AFTER_FORWARD": ("true", "fsdp_reshard_after_forward", "layers are always let go"),
    "FSDP_OFFLOAD_PARAMS": ("false", "fsdp_offload_params", "parts stay on their device"),
    "FSDP_ACTIVATION_CHECKPOINTING": (
        "false",
        "fsdp_activation_checkpointing",
        "ppo.gradient_checkpointing decides",
    ),
}


def shards_models(environment: Mapping[str, str]) -> bool:
    """Whether the launcher asks for FSDP. Raises InputError for a setting of it that would be left out."""
    shards = environment.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    for name, (followed, field, why) in (_LAUNCH | (_FSDP_LAUNCH if shards else {})).items():
        # Accelerate's own default of FSDP_VERSION is 1.
        value = environment.get(name, "1" if name == "FSDP_VERSION" else followed).lower()
        if value != followed:
            raise InputError(
                f"Accelerate's configuration says {value}, and {why}",
                field=field,
                fix=f"set it to {followed}, or launch with conf/accelerate/fsdp.yaml or one_node.yaml",
            )
    return shards
