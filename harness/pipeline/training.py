"""One training of a policy: what it starts from, and how the run's algorithm is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.graders import Grader
from evals.judges import Judge
from evals.models.load import load_causal_lm, load_reward_model, load_tokenizer
from evals.models.sampling import Decoding
from evals.values.conversation import Comparison, LabelledResponse, Prompt, Response, ResponseType
from evals.values.errors import InputError
from evals.values.json_text import read_json_object
from harness.keys.data import DataSource
from harness.keys.evaluation import WORDS
from harness.keys.methods import Data, Method
from harness.pipeline.context import Context
from harness.pipeline.grader_renewal import grader_labels, grader_trainer, old_labels
from harness.pipeline.graders import asked_grader
from harness.pipeline.language_models import comparisons_for, reward_model_on
from harness.pipeline.reward import reward_for
from harness.pipeline.reward_model_term import reward_model_term
from harness.pipeline.rl_prompts import chosen_safety_prompts
from harness.pipeline.spending import INTERVAL, judge_asked
from harness.storage.digest import digest_files
from harness.storage.disk import write_json
from harness.storage.store import Artifact
from harness.worlds.folder import GOLD, HELPFUL, SAFETY, WorldFolder
from harness.worlds.sandbox.annotators import Annotator
from harness.worlds.sandbox.oracle import Oracle, oracle_grader
from harness.worlds.sandbox.request import parse_request
from harness.worlds.sandbox.world import World
from trainers.models.adapters import add_adapter
from trainers.reward.reward import Reward
from trainers.reward.reward_model_term import RewardModelTerm
from trainers.rl.config import PPOConfig
from trainers.rl.grader_renewal import GraderRenewals, LabelResponses
from trainers.rl.monitor import HeldOut, HeldOutScores, held_out_prompts, held_out_scores, verdict_scores
from trainers.rl.recipe import recipe_of
from trainers.rl.renewal import PartRenewal, Renewals
from trainers.rl.reward_model_renewal import LabelPairs, Pair, RewardModelRenewals, comparisons_from_files
from trainers.rl.rollout import Sampler, prompt_set

USED_LABELS = "labels.json"  # {file: digest} of the comparisons that people wrote
USED_GRADER_LABELS = "grader_labels.json"  # likewise of the labels that they wrote for the grader


@dataclass(frozen=True)
class Origins:
    """The artifacts that a training starts from; without rules neither grader nor weights are asked."""

    data: Artifact
    start: Artifact
    reward_model: Artifact
    grader: Artifact | None
    weights: Artifact | None
    judge: Artifact | None  # None: of one's own data, which train none
    base: Artifact


@dataclass(frozen=True)
class Training:
    """One training, of `method` into the folder `out`; `advance` is told of updates, `say` of a line to show."""

    context: Context
    method: Method
    origins: Origins
    out: Path
    advance: Callable[[int], None]
    say: Callable[[str], None]

    @property
    def settings(self) -> PPOConfig:
        return replace(self.context.config.ppo, seed=self.context.config.seed)

    @property
    def held_out(self) -> HeldOut:
        """The prompts of the gold labels: held-out topics, and not the suite that is reported.

        Of one's own data: prompts that were kept apart, judged by the string matcher, where no judge is named.
        """
        keys, folder = self.context.config.evaluation, WorldFolder(self.origins.data.path)
        rulebook, safety = self.context.rulebook, self.method.safety_prompts
        own = self.origins.judge is None
        if own:
            prompts = asked_on_the_way(folder, safety)
        else:
            prompts = held_out_prompts(
                folder.labelled(GOLD, levels=rulebook.levels), rulebook, safety, self.context.config.seed
            )
        if own or keys.monitored_by:
            judge = judge_asked(self.context.config, keys.monitored_by or WORDS)
            return HeldOut(prompts, partial(self._judged, judge))
        grader = _who_pays_no_reward(self)
        return HeldOut(prompts, lambda responses: held_out_scores(rulebook, grader, responses))

    def _judged(self, judge: Judge, responses: Sequence[Response]) -> HeldOutScores:
        scores = verdict_scores(judge, responses)
        self.context.spender.tell(INTERVAL)
        return scores

    def reward(self, reward_model: Path | None = None, grader: Path | None = None) -> Reward:
        """With another reward model or grader than the first, where its folder is given."""
        origins = self.origins
        model, asked = origins.reward_model, origins.grader
        if reward_model is not None:
            model = replace(model, path=reward_model)
        if grader is not None and asked is not None:
            asked = replace(asked, path=grader)
        return reward_for(self.context, self.method, origins.data, model, asked, origins.weights)

    def prompts(self) -> list[Prompt]:
        """Helpful prompts, and the safety prompts of methods that have them."""
        folder = WorldFolder(self.origins.data.path)
        helpful = folder.prompts(HELPFUL) if folder.has("prompts_helpful") else []
        if not self.method.safety_prompts:
            return helpful
        config = self.context.config
        return helpful + chosen_safety_prompts(folder.prompts(SAFETY), config.rl_prompts, config.seed)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.origins.start.path)

    def policy(self, dtype: torch.dtype) -> PreTrainedModel:
        return load_causal_lm(self.origins.start.path, dtype)


def asked_on_the_way(folder: WorldFolder, safety_prompts: bool) -> list[Prompt]:
    """The prompts that were kept apart; helpful ones count as to be answered."""
    if not folder.has("held_out_prompts"):
        return []
    known = [
        replace(p, response_type=p.response_type or ResponseType.COMPLY) for p in folder.held_out_prompts()
    ]
    return [p for p in known if safety_prompts or not (p.response_type and p.response_type.is_refusal)]


def _who_pays_no_reward(training: Training) -> Grader:
    """The sandbox's oracle, or on real data the judge."""
    if training.context.config.data.source is not DataSource.SANDBOX:
        assert training.origins.judge is not None
        return asked_grader(training.context, training.origins.judge)
    return oracle_grader(WorldFolder(training.origins.data.path).sandbox)


