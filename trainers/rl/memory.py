"""Accelerator memory: how much a run needs, an estimate of shapes alone.

Counted: weights, and of what is trained the float32 gradients, Adam's two moments and, beside shorter
weights, the float32 masters; activations of one micro-batch with the logits of its response tokens;
the sampling cache. Not counted: the allocator's own slack, for which 15 % are added, and at stages 1 and 2
the buckets in which gradients are sent (`trainers.devices.zero`, up to 0.2 GB).

What several processes need not hold each goes by the stages of ZeRO (Rajbhandari et al. 2020, arXiv
1910.02054, section 3): 0 nothing, 1 the optimiser's state, 2 the gradients too (both `trainers.devices.zero`, which
keeps masters of float32 weights as well), 3 the weights too (`trainers.devices.sharding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PretrainedConfig, PreTrainedModel

from trainers.rl.config import PPOConfig

SLACK = 1.15
GIB = 1024**3


@dataclass(frozen=True)
class Architecture:
    """A decoder's shape; `key_values` is heads of the cache x head size."""

    width: int
    inner: int
    layers: int
    key_values: int
    vocabulary: int
    tied: bool = True

    @property
    def parameters(self) -> int:
        attention = 2 * self.width * self.width + 2 * self.width * self.key_values
        blocks = self.layers * (attention + 3 * self.width * self.inner + 2 * self.width)
        return blocks + self.width * self.vocabulary * (1 if self.tied else 2) + self.width

    @classmethod
    def of(cls, config: PretrainedConfig) -> Architecture:
        config = config.get_text_config()  # of a model that sees too
        heads = config.num_attention_heads
        head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
        return cls(
            width=config.hidden_size,
            inner=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
            layers=config.num_hidden_layers,
            key_values=(getattr(config, "num_key_value_heads", None) or heads) * head_size,
            vocabulary=config.vocab_size,
            tied=bool(config.tie_word_embeddings),
        )


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by what they are for."""

    trained: int  # policy and critic: weights, gradients, moments
    frozen: int  # reference, reward model, grader
    activations: int
    cache: int
    gathered: int = 0  # split models that are whole for a while: reward model and grader, or the policy

    @property
    def total(self) -> int:
        parts = (self.trained, self.frozen, self.activations, self.cache, self.gathered)
        return int(SLACK * sum(parts))

    def __str__(self) -> str:
        parts = {
            "trained": self.trained,
            "frozen": self.frozen,
            "activations": self.activations,
            "cache": self.cache,
            "gathered": self.gathered,
        }
        shown = ", ".join(f"{name} {value / GIB:.1f}" for name, value in parts.items())
        return f"{self.total / GIB:.1f} GiB ({shown}, slack {SLACK - 1:.0%})"


def ppo_memory(
    model: Architecture,
    *,
    bytes_per_value: int,
    trained_share: float,
    batch_size: int,
    micro_batch_size: int,
    prompt_tokens: int,
    response_tokens: int,
    processes: int = 1,
    zero_stage: int = 0,
    shared_trunk: bool = False,
    gradient_checkpointing: bool = False,
    offload: bool = False,
    critic: bool = True,
) -> MemoryEstimate:
    """One process of PPO with its critic, or of an algorithm without one, beside a reference, a reward model and a
    grader of the same architecture.

    `trained_share` is the share of weights that is trained: 1, or an adapter's, whose reference is the
    policy itself. `batch_size` is that of all `processes`, which split what `zero_stage` says. About 34
    values a token and layer of width are kept for the backward pass (Korthikanti et al. 2022, without the
    attention matrix, which is never stored), with checkpointing one a layer and a single layer's 34; and
    logits in float32 with their gradient. With `offload` one frozen model is on the device at a time. At
    stage 3 the two frozen models that grade are whole while they do; the policy, while it samples, is less.
    """
    n, tokens = model.parameters, prompt_tokens + response_tokens
    state = 8 + (0 if bytes_per_value == 4 and zero_stage in (0, 3) else 4)
    trunks = 2 if critic and not shared_trunk else 1
    split = {stage: processes if zero_stage >= stage else 1 for stage in (1, 2, 3)}
    one_trained = bytes_per_value * n / split[3] + (4 / split[2] + state / split[1]) * n * trained_share
    whole = 34 * micro_batch_size * tokens * model.width // 2 * bytes_per_value
    inputs = micro_batch_size * tokens * model.width * model.layers * bytes_per_value
    kept = inputs + whole if gradient_checkpointing else whole * model.layers
    logits = 2 * 4 * micro_batch_size * response_tokens * model.vocabulary
    frozen = 2 + (trained_share == 1.0)
    return MemoryEstimate(
        trained=round(trunks * one_trained),
        frozen=round((1 if offload else frozen) * bytes_per_value * n / split[3]),
        activations=kept + logits,
        cache=2 * bytes_per_value * -(-batch_size // processes) * tokens * model.layers * model.key_values,
        gathered=2 * bytes_per_value * n if split[3] > 1 else 0,
    )


def run_memory(
    policy: PreTrainedModel, prompts: Sequence[Sequence[int]], config: PPOConfig, critic: bool = True
) -> MemoryEstimate:
    """What training `policy` on the token ids of `prompts` needs of its one device; `critic`: beside a critic."""
    weights = sum(p.numel() for p in policy.parameters())
    return ppo_memory(
        Architecture.of(policy.config),
        bytes_per_value=policy.dtype.itemsize,
        trained_share=sum(p.numel() for p in policy.parameters() if p.requires_grad) / weights,
        batch_size=config.batch_size,
        micro_batch_size=config.micro_batch_size,
        prompt_tokens=max(map(len, prompts)),
        response_tokens=config.max_new_tokens,
        shared_trunk=config.shared_trunk,
        gradient_checkpointing=config.gradient_checkpointing,
        offload=config.offload,
        critic=critic,
    )
