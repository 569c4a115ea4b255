"""Reinforcement learning of language models, with any reward of text: the loop that every algorithm shares.

Each update: sample responses to a batch of prompts; grade the texts; turn scores and the KL to the
reference into a reward per token; estimate advantages; improve the policy, and the critic where there is
one. What is an algorithm's own in that is its `trainers.rl.recipe.Recipe`: PPO's is `trainers.rl.ppo`.
Rewards come in as text-to-number functions (`trainers.reward.reward.Reward`), the policy is any causal
language model, the critic any one-output sequence classifier. The run can be killed at any moment and goes
on from its last saved state by itself (`trainers.rl.checkpoint`).

To know beside it: `rollout` samples, `experience` judges tokens, `objectives` are what steps are taken
along, `formulas` has the mathematics, `config` the settings.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.values.conversation import Prompt, Response
from evals.values.errors import InputError
from trainers.devices.processes import Processes, current_processes
from trainers.devices.sharding import gathered
from trainers.devices.side_by_side import side_by_side
from trainers.models.adapters import has_adapter
from trainers.reward.reward import Breakdown, Reward, pay, paying_grades
from trainers.rl import formulas
from trainers.rl.alarm import LIMIT, MAX_ROLLBACKS, PARTING_ALARM, ROLLBACKS, check_start, crossed_limit
from trainers.rl.checkpoint import RunFolder, stop_signal
from trainers.rl.config import KLController, PPOConfig, ScoreBaseline
from trainers.rl.experience import Experience, judge_tokens
from trainers.rl.learner import Learner, share_frozen_layers
from trainers.rl.metrics import Averages, PhaseClock, add_experience, add_reward, explained_variance
from trainers.rl.monitor import HeldOut, Monitor, Payer
from trainers.rl.objectives import Stepping, minibatch_rows
from trainers.rl.offload import models_of, on_device
from trainers.rl.random_state import random_state, set_random_state
from trainers.rl.recipe import Recipe
from trainers.rl.rollout import PromptSet, Sampler, Samples, prompt_set, sample, scored_rows
from trainers.rl.token_batch import LanguageModelPass, TokenBatch, empty_batch, micro_batches
from trainers.rl.trackers import Trackers
from trainers.rl.vllm import check_agreement

log = logging.getLogger(__name__)


class RewardRenewal(Protocol):
    """Gives a new reward from time to time; it keeps what it needs to do so again after a kill."""

    def in_force(self, update: int) -> Reward | None:
        """The reward that the update after `update` is graded by; None: the one that training began with."""
        ...

    def after(
        self, update: int, policy: PreTrainedModel, parted: bool
    ) -> tuple[Reward, dict[str, Any]] | None:
        """A new reward after `update`, and metrics of it; None where none is due. The same for the same policy.

        `parted`: the alarm is up that payer and judge part on a proposition.
        """
        ...


@dataclass(frozen=True)
class Models:
    """`policy` and `critic`, None for an algorithm without one, are trained in place.

    `reference` None is the policy with its adapters off.
    """

    policy: PreTrainedModel
    critic: PreTrainedModel | None
    reference: PreTrainedModel | None
    tokenizer: PreTrainedTokenizerBase

    @property
    def present(self) -> list[PreTrainedModel]:
        return [model for model in (self.policy, self.critic, self.reference) if model is not None]


@dataclass(frozen=True)
class Options:
    """What a run may do without.

    progress: told how many updates have just ended. held_out: looked at every `config.monitor_every`
    updates (`trainers.rl.monitor`). renewal: gives a new reward from time to time. sampler: writes the
    responses elsewhere (`trainers.rl.vllm`). trackers: where metrics are shown.
    """

    progress: Callable[[int], None] = lambda _: None
    held_out: HeldOut | None = None
    renewal: RewardRenewal | None = None
    sampler: Sampler | None = None
    trackers: Sequence[str] = ()


def train(
    recipe: Recipe,
    models: Models,
    prompts: Sequence[Prompt],
    reward: Reward,
    config: PPOConfig,
    out: Path,
    options: Options | None = None,
) -> None:
    """Train by `recipe` what `models` has to be trained, as `trainers.rl.ppo.train_ppo` says of PPO.

    Without a critic there is no critic/. Raises InputError, too, for settings that the algorithm lacks.
    """
    options = options or Options()
    processes = current_processes()
    recipe.check(config, processes.count)
    _check_models(recipe, models)
    _check_batch(config, processes)
    _check_options(recipe, processes, options)
    _check_processes(config, processes, options)
    processes.place(*models.present)
    processes.place(*models_of(reward), by_layer=False)
    data = prompt_set(prompts, models.tokenizer, models.present, config)
    folder = RunFolder(Path(out), config, data.ids, models.tokenizer, processes, recipe)
    if folder.finished:
        return
    learner = Learner.start(models.policy, models.critic, config, processes, recipe)
    reference = _reference_pass(models, learner, config)
    run = _Run(recipe, models, learner, reference, data, config, processes, options)
    share_frozen_layers(learner.policy, reward, config)
    folder.restore(learner)
    if learner.update:
        options.progress(learner.update)
    paid = run.reward_in_force(reward)
    shown = Trackers(options.trackers if processes.is_main else (), Path(out).name, Path(out), run.settings)
    ended, furthest, late = learner.rollbacks >= MAX_ROLLBACKS, learner.update, 0.0

    with stop_signal() as stopping:
        while learner.update < config.updates and not ended:
            learner.update += 1
            clock = PhaseClock()
            rates = run.set_learning_rates()
            run.look_at_start(paid, clock)

            # Sample: this process's part of the batch.
            mine = processes.share(list(range(config.batch_size)))
            with clock.phase("rollout"), gathered(learner.policy):
                samples = run.sample(mine, paid)

            # Grade: a total for each text, or none and its reason.
            graders = models_of(paid)
            with clock.phase("grade"), run.on_device(graders), gathered(*graders):
                breakdown = pay(paid, samples.responses)
            clock.seconds |= dict(getattr(paid, "seconds", {}))
            scored = scored_rows(breakdown, len(samples.responses), config.max_unscored, processes)

            # Judge tokens: KL to the reference, values, rewards, advantages.
            with clock.phase("evaluate"), run.on_device(run.idle):
                batches = run.micro_batches(samples, scored)
                experience = run.judge_tokens(samples, breakdown, batches)

            # Improve: policy and critic share nothing within an update, so that both may step at once;
            # over several processes collectives need one order everywhere.
            averages = Averages()
            with clock.phase("update"):
                minibatches = run.minibatches(samples, scored, mine, batches)
                step = partial(run.improve, minibatches=minibatches, experience=experience)
                at_once = processes.count == 1 and learner.policy.device.type == "cpu"
                with side_by_side(len(learner.objectives), together=at_once) as each:
                    for diagnostics in each(step, learner.objectives):
                        averages.merge(diagnostics)

            metrics = run.metrics(averages, samples, breakdown, experience, rates)
            tokens = int(processes.sum(samples.lengths.sum()))
            limit = crossed_limit(metrics, config)
            check_start(learner.update, limit)
            if limit is not None and config.rolls_back:
                ended = not folder.roll_back(learner, limit)
                log.warning("%s", learner.events[-1])
                paid = run.reward_in_force(reward)
                continue
            metrics |= run.look_at_held_out(paid, folder.rows, metrics, clock)
            paid, told = run.renewed(paid, metrics, clock)
            metrics |= told
            if limit is not None:
                metrics[LIMIT] = limit

            # Save: the row, its times, then the state, which promises that all of its update is on
            # disk; what writing the state takes is counted in the next row.
            with clock.phase("save"):
                folder.record(learner, metrics)
                shown.log(learner.update, metrics)
                ended = limit is not None
                if limit is not None:
                    folder.end_early(learner, limit)
                    log.warning("%s", learner.events[-1])
            clock.seconds["save"] += late
            folder.record_times(learner.update, clock.row(tokens))
            stop = bool(processes.sum(torch.tensor(int(stopping.is_set()))))
            saving = PhaseClock()
            with saving.phase("state"):
                folder.save(learner, now=stop)
            late = saving.seconds["state"]
            if learner.update > furthest:
                furthest = learner.update
                options.progress(1)
            if stop and learner.update < config.updates and not ended:
                raise SystemExit(143)

    if learner.rollbacks >= MAX_ROLLBACKS:
        check_start(learner.update + 1, learner.events[-1])
        folder.end_early(learner, f"rolled back {learner.rollbacks} times")
    shown.finish()
    folder.finish(learner)
    for optimizer in learner.optimizers.values():
        processes.close(optimizer)


@dataclass
class _Run:
    """What the loop calls by name: each step's arguments put together, in the order of an update."""

    recipe: Recipe
    models: Models
    learner: Learner
    reference: LanguageModelPass
    data: PromptSet
    config: PPOConfig
    processes: Processes
    options: Options

    def __post_init__(self) -> None:
        self.monitor = Monitor(self.options.held_out, self.models.tokenizer, self.config, self.processes)
        self.idle = [self.models.reference] if self.models.reference is not None else []
        self.on_device = partial(on_device, device=self.learner.policy.device, offload=self.config.offload)
        self.settings = asdict(self.config) | self.recipe.identity
        self.types = tuple(dict.fromkeys(prompt.response_type for prompt in self.data.prompts))

    def set_learning_rates(self) -> dict[str, float]:
        config = self.config
        factor = formulas.learning_rate_factor(
            self.learner.update, config.updates, config.warmup, config.anneal
        )
        self.learner.set_learning_rates(factor)
        rates = {}
        if self.recipe.descends:
            rates["policy/learning_rate"] = config.learning_rate * factor
        if self.learner.critic is not None:
            rates["value/learning_rate"] = config.critic_learning_rate * factor
        return rates

    def sample(self, mine: Sequence[int], paid: Reward) -> Samples:
        # Every process draws the numbers of all rows, so that their count does not change a row's.
        config, learner, each = self.config, self.learner, self.recipe.responses_a_prompt
        asked = self.data.rows(learner.update, config.batch_size // each, config.seed)
        rows = [row for row in asked for _ in range(each)]
        uniforms = torch.rand(
            config.batch_size, config.max_new_tokens, generator=learner.generator, dtype=torch.float64
        )[list(mine)]
        chosen, tokenizer, sampler = [rows[i] for i in mine], self.models.tokenizer, self.options.sampler
        # A reward that waits for others is told of each response as it ends.
        expect = getattr(paid, "expect", None)
        return sample(learner.policy, tokenizer, self.data, chosen, config, uniforms, sampler, expect)

    def micro_batches(self, samples: Samples, rows: Sequence[int]) -> list[TokenBatch]:
        size, pad = self.config.micro_batch_size, int(self.models.tokenizer.pad_token_id)
        batches = micro_batches(samples.prompt_ids, samples.tokens, samples.lengths, rows, size, pad)
        if self.processes.in_step:  # As many passes as the process with the most.
            missing = max(self.processes.gather(len(batches))) - len(batches)
            batches += [empty_batch(pad, samples.tokens.device)] * missing
        return batches

    def judge_tokens(self, samples: Samples, breakdown: Breakdown, batches: list[TokenBatch]) -> Experience:
        learner, value = self.learner, self.learner.value_objective
        return judge_tokens(
            samples,
            breakdown,
            batches,
            learner.policy_objective.language_model,
            self.reference,
            None if value is None else value.critic,
            learner.kl_coef if self.recipe.kl_in_reward else 0.0,
            self.config,
            self.processes.sum,
            self.recipe.estimate,
            self.types_of(samples.responses),
        )

    def types_of(self, responses: Sequence[Response]) -> Tensor | None:
        """[types, batch]: which response is to a prompt of which type of the training's; None where no score asks."""
        if self.config.score_baseline is ScoreBaseline.NONE:
            return None
        of = [[r.prompt.response_type is one for r in responses] for one in self.types]
        return torch.tensor(of, device=self.learner.policy.device)

    def minibatches(
        self, samples: Samples, scored: Sequence[int], mine: Sequence[int], batches: list[TokenBatch]
    ) -> list[list[list[TokenBatch]]]:
        """[epoch][minibatch][micro-batch]; one minibatch takes all rows, in the batches at hand."""
        config = self.config
        if config.minibatches == 1:
            return [[batches]] * (self.recipe.epochs or config.epochs)
        local = {mine[row]: row for row in scored}
        return [
            [self.micro_batches(samples, [local[row] for row in part if row in local]) for part in epoch]
            for epoch in minibatch_rows(config, self.learner.generator)
        ]

    def improve(
        self, objective: Stepping, minibatches: list[list[list[TokenBatch]]], experience: Experience
    ) -> Averages:
        return objective.improve(minibatches, experience, self.config, self.processes)

    def metrics(
        self,
        averages: Averages,
        samples: Samples,
        breakdown: Breakdown,
        experience: Experience,
        rates: dict[str, float],
    ) -> dict[str, Any]:
        """The update's row so far; moves kl_coef, which the row has as the update used it."""
        config, learner = self.config, self.learner
        add_reward(averages, samples, breakdown)
        add_experience(averages, samples, experience)
        metrics = {"update": learner.update} | averages.means(self.processes) | rates
        if learner.critic is not None:
            metrics["value/explained_variance"] = explained_variance(experience, self.processes)
        metrics["objective/kl_coef"] = learner.kl_coef
        if config.rolls_back:
            metrics[ROLLBACKS] = learner.rollbacks
        check_agreement(metrics)
        kl = metrics["objective/kl"]
        if kl is not None and config.kl_controller is KLController.ADAPTIVE:
            learner.kl_coef = formulas.adapted_kl_coef(
                learner.kl_coef, kl, config.kl_target, config.kl_horizon, config.batch_size
            )
        return metrics

    def look_at_start(self, paid: Reward, clock: PhaseClock) -> None:
        if self.learner.update == 1 and self.monitor.is_due(1):
            with clock.phase("monitor"), gathered(self.learner.policy):
                self.monitor.look_at_start(self.learner.policy, self.payer(paid))

    def look_at_held_out(
        self,
        paid: Reward,
        before: Sequence[Mapping[str, Any]],
        metrics: Mapping[str, Any],
        clock: PhaseClock,
    ) -> dict[str, Any]:
        """The held-out measures and which alarms are raised, in updates where they are due; else nothing."""
        if not self.monitor.is_due(self.learner.update):
            return {}
        with clock.phase("monitor"), gathered(self.learner.policy):
            return self.monitor.look(self.learner.policy, self.payer(paid), before, metrics)

    def payer(self, paid: Reward) -> Payer:
        """Asks the grader that pays; every process has to."""

        def ask(responses: Sequence[Response]) -> Mapping[str, np.ndarray]:
            graders = models_of(paid)
            with self.on_device(graders), gathered(*graders):
                return paying_grades(paid, responses)

        return ask

    def reward_in_force(self, first: Reward) -> Reward:
        """After a restart or a way back: the renewed reward of that update; `first` where there is none."""
        renewal = self.options.renewal
        return (renewal and renewal.in_force(self.learner.update)) or first

    def renewed(
        self, paid: Reward, metrics: Mapping[str, Any], clock: PhaseClock
    ) -> tuple[Reward, dict[str, Any]]:
        """The reward from here on: a new one in updates where one is due, with what is to be told of it."""
        renewal, learner = self.options.renewal, self.learner
        if renewal is None or learner.update == self.config.updates:
            return paid, {}
        kept = random_state()
        with clock.phase("renew"):
            renewed = renewal.after(learner.update, learner.policy, bool(metrics.get(PARTING_ALARM)))
        set_random_state(kept)
        return renewed or (paid, {})


def _check_models(recipe: Recipe, models: Models) -> None:
    if recipe.has_critic is not (models.critic is not None):
        name, has = recipe.algorithm.value, "a" if recipe.has_critic else "no"
        fix = "give a model with one output" if recipe.has_critic else "give None"
        raise InputError(f"{name} has {has} critic", field="critic", fix=fix)
    if models.reference is models.policy:
        raise InputError("the reference is the policy itself", field="reference", fix="pass a copy of it")
    if models.reference is None and not has_adapter(models.policy):
        raise InputError(
            "there is no reference, and the policy has no adapter to turn off",
            field="reference",
            fix="pass a copy of the policy, or give the policy an adapter",
        )


def _reference_pass(models: Models, learner: Learner, config: PPOConfig) -> LanguageModelPass:
    if models.reference is None:
        return learner.policy_objective.language_model
    return LanguageModelPass(models.reference.eval(), config.temperature)


def _check_batch(config: PPOConfig, processes: Processes) -> None:
    if config.batch_size < processes.count:
        raise InputError(
            f"is {config.batch_size}, fewer than one response for each of {processes.count} processes",
            field="ppo.batch_size",
            fix="raise it or start fewer processes",
        )


def _check_options(recipe: Recipe, processes: Processes, options: Options) -> None:
    asked = {
        "renewal.every": options.renewal is not None,
        "vllm": options.sampler is not None,
        "processes": processes.count > 1,
    }
    for key, is_asked in asked.items():
        if is_asked and key in recipe.lacks:
            raise recipe.has_no(key)


def _check_processes(config: PPOConfig, processes: Processes, options: Options) -> None:
    """Raises InputError for what several processes, or models that are split over them, do not go with."""
    if options.renewal is not None and processes.count > 1:
        raise InputError(
            f"there are {processes.count} processes, and reward models and graders are trained by one",
            field="renewal",
            fix="start one process, or leave renewal out",
        )
    asked = {
        "ppo.shared_trunk": config.shared_trunk,
        "ppo.offload": config.offload,
        "sampler": options.sampler is not None,
    }
    for field, is_asked in asked.items():
        if processes.shards and is_asked:
            fix = "leave it out, or launch without FSDP"
            raise InputError("does not go together with models split by FSDP", field=field, fix=fix)