def train_policy(training: Training) -> None:
    """Train by the run's algorithm; a killed training goes on from its last saved state."""
    from trainers.rl.loop import Models, Options, train

    config = training.context.config
    recipe, model = recipe_of(config.algorithm, config), config.model
    dtype, rank = model.precision.dtype, model.lora_rank
    policy = add_adapter(training.policy(dtype), rank, config.seed, model.lora_layers)
    if torch.cuda.is_available():
        training.say(memory_line(training, policy))
    critic = None
    if recipe.has_critic:
        critic = load_reward_model(training.origins.reward_model.path, dtype)
        critic = add_adapter(critic, rank, config.seed, model.lora_layers)
    reference = None if rank else training.policy(dtype)
    train(
        recipe,
        Models(policy, critic, reference, training.tokenizer()),
        training.prompts(),
        training.reward(),
        training.settings,
        training.out,
        Options(
            training.advance,
            training.held_out,
            renewals(training),
            _sampler(training),
            config.trackers,
        ),
    )


def memory_line(training: Training, policy: PreTrainedModel) -> str:
    """What the training is estimated to need, beside what the device has."""
    from trainers.rl.memory import GIB, run_memory

    tokenizer, prompts = training.tokenizer(), training.prompts()
    ids = prompt_set(prompts, tokenizer, (policy,), training.settings).ids
    device = torch.cuda.get_device_properties(torch.cuda.current_device())
    config = training.context.config
    critic, algorithm = recipe_of(config.algorithm, config).has_critic, config.algorithm.value
    estimate = run_memory(policy, ids, training.settings, critic)
    return f"{algorithm}: {training.method.name}: estimated to need {estimate} of {device.total_memory / GIB:.0f} GiB"


def _sampler(training: Training) -> Sampler | None:
    from trainers.rl.vllm import VLLMSampler

    address = training.context.config.vllm
    return VLLMSampler(address, training.tokenizer()) if address else None


def renewals(training: Training) -> Renewals | None:
    """What is trained anew on the way: the reward model, the grader, or nothing."""
    keys = training.context.config.renewal
    parts: dict[str, PartRenewal] = {}
    if keys.every:
        parts["reward_model"] = reward_model_renewals(training)
    if keys.grader.is_asked and training.method.rule_based:
        parts["grader"] = grader_renewals(training)
    if not parts:
        return None
    return Renewals(
        list(parts.values()), lambda folders: training.reward(**dict(zip(parts, folders, strict=True)))
    )


