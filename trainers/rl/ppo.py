"""Proximal policy optimisation for language models, with any reward of text.

Each update: sample a response to a batch of prompts; grade the texts; turn scores and the KL to the
reference into a reward per token; estimate advantages; take `epochs` passes of clipped policy and
value losses. Rewards come in as text-to-number functions (`trainers.reward.reward.Reward`), the policy is
any causal language model, the critic any one-output sequence classifier. The run can be killed at
any moment and goes on from its last saved state by itself (`trainers.rl.checkpoint`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.values.conversation import Prompt
from evals.values.errors import InputError
from trainers.devices.processes import Processes, current_processes
from trainers.devices.sharding import gathered
from trainers.devices.side_by_side import side_by_side
from trainers.models.adapters import has_adapter
from trainers.reward.reward import Breakdown, Reward
from trainers.rl import formulas
from trainers.rl.checkpoint import RunFolder, random_state, set_random_state, stop_signal
from trainers.rl.config import KLController, PPOConfig
from trainers.rl.learner import Learner, improve, minibatch_rows
from trainers.rl.limits import LIMIT, MAX_ROLLBACKS, ROLLBACKS, check_start, crossed_limit, rolls_back
from trainers.rl.metrics import Averages, PhaseClock, add_experience, add_reward, explained_variance
from trainers.rl.monitor import HeldOut, Monitor
from trainers.rl.offload import models_of, on_device
from trainers.rl.rollout import (
    Experience,
    PromptSet,
    Sampler,
    Samples,
    judge_tokens,
    prompt_set,
    sample,
    scored_rows,
)
from trainers.rl.token_batch import LanguageModelPass, TokenBatch, empty_batch, micro_batches
from trainers.rl.trackers import Trackers
from trainers.rl.vllm import check_agreement

log = logging.getLogger(__name__)

__all__ = ["KLController", "PPOConfig", "train_ppo"]


class RewardRenewal(Protocol):
    """Gives a new reward from time to time; it keeps what it needs to do so again after a kill."""

    def in_force(self, update: int) -> Reward | None:
        """The reward that the update after `update` is graded by; None: the one that training began with."""
        ...

    def after(self, update: int, policy: PreTrainedModel) -> tuple[Reward, dict[str, Any]] | None:
        """A new reward after `update`, and metrics of it; None where none is due. The same for the same policy."""
        ...


def train_ppo(
    policy: PreTrainedModel,
    critic: PreTrainedModel,
    reference: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    reward: Reward,
    config: PPOConfig,
    out: Path,
    progress: Callable[[int], None] | None = None,
    *,
    held_out: HeldOut | None = None,
    renewal: RewardRenewal | None = None,
    sampler: Sampler | None = None,
    trackers: Sequence[str] = (),
) -> None:
    """Train `policy` and `critic` in place, and write to `out`:

    checkpoint-{update}/  the policy at the last `config.checkpoints` save points, Hugging Face format
    critic/               the critic at the end
    metrics.jsonl         a row an update, the same bytes for the same seed; timings.jsonl: seconds
    state-{update}/       while it runs, all that is needed to go on; run.json: settings, whether done

    A run found unfinished in `out` is resumed; a finished one is left as it is, the models too.
    `reference` None is the policy with its adapters off. `progress` is told how many updates have
    just ended. `held_out` is looked at every `config.monitor_every` updates (`trainers.rl.monitor`),
    `renewal` gives a new reward from time to time, `sampler` writes the responses elsewhere (see
    `trainers.rl.vllm`), `trackers` names where metrics are shown. Launched with Accelerate's FSDP or
    DeepSpeed, models or optimisers stay split over the processes; what is written is whole.
    Raises InputError for settings, prompts or models that can not be trained with, UndecidableError
    when too many responses of an update stay unscored, and SystemExit(143), after saving, when
    SIGTERM came.
    """
    processes = current_processes()
    _check_reference(policy, reference)
    _check_batch(config, processes)
    _check_processes(config, processes, renewal, sampler)
    models = (policy, critic) if reference is None else (policy, critic, reference)
    processes.place(*models)
    processes.place(*models_of(reward), by_layer=False)
    data = prompt_set(prompts, tokenizer, models, config)
    folder = RunFolder(Path(out), config, data.ids, tokenizer, processes)
    if folder.finished:
        return
    learner = Learner.start(policy, critic, config, processes)
    reference_pass = _reference_pass(reference, learner, config)
    folder.restore(learner)
    if progress is not None and learner.update:
        progress(learner.update)
    monitor = Monitor(held_out, tokenizer, config, processes)
    run = _Run(learner, reference_pass, tokenizer, data, reward, config, processes, monitor, renewal, sampler)
    run.take_reward_in_force(reward)
    shown = Trackers(trackers if processes.is_main else (), Path(out).name, Path(out), asdict(config))
    ended = learner.rollbacks >= MAX_ROLLBACKS
    furthest, late = learner.update, 0.0
    with stop_signal() as stopping:
        while learner.update < config.updates and not ended:
            metrics, clock, tokens = run.next_update()
            limit = crossed_limit(metrics, config)
            check_start(learner.update, limit)
            if limit is not None and rolls_back(config):
                ended = not folder.roll_back(learner, limit)
                log.warning("%s", learner.events[-1])
                run.take_reward_in_force(reward)
                continue
            metrics |= run.look_at_held_out(folder.rows, metrics, clock)
            metrics |= run.renew_reward(clock)
            if limit is not None:
                metrics[LIMIT] = limit
            with clock.phase("save"):
                folder.record(learner, metrics)
                shown.log(learner.update, metrics)
                ended = limit is not None
                if limit is not None:
                    folder.end_early(learner, limit)
                    log.warning("%s", learner.events[-1])
            # Before the state, which promises that all of its update is on disk; what writing the
            # state takes is counted in the next row.
            clock.seconds["save"] += late
            folder.record_times(learner.update, clock.row(tokens))
            stop = bool(processes.sum(torch.tensor(int(stopping.is_set()))))
            saving = PhaseClock()
            with saving.phase("state"):
                folder.save(learner, now=stop)
            late = saving.seconds["state"]
            if progress is not None and learner.update > furthest:
                furthest = learner.update
                progress(1)
            if stop and learner.update < config.updates and not ended:
                raise SystemExit(143)
    if learner.rollbacks >= MAX_ROLLBACKS:
        check_start(learner.update + 1, learner.events[-1])
        folder.end_early(learner, f"rolled back {learner.rollbacks} times")
    shown.finish()
    folder.finish(learner)
    for optimizer in learner.optimizers.values():
        processes.close(optimizer)


def _check_reference(policy: PreTrainedModel, reference: PreTrainedModel | None) -> None:
    if reference is policy:
        raise InputError("the reference is the policy itself", field="reference", fix="pass a copy of it")
    if reference is None and not has_adapter(policy):
        raise InputError(
            "there is no reference, and the policy has no adapter to turn off",
            field="reference",
            fix="pass a copy of the policy, or give the policy an adapter",
        )


def _reference_pass(
    reference: PreTrainedModel | None, learner: Learner, config: PPOConfig
) -> LanguageModelPass:
    if reference is None:
        return learner.policy_objective.language_model
    return LanguageModelPass(reference.eval(), config.temperature)


def _check_batch(config: PPOConfig, processes: Processes) -> None:
    if config.batch_size < processes.count:
        raise InputError(
            f"is {config.batch_size}, fewer than one response for each of {processes.count} processes",
            field="ppo.batch_size",
            fix="raise it or start fewer processes",
        )


def _check_processes(
    config: PPOConfig, processes: Processes, renewal: RewardRenewal | None, sampler: Sampler | None
) -> None:
    """Raises InputError for what several processes, or models that are split over them, do not go with."""
    if renewal is not None and processes.count > 1:
        raise InputError(
            f"there are {processes.count} processes, and a reward model is trained by one",
            field="renewal",
            fix="start one process, or leave renewal out",
        )
    asked = {
        "ppo.shared_trunk": config.shared_trunk,
        "ppo.offload": config.offload,
        "sampler": sampler is not None,
    }
    for field, is_asked in asked.items():
        if processes.shards and is_asked:
            fix = "leave it out, or launch without FSDP"
            raise InputError("does not go together with models split by FSDP", field=field, fix=fix)


@dataclass
class _Run:
    learner: Learner
    reference: LanguageModelPass
    tokenizer: PreTrainedTokenizerBase
    data: PromptSet
    reward: Reward
    config: PPOConfig
    processes: Processes
    monitor: Monitor
    renewal: RewardRenewal | None
    sampler: Sampler | None

    def next_update(self) -> tuple[dict[str, Any], PhaseClock, int]:
        """One update; returns its metrics, its clock and the response tokens of all processes."""
        learner, config, averages, clock = self.learner, self.config, Averages(), PhaseClock()
        learner.update += 1
        rates = self._set_learning_rates()
        self._look_at_start(clock)
        mine = self.processes.share(list(range(config.batch_size)))
        with clock.phase("rollout"), gathered(learner.policy):
            samples = self._sample(mine)
        graders = models_of(self.reward)
        with clock.phase("grade"), self._resident(graders), gathered(*graders):
            breakdown = self.reward(samples.responses)
        clock.seconds |= dict(getattr(self.reward, "seconds", {}))
        scored = scored_rows(breakdown, len(samples.responses), config.max_unscored, self.processes)
        idle = [] if self.reference.model is learner.policy else [self.reference.model]
        with clock.phase("evaluate"), self._resident(idle):
            batches = self._micro_batches(samples, scored)
            experience = self._judge(samples, breakdown, batches)
        with clock.phase("update"):
            self._improve(self._minibatches(samples, scored, mine, batches), experience, averages)
        add_reward(averages, samples, breakdown)
        add_experience(averages, samples, experience)
        metrics = {"update": learner.update} | averages.means(self.processes) | rates
        metrics["value/explained_variance"] = explained_variance(experience, self.processes)
        metrics["objective/kl_coef"] = learner.kl_coef
        if rolls_back(config):
            metrics[ROLLBACKS] = learner.rollbacks
        check_agreement(metrics)
        kl = metrics["objective/kl"]
        if kl is not None:
            self._adapt_kl_coef(kl)
        return metrics, clock, int(self.processes.sum(samples.lengths.sum()))

    def look_at_held_out(
        self, before: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any], clock: PhaseClock
    ) -> dict[str, Any]:
        """The held-out measures and whether the alarm is raised, in updates where they are due; else nothing."""
        if not self.monitor.is_due(self.learner.update):
            return {}
        with clock.phase("monitor"), gathered(self.learner.policy):
            return self.monitor.look(self.learner.policy, before, metrics)

    def _look_at_start(self, clock: PhaseClock) -> None:
        if self.learner.update == 1 and self.monitor.is_due(1):
            with clock.phase("monitor"), gathered(self.learner.policy):
                self.monitor.look_at_start(self.learner.policy)

    def renew_reward(self, clock: PhaseClock) -> dict[str, Any]:
        """A new reward from here on, in updates where one is due, with what is to be told of it."""
        if self.renewal is None or self.learner.update == self.config.updates:
            return {}
        kept = random_state()
        with clock.phase("renew"):
            renewed = self.renewal.after(self.learner.update, self.learner.policy)
        set_random_state(kept)
        if renewed is None:
            return {}
        self.reward, told = renewed
        return told

    def take_reward_in_force(self, first: Reward) -> None:
        """After a restart or a way back: the renewed reward of that update; `first` where there is none."""
        self.reward = (self.renewal and self.renewal.in_force(self.learner.update)) or first

    def _resident(self, models: Sequence[nn.Module]) -> AbstractContextManager[None]:
        return on_device(models, self.learner.policy.device, self.config.offload)

    def _sample(self, mine: Sequence[int]) -> Samples:
        # Every process draws the numbers of all rows, so that their count does not change a row's.
        config, learner = self.config, self.learner
        rows = self.data.rows(learner.update, config.batch_size, config.seed)
        uniforms = torch.rand(
            config.batch_size, config.max_new_tokens, generator=learner.generator, dtype=torch.float64
        )
        chosen = [rows[i] for i in mine]
        return sample(
            learner.policy, self.tokenizer, self.data, chosen, config, uniforms[list(mine)], self.sampler
        )

    def _micro_batches(self, samples: Samples, rows: Sequence[int]) -> list[TokenBatch]:
        size, pad = self.config.micro_batch_size, int(self.tokenizer.pad_token_id)
        batches = micro_batches(samples.prompt_ids, samples.tokens, samples.lengths, rows, size, pad)
        if self.processes.in_step:  # As many passes as the process with the most.
            missing = max(self.processes.gather(len(batches))) - len(batches)
            batches += [empty_batch(pad, samples.tokens.device)] * missing
        return batches

    def _judge(self, samples: Samples, breakdown: Breakdown, batches: list[TokenBatch]) -> Experience:
        learner = self.learner
        return judge_tokens(
            samples,
            breakdown,
            batches,
            learner.policy_objective.language_model,
            self.reference,
            learner.value_objective.critic,
            learner.kl_coef,
            self.config,
            self.processes.sum,
        )

    def _improve(
        self, minibatches: list[list[list[TokenBatch]]], experience: Experience, averages: Averages
    ) -> None:
        # Policy and critic share nothing within an update; collectives need one order everywhere.
        jobs = [
            partial(improve, objective, minibatches, experience, self.config, self.processes)
            for objective in self.learner.objectives
        ]
        together = self.processes.count == 1 and self.learner.policy.device.type == "cpu"
        for diagnostics in side_by_side(jobs, together=together):
            averages.merge(diagnostics)

    def _minibatches(
        self, samples: Samples, scored: Sequence[int], mine: Sequence[int], batches: list[TokenBatch]
    ) -> list[list[list[TokenBatch]]]:
        """[epoch][minibatch][micro-batch]; one minibatch takes all rows, in the batches at hand."""
        config = self.config
        if config.minibatches == 1:
            return [[batches]] * config.epochs
        local = {mine[row]: row for row in scored}
        return [
            [self._micro_batches(samples, [local[row] for row in part if row in local]) for part in epoch]
            for epoch in minibatch_rows(config, self.learner.generator)
        ]

    def _set_learning_rates(self) -> dict[str, float]:
        config = self.config
        factor = formulas.learning_rate_factor(
            self.learner.update, config.updates, config.warmup, config.anneal
        )
        self.learner.set_learning_rates(factor)
        return {
            "policy/learning_rate": config.learning_rate * factor,
            "value/learning_rate": config.critic_learning_rate * factor,
        }

    def _adapt_kl_coef(self, kl: float) -> None:
        config = self.config
        if config.kl_controller is KLController.ADAPTIVE:
            self.learner.kl_coef = formulas.adapted_kl_coef(
                self.learner.kl_coef, kl, config.kl_target, config.kl_horizon, config.batch_size
            )
