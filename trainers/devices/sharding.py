"""Models split over the processes of one machine: torch's fully sharded data parallelism (`fully_shard`).

Each process keeps its part of every weight, of its gradient and of its optimiser's state (stage 3 of ZeRO,
Rajbhandari et al. 2020, arXiv 1910.02054). A layer is gathered when a pass comes to it and let go behind it,
so that the processes have to make the same passes in the same order (`trainers.rl.token_batch.empty_batch`
fills up). Where they cannot, in sampling and grading, a whole model is gathered before and let go after.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from evals.values.errors import InputError


def shard(model: PreTrainedModel, mesh: DeviceMesh, *, by_layer: bool = True) -> None:
    """Split `model` over `mesh`, in place; its passes gather it layer `by_layer`, or as one.

    A critic's trunk and score head are two, since its values are read without its own pass. Gradients
    are summed over the processes in float32, never averaged: losses are divided by the tokens of all.
    Raises InputError where torch is too old for that.
    """
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    if not hasattr(FSDPModule, "set_force_sum_reduction_for_comms"):
        raise InputError(
            f"torch {torch.__version__} can only average gradients under FSDP",
            field="distributed_type",
            fix="install the version of constraints.txt",
        )
    parts = _layers(model) if by_layer else []
    head = getattr(model, "score", None)
    parts += [model] if head is None or not by_layer else [model.base_model, head]
    for part in parts:
        fully_shard(
            part,
            mesh=mesh,
            reshard_after_forward=True,
            mp_policy=MixedPrecisionPolicy(reduce_dtype=torch.float32),
        )
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no scaled sum


def _layers(model: PreTrainedModel) -> list[nn.Module]:
    """The blocks that transformers names as not to be split."""
    names = set(model._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in names]


def is_sharded(model: nn.Module) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


@contextmanager
def gathered(*models: nn.Module) -> Iterator[None]:
    """Inside, every process has `models` whole, and passes of them ask nothing of the others.

    Every process has to enter and to leave; models that are not split stay as they are.
    """
    split = [model for model in models if is_sharded(model)]
    if not split:
        yield
        return
    from torch.distributed.fsdp import FSDPModule

    parts = [module for model in split for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(True, recurse=False)
            part.reshard()


def whole_tensors(tensors: Mapping[str, Tensor], keep: bool = True) -> dict[str, Tensor]:
    """`tensors` with what is split put together, in main memory, one after another.

    Every process has to call it; one that does not `keep` them gets none, and holds one at a time.
    """
    found = {}
    for name, tensor in tensors.items():
        whole = tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor
        if keep:
            found[name] = whole
    return found


def part_of(whole: Tensor, like: Any) -> Tensor:
    """This process's part of `whole`, split as `like` is; `whole` itself where that is not split."""
    if not isinstance(like, DTensor):
        return whole
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
