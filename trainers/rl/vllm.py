"""Sampling through a vLLM server, behind the rollout's `Sampler` interface.

    trl vllm-serve --model FOLDER --port 8000      on a device of its own
    train_ppo(..., options=Options(sampler=VLLMSampler("http://localhost:8000", tokenizer)))

Before each round the policy's weights are sent to the server (TRL's client, over NCCL). A server computes
with other kernels than the trainer: the log-probabilities of what it wrote differ, by about 0.01 nats a
token in bfloat16. PPO takes its own as the old ones, and weighs each token's advantage by
min(p_trainer / p_sampler, 2) (`trainers.rl.formulas.importance_weights`). `rollout/log_prob_gap` is the mean
difference; from `GAP_LIMIT` on the server has other weights than the trainer, and the run ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.models.sampling import Generation, stop_token_ids
from evals.values.errors import InputError
from trainers.models.adapters import has_adapter, plain_weights
from trainers.rl.config import PPOConfig

GAP_LIMIT = 0.5  # nats a token


class VLLMSampler:
    """Needs the extra `vllm` and a CUDA device. Raises InputError where the client can not be made."""

    def __init__(self, url: str, tokenizer: PreTrainedTokenizerBase, timeout: float = 240.0) -> None:
        try:
            from trl.generation.vllm_client import VLLMClient

            self._client: Any = VLLMClient(base_url=url, connection_timeout=timeout)
            self._client.init_communicator(torch.device("cuda", torch.cuda.current_device()))
        except (ImportError, AssertionError, RuntimeError, OSError) as error:
            raise InputError(
                f"no vLLM server can be used at {url} ({str(error).strip().splitlines()[0]})",
                field="vllm",
                fix="pip install -e '.[vllm]' in the checkout, start `trl vllm-serve`, and train on a CUDA device",
            ) from None
        self._tokenizer = tokenizer

    def __call__(
        self, policy: PreTrainedModel, prompts: Sequence[Sequence[int]], config: PPOConfig, uniforms: Tensor
    ) -> Generation:
        weights = plain_weights(policy) if has_adapter(policy) else policy.state_dict()
        with self._client.weight_update():
            for name, value in weights.items():
                self._client.update_named_param(name, value)
        self._client.reset_prefix_cache()
        stops = stop_token_ids(policy, self._tokenizer)
        seed = int(uniforms[0, 0].item() * 2**31)
        written = self._client.generate(
            [list(prompt) for prompt in prompts],
            temperature=config.temperature,
            max_tokens=config.max_new_tokens,
            logprobs=0,
            generation_kwargs={"stop_token_ids": list(stops), "seed": seed},
        )
        return generation(
            written["completion_ids"],
            [[token[0] for token in row] for row in written["logprobs"]],
            stops,
            int(self._tokenizer.pad_token_id),
            config.max_new_tokens,
            policy.device,
        )


def generation(
    tokens: Sequence[Sequence[int]],
    log_probs: Sequence[Sequence[float]],
    stops: Sequence[int],
    pad_id: int,
    limit: int,
    device: torch.device | str,
) -> Generation:
    """A server's lists as padded tensors [batch, limit]; a response has finished when its last token stops.

    A server that leaves the stop token out of a response that is shorter than the limit is refused: the
    score would land on the wrong token.
    """
    batch = len(tokens)
    ids = torch.full((batch, limit), pad_id)
    chances = torch.zeros(batch, limit)
    for row, (written, chance) in enumerate(zip(tokens, log_probs, strict=True)):
        if not written or (len(written) < limit and written[-1] not in stops):
            raise InputError(
                f"response {row} of {len(written)} tokens ends without a stop token",
                field="vllm",
                fix="have the server return stop tokens, and check its own limit of tokens",
            )
        ids[row, : len(written)] = torch.tensor(list(written))
        chances[row, : len(written)] = torch.tensor(list(chance))
    lengths = torch.tensor([len(written) for written in tokens])
    finished = torch.tensor([written[-1] in stops for written in tokens])
    parts = (ids, lengths, finished, chances, torch.zeros(batch, limit))
    return Generation(*(part.to(device) for part in parts))


def check_agreement(metrics: Mapping[str, Any]) -> None:
    """Raises InputError when the sampler's log-probabilities are too far from the trainer's to correct for."""
    gap = metrics.get("rollout/log_prob_gap")
    if gap is not None and gap > GAP_LIMIT:
        raise InputError(
            f"its log-probabilities differ from the trainer's by {gap:.2f} nats a token on average, more "
            f"than {GAP_LIMIT}",
            field="sampler",
            fix="check that it has the policy's present weights, tokenizer and temperature",
        )
