"""Adam whose state is split over the processes of one machine: stages 1 and 2 of ZeRO, by DeepSpeed.

Every process has the whole weights. It keeps float32 copies and Adam's moments of its part of them only,
and at stage 2 only that part's gradients (Rajbhandari et al. 2020, arXiv 1910.02054); after a step the
parts are gathered. Stage 3 is torch's own (`trainers.devices.sharding`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from evals.values.errors import InputError

MOMENTS = ("exp_avg", "exp_avg_sq")
MASTER = "master"  # the float32 copy of a shorter weight
BUCKET = 50_000_000  # values of gradients or weights sent at once


class ZeroAdam(torch.optim.Adam):
    """Adam through a DeepSpeed engine; `param_groups` hold this process's part of the float32 weights.

    Each of the `count` processes has to make as many passes, and every step, together with the others.
    Raises InputError without DeepSpeed, and for weights of different precisions.
    """

    def __init__(
        self,
        groups: Sequence[Mapping[str, Any]],
        eps: float,
        max_grad_norm: float,
        stage: int,
        count: int,
    ) -> None:
        trained = [{**group, "params": [p for p in group["params"] if p.requires_grad]} for group in groups]
        self.weights: list[Tensor] = [p for group in trained for p in group["params"]]
        self._count = count
        super().__init__(trained, lr=0.0, eps=eps, fused=True)
        settings = engine_settings(stage, max_grad_norm, self.weights)
        self._engine = _engine(_Loss(self.weights), self, settings)
        self._make_state()

    def backward(self, loss: Tensor, divisor: int) -> None:
        """Add the gradients of `loss` / `divisor` to those of the next step.

        DeepSpeed takes their mean over processes, and a loss divided by the tokens of all wants their sum.
        """
        self._engine.backward(self._engine(loss) / divisor * self._count)

    def take_step(self) -> None:
        """Sum gradients over processes, clip their norm, step (`step` is the engine's to call), gather.

        Raises InputError where a gradient is not finite: DeepSpeed leaves such a step of float32 out, and goes on.
        """
        self._engine.step()
        if not math.isfinite(self._engine.get_global_grad_norm()):
            raise InputError(
                "an update's gradient is not a finite number",
                field="ppo.learning_rate",
                fix="lower it, and look at the losses of metrics.jsonl",
            )

    def close(self) -> None:
        """Take the engine's hooks off the weights; they hold it, with all moments, for as long as the weights live."""
        self._engine.destroy()

    def whole_state(self, keep: bool = True) -> dict[str, Tensor]:
        """The state that the same Adam has in one process, by name, in main memory.

        Every process has to call it; one that does not `keep` it gets none, and holds a tensor at a time.
        """
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        found: dict[str, Tensor] = {}
        for index, weight in enumerate(self.weights):
            for key in MOMENTS:
                whole = safe_get_full_optimizer_state(weight, key)
                found |= {f"{index}.{key}": whole.cpu()} if keep else {}
            if weight.dtype != torch.float32:
                master = safe_get_full_fp32_param(weight)
                found |= {f"{index}.{MASTER}": master.cpu()} if keep else {}
        steps = next(iter(self.state.values()))["step"].cpu()
        return found | {f"{index}.step": steps.clone() for index in range(len(self.weights)) if keep}

    @torch.no_grad()
    def set_whole_state(self, tensors: Mapping[str, Tensor]) -> None:
        """The reverse, and of what one process has saved; none is the state before the first step.

        The weights have to be in place: the float32 copies of float32 weights are taken from them.
        """
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        for index, weight in enumerate(self.weights):
            safe_set_full_fp32_param(weight, tensors.get(f"{index}.{MASTER}", weight))
            for key in MOMENTS:
                none = torch.zeros_like(weight, dtype=torch.float32)
                safe_set_full_optimizer_state(weight, tensors.get(f"{index}.{key}", none), key)
        for part in self.state.values():
            part["step"].fill_(tensors.get("0.step", 0.0))

    def _make_state(self) -> None:
        """Moments of zero: DeepSpeed knows whose they are once they exist, and a resumed run must fill them."""
        for group in self.param_groups:
            for part in group["params"]:
                moments = {key: torch.zeros_like(part, requires_grad=False) for key in MOMENTS}
                self.state[part] = {"step": torch.zeros((), device=part.device), **moments}
        self._engine.optimizer._lazy_init_hp_params_optimizer_state()


class _Loss(nn.Module):
    """What the engine takes for its model: the trained weights, and a pass that hands on any loss of them."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weights)

    def forward(self, loss: Tensor) -> Tensor:
        return loss


def engine_settings(stage: int, max_grad_norm: float, weights: Sequence[Tensor]) -> dict[str, Any]:
    """DeepSpeed's configuration. Sums are of float32, and the training loop says when to step."""
    bucket = min(BUCKET, sum(weight.numel() for weight in weights))
    return {
        "train_micro_batch_size_per_gpu": 1,  # has to be given; batches are made by the training loop
        "managed_gradient_accumulation": False,
        "zero_optimization": {"stage": stage, "reduce_bucket_size": bucket, "allgather_bucket_size": bucket},
        "zero_allow_untested_optimizer": True,  # a subclass of torch's Adam, which is tested
        "gradient_clipping": max_grad_norm,
        "bf16": {"enabled": one_precision(weights) == torch.bfloat16},
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
    }


def one_precision(weights: Sequence[Tensor]) -> torch.dtype:
    """The precision of `weights`. Raises InputError for several: a part is cut from one flat tensor."""
    found = {weight.dtype for weight in weights}
    if len(found) > 1:
        raise InputError(
            f"the trained weights are of {' and '.join(sorted(map(str, found)))}",
            field="model.precision",
            fix="give them one precision, or launch without DeepSpeed",
        )
    return found.pop()


def import_deepspeed() -> Any:
    """The module. Raises InputError where it is not installed, or too old to be told when to step."""
    try:
        import deepspeed
        from deepspeed.runtime.constants import MANAGED_GRADIENT_ACCUMULATION  # noqa: F401
    except ImportError:
        raise InputError(
            "the launch asks for DeepSpeed, which is not installed or too old",
            field="distributed_type",
            fix="pip install -e '.[deepspeed]' here, or launch with conf/accelerate/fsdp.yaml or one_node.yaml",
        ) from None
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)  # Each engine has pages to say.
    return deepspeed


def _engine(model: nn.Module, optimizer: torch.optim.Optimizer, settings: dict[str, Any]) -> Any:
    engine, *_ = import_deepspeed().initialize(
        model=model, optimizer=optimizer, config=settings, dist_init_required=False
    )
    return engine
