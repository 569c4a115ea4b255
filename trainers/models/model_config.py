"""Which language model is trained, and in which precision."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evals.values.choice import Choice
from evals.values.errors import InputError
from evals.values.ranges import check_ranges, whole

if TYPE_CHECKING:
    import torch


class Precision(Choice):
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"

    @property
    def dtype(self) -> torch.dtype:
        import torch

        return torch.float32 if self is Precision.FLOAT32 else torch.bfloat16


@dataclass
class ModelConfig:
    """Which language model. With a `path` it is loaded; without one it is made and pre-trained here."""

    path: str | None = None  # a Hugging Face folder or hub name
    chat_template: dict[str, Any] = field(default_factory=dict)  # its keys: .enable_thinking=false
    precision: Precision = Precision.FLOAT32  # of the weights: float32 or bfloat16
    lora_rank: int = 0  # of the adapters that are trained; 0 trains every weight
    lora_layers: int = 0  # last layers that have adapters; 0: all
    width: int = 128  # of its states; a multiple of twice the heads
    layers: int = 2  # of a model that is made here
    heads: int = 4  # of attention in a layer
    context: int = 256  # tokens of prompt and response together

    def __post_init__(self) -> None:
        check_ranges(
            self, "model", {"width layers heads context": whole(1), "lora_rank lora_layers": whole(0)}
        )
        if self.chat_template and self.path is None:
            problem = "is set, and a model that is made here has no such keys"
            raise InputError(problem, field="model.chat_template", fix="leave it out, or name model.path")
        if self.width % (2 * self.heads):  # Rotary embeddings turn a head's values in pairs.
            raise InputError(
                f"is {self.width}, no multiple of twice the heads {self.heads}",
                field="model.width",
                fix="choose width = 2 x heads x n",
            )