def reward_model_renewals(training: Training) -> RewardModelRenewals:
    """New reward models on the way, from the annotators of the sandbox or from comparisons in files."""
    context, config = training.context, training.context.config
    tokenizer, kind = training.tokenizer(), training.method.reward_model
    assert kind is not None

    def train(comparisons: Sequence[Comparison], out: Path) -> object:
        return reward_model_on(config, training.origins.base, tokenizer, comparisons, out)

    def load(folder: Path) -> RewardModelTerm:
        return reward_model_term(training.origins.data, replace(training.origins.reward_model, path=folder))

    labels = config.renewal.labels
    return RewardModelRenewals(
        config.renewal,
        training.prompts(),
        comparisons_for(training.origins.data, kind),
        tokenizer,
        Decoding(config.ppo.max_new_tokens, config.ppo.temperature, batch_size=64, seed=config.seed),
        training.out,
        people(Path(labels), training.out) if labels else annotators(context, training.origins.data, kind),
        train,
        load,
        training.origins.reward_model.path,
    )


def grader_renewals(training: Training) -> GraderRenewals:
    """New graders on the way, from people's labels in files, another grader's, or the sandbox's people."""
    context, config, out = training.context, training.context.config, training.out
    grader, data = training.origins.grader, training.origins.data
    assert grader is not None  # of a method that rules pay

    def load(folder: Path) -> Grader:
        return asked_grader(context, replace(grader, path=folder))

    return GraderRenewals(
        config.renewal.grader,
        [prompt for prompt in training.prompts() if prompt.response_type is not None],
        old_labels(context, data),
        list(context.rulebook.propositions.values()),
        training.tokenizer(),
        Decoding(config.ppo.max_new_tokens, config.ppo.temperature, batch_size=64, seed=config.seed),
        out,
        grader_labels(context, data, out, lambda written, folder: graded(written, folder, out)),
        grader_trainer(context, grader),
        load,
        grader.path,
    )


def people(labels: Path, out: Path) -> LabelPairs:
    """Comparisons that people wrote; keeps the digest of each file that is used, for `check_labels`.

    Their contents cannot be part of the stage's key: they are written while the stage waits for them.
    """
    check_labels(labels, out)
    written = comparisons_from_files(labels, out)

    def label(update: int, pairs: Sequence[Pair]) -> list[Comparison]:
        comparisons = written(update, pairs)
        _keep_used(labels / f"comparisons-{update}.jsonl", out / USED_LABELS)
        return comparisons

    return label


def graded(written: LabelResponses, labels: Path, out: Path) -> LabelResponses:
    """Labels that people wrote for the grader, kept likewise, for `check_grader_labels`."""
    check_grader_labels(labels, out)

    def label(update: int, responses: Sequence[Response]) -> list[LabelledResponse]:
        rows = written(update, responses)
        _keep_used(labels / f"labels-{update}.jsonl", out / USED_GRADER_LABELS)
        return rows

    return label


def check_labels(labels: Path, out: Path) -> None:
    """Raises InputError for a file that was trained on in `out` and says something else now."""
    _check_used(labels, out / USED_LABELS, "renewal.labels")


def check_grader_labels(labels: Path, out: Path) -> None:
    """The same of labels for the grader."""
    _check_used(labels, out / USED_GRADER_LABELS, "renewal.grader.labels")


def _check_used(labels: Path, record: Path, field: str) -> None:
    for name, used in _used(record).items():
        if not (labels / name).is_file() or digest_files([labels / name]) != used:
            raise InputError(
                "is not what the stored training used",
                path=labels / name,
                field=field,
                fix="put the old file back, or give the new ones in a folder of another name",
            )


def _keep_used(file: Path, record: Path) -> None:
    write_json(record, _used(record) | {file.name: digest_files([file])})


def _used(record: Path) -> dict[str, str]:
    return read_json_object(record) if record.is_file() else {}


def annotators(context: Context, data: Artifact, kind: Data = Data.HUMAN) -> LabelPairs:
    """The sandbox's people compare, by the rulebook of `kind`: the same pairs of the same update always alike."""
    world = World.load(WorldFolder(data.path).sandbox)

    def label(update: int, pairs: Sequence[Pair]) -> list[Comparison]:
        rng = np.random.default_rng([context.config.seed, 6, update])
        faults, old = context.config.sandbox.annotators, kind is Data.OLD
        annotator = Annotator(faults, Oracle(world), context.rulebook, rng, old)
        asked = [(one, other, parse_request(world, one.prompt.text)) for one, other in pairs]
        return [
            annotator.compare(one.prompt, request, one.text, other.text)
            for one, other, request in asked
            if request is not None
        ]

    return label
