"""A round of responses: which prompts are asked, what the policy writes to them, and which have a score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.models.load import check_padding, check_prompt_length, context_length, prompt_token_ids
from evals.models.sampling import Generation, generate, read_responses, stop_token_ids
from evals.values.conversation import Prompt, Response
from evals.values.errors import InputError, UndecidableError
from evals.values.grades import check_unscored, commonest_reason
from trainers.devices.processes import Processes
from trainers.reward.reward import Breakdown, answered
from trainers.rl.config import PPOConfig


@dataclass(frozen=True)
class PromptSet:
    """Prompts with their token ids, in the order given."""

    prompts: Sequence[Prompt]
    ids: Sequence[Sequence[int]]

    def rows(self, update: int, batch_size: int, seed: int) -> list[int]:
        """Which prompts update 1, 2, ... takes: one shuffled pass over all of them after another.

        A function of its arguments alone: the data's position needs no state of its own.
        """
        first = (update - 1) * batch_size
        passes = range(first // len(self.ids), (first + batch_size - 1) // len(self.ids) + 1)
        order = np.concatenate([np.random.default_rng([seed, k]).permutation(len(self.ids)) for k in passes])
        start = first - passes[0] * len(self.ids)
        return [int(i) for i in order[start : start + batch_size]]


def prompt_set(
    prompts: Sequence[Prompt],
    tokenizer: PreTrainedTokenizerBase,
    models: Sequence[PreTrainedModel],
    config: PPOConfig,
) -> PromptSet:
    """Tokenise, and raise InputError for what can not be trained on.

    That is: no prompts, a PAD that is EOS, a prompt that with `max_new_tokens` does not fit into
    the context of each of `models`.
    """
    check_padding(tokenizer, getattr(tokenizer, "name_or_path", "") or "tokenizer")
    if not prompts:
        raise InputError("there are no prompts to train on", field="prompts", fix="give at least one")
    context = min(context_length(model) for model in models)
    if config.max_new_tokens >= context:
        raise InputError(
            f"is {config.max_new_tokens}, the model's context is {context} tokens",
            field="ppo.max_new_tokens",
            fix="lower it, or take a model with a longer context",
        )
    ids = [prompt_token_ids(tokenizer, prompt.messages) for prompt in prompts]
    check_prompt_length(prompts, [len(row) for row in ids], context - config.max_new_tokens)
    return PromptSet(prompts, ids)


class Sampler(Protocol):
    """Writes responses elsewhere than in the trainer's own model, from the policy's present weights.

    Its log-probabilities are another program's: PPO takes its own and corrects for the difference. Its
    responses need not depend on `uniforms`, and then differ from run to run.
    """

    def __call__(
        self, policy: PreTrainedModel, prompts: Sequence[Sequence[int]], config: PPOConfig, uniforms: Tensor
    ) -> Generation:
        """One response to each prompt (token ids); `entropy` may be 0 throughout."""
        ...


@dataclass(frozen=True)
class Samples:
    """Responses as sampled; tensors are [batch, time] or [batch], as in evals.models.sampling.Generation.

    `elsewhere`: by another program than the trainer's, whose log-probabilities differ.
    """

    responses: list[Response]
    prompt_ids: list[Sequence[int]]
    tokens: Tensor
    lengths: Tensor
    finished: Tensor
    log_probs: Tensor
    entropy: Tensor
    elsewhere: bool = False

    @property
    def mask(self) -> Tensor:
        return torch.arange(self.tokens.shape[1], device=self.tokens.device) < self.lengths[:, None]


def sample(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: PromptSet,
    rows: Sequence[int],
    config: PPOConfig,
    uniforms: Tensor,
    sampler: Sampler | None = None,
    expect: Callable[[Sequence[Response]], object] | None = None,
) -> Samples:
    """One response to each of `rows` of the prompts; uniforms: [batch, max_new_tokens].

    `expect` is told of responses as they end, while others are still written; by another program's they are not.
    """

    def responses(chosen: Sequence[int], written: Generation) -> list[Response]:
        texts = zip(chosen, read_responses(tokenizer, written), written.finished.tolist(), strict=True)
        return [read.response(data.prompts[rows[i]], finished=finished) for i, read, finished in texts]

    ids = [data.ids[row] for row in rows]
    if sampler is not None:
        written = sampler(policy, ids, config, uniforms)
    else:
        written = generate(
            policy,
            ids,
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            stop_ids=stop_token_ids(policy, tokenizer),
            pad_id=int(tokenizer.pad_token_id),
            uniforms=uniforms,
            record=True,
            ended=expect and (lambda ended, part: expect(answered(responses(ended, part)))),
        )
    time = int(written.lengths.max())
    return Samples(
        responses(range(len(rows)), written),
        ids,
        written.tokens[:, :time],
        written.lengths,
        written.finished,
        written.log_probs[:, :time],
        written.entropy[:, :time],
        sampler is not None,
    )


def problem_of(breakdown: Breakdown, count: int) -> InputError | None:
    """None if there is a finite total, or NaN with a reason, for each response."""
    total = np.asarray(breakdown.total)
    if total.shape != (count,):
        return InputError(
            f"the reward gave totals of shape {total.shape} for {count} responses",
            fix="give one total a response",
        )
    for row in range(count):
        if np.isnan(total[row]) if row in breakdown.reasons else np.isfinite(total[row]):
            continue
        return InputError(
            f"the reward of response {row} is {total[row]} with reason {breakdown.reasons.get(row)!r}",
            fix="give a finite number, or NaN and its reason",
        )
    return None


def scored_rows(breakdown: Breakdown, count: int, limit: float, processes: Processes) -> list[int]:
    """The rows, of this process's `count`, that have a score.

    Raises UndecidableError, with the commonest reason, when of all processes' responses none or
    fewer than 1 - `limit` have one.
    """
    processes.agree(problem_of(breakdown, count))
    parts = processes.gather((count, list(breakdown.reasons.values())))
    responses, reasons = sum(part[0] for part in parts), [reason for part in parts for reason in part[1]]
    check_unscored(len(reasons), responses, limit, "responses have no score", reasons)
    if reasons and len(reasons) == responses:
        why = commonest_reason(reasons)
        raise UndecidableError(f"none of {responses} responses has a score, which an update needs: {why}")
    return [row for row in range(count) if row not in breakdown.reasons]
