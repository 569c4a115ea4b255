"""The processes of one training run: sums and gathers over them, and nothing at all for one process.

Every process holds the whole policy, draws the same random numbers, takes its slice of each batch,
and adds its sums to those of the others, so that their count changes results by rounding alone.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from evals.errors import InputError


class Processes:
    """One process: every collective is the identity and costs nothing."""

    rank = 0
    count = 1

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

    def place(self, *models: nn.Module) -> None:
        """Move `models` to this process's own device; one process leaves them where they are."""

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

    def __init__(self) -> None:
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

    def place(self, *models: nn.Module) -> None:
        for model in models:
            model.to(self._accelerator.device)


def current_processes() -> Processes:
    """The processes that the launcher's environment announces."""
    return AcceleratedProcesses() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Processes()
