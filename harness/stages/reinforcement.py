"""Stage 9: reinforcement learning, one run a method."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from evals.conversation import Comparison, Prompt, read_jsonl, read_labelled, read_prompts
from evals.errors import InputError
from evals.graders import Grader
from evals.models import load_causal_lm, load_reward_model, load_tokenizer
from evals.sampling import Decoding
from harness.config import RunConfig, Source
from harness.digest import digest_files
from harness.disk import write_json
from harness.methods import Method
from harness.stages.context import Context
from harness.stages.graders import load_grader
from harness.stages.language_models import comparisons_for
from harness.stages.reward import reward_for, reward_model_term
from harness.store import Artifact
from trainers.held_out import held_out_prompts, held_out_scores
from trainers.models import new_reward_model
from trainers.ppo_alarm import ALARM
from trainers.ppo_config import Algorithm, PPOConfig
from trainers.ppo_monitor import HeldOut
from trainers.ppo_renewal import Label, Pair, RewardRenewals, labels_from_files
from trainers.reward import Reward
from trainers.rollout import Sampler

USED_LABELS = "labels.json"  # {file: digest} of the comparisons that people wrote
# They change memory, speed or how much a kill loses, never the result.
WITHOUT_EFFECT = ("micro_batch_size", "save_every", "offload", "seed")


def reinforce(
    context: Context,
    method: Method,
    data: Artifact,
    start: Artifact,
    reward_model: Artifact,
    grader: Artifact | None,
    weights: Artifact | None,
    judge: Artifact,
    base: Artifact,
) -> Artifact:
    """Train the method's policy from its SFT model by the run's algorithm, a critic from its reward model.

    A killed PPO run goes on from its last saved state; the other algorithms begin anew.
    """
    config = context.config
    label = f"{config.algorithm.value}: {method.name}"

    def build(out: Path) -> dict[str, Any]:
        reward = reward_for(context, method, data, reward_model, grader, weights)
        with context.console.stage(label, total=config.ppo.updates, unit="updates") as advance:
            job = _Job(
                context, method, data, start, reward_model, grader, weights, judge, base, reward, out, advance
            )
            _TRAIN[config.algorithm](job)
        return _outcome(out)

    inputs = {"data": data, "start": start, "reward_model": reward_model}
    if config.data.source is not Source.SANDBOX:
        inputs["judge"] = judge
    if method.rule_based and grader is not None and weights is not None:
        inputs |= {"grader": grader, "weights": weights}
    settings = {k: v for k, v in asdict(config.ppo).items() if k not in WITHOUT_EFFECT}
    if config.renewal.every:
        inputs["base"] = base
        settings["renewal"] = asdict(config.renewal)
    if config.vllm:
        settings["sampler"] = "vllm"
    grouped = config.algorithm in (Algorithm.GRPO, Algorithm.RLOO)
    trained = context.stage(
        label,
        build,
        config={
            "ppo": settings,
            "group_size": config.group_size if grouped else None,
            "rule_based": method.rule_based,
            "safety_prompts": method.safety_prompts,
            "rulebook": context.rulebook.digest,
            "lora_rank": config.model.lora_rank,
        },
        inputs=inputs,
        modules=modules_of(config),
        packages=["trl"] if grouped else [],
        resumable=config.algorithm is Algorithm.PPO,
    )
    if config.renewal.every and config.renewal.labels:
        check_labels(Path(config.renewal.labels), trained.path)
    return trained


@dataclass(frozen=True)
class _Job:
    """One training, with all that it starts from."""

    context: Context
    method: Method
    data: Artifact
    start: Artifact
    reward_model: Artifact
    grader: Artifact | None
    weights: Artifact | None
    judge: Artifact
    base: Artifact
    reward: Reward
    out: Path
    advance: Callable[[int], None]

    @property
    def settings(self) -> PPOConfig:
        return replace(self.context.config.ppo, seed=self.context.config.seed)

    @property
    def held_out(self) -> HeldOut:
        """The prompts of the gold labels: held-out topics, and not the suite that is reported."""
        rulebook, labelled = self.context.rulebook, read_labelled(self.data.path / "gold.jsonl")
        seed, grader = self.context.config.seed, _who_pays_no_reward(self)
        prompts = held_out_prompts(labelled, rulebook, self.method.safety_prompts, seed)
        return HeldOut(prompts, lambda responses: held_out_scores(rulebook, grader, responses))

    def policy(self, dtype: torch.dtype) -> PreTrainedModel:
        return load_causal_lm(self.start.path, dtype)


def _who_pays_no_reward(job: _Job) -> Grader:
    """The sandbox's oracle, or on real data the judge."""
    if job.context.config.data.source is not Source.SANDBOX:
        return load_grader(job.judge)
    from harness.sandbox.oracle import oracle_grader

    return oracle_grader(job.data.path / "sandbox.json")


def _ppo(job: _Job) -> None:
    from trainers.adapters import add_adapter
    from trainers.ppo import train_ppo

    config = job.context.config
    dtype, rank = config.model.precision.dtype, config.model.lora_rank
    policy = add_adapter(job.policy(dtype), rank, config.seed)
    if torch.cuda.is_available():
        job.context.console.say(memory_line(job, policy))
    train_ppo(
        policy,
        add_adapter(load_reward_model(job.reward_model.path, dtype), rank, config.seed),
        None if rank else job.policy(dtype),
        load_tokenizer(job.start.path),
        prompts_for(job.method, job.data),
        job.reward,
        job.settings,
        job.out,
        job.advance,
        held_out=job.held_out,
        renewal=renewals(job) if config.renewal.every else None,
        sampler=_sampler(job),
        trackers=config.trackers,
    )


def memory_line(job: _Job, policy: PreTrainedModel) -> str:
    """What the training is estimated to need, beside what the device has."""
    from trainers.memory import GIB, run_memory
    from trainers.rollout import prompt_set

    tokenizer, prompts = load_tokenizer(job.start.path), prompts_for(job.method, job.data)
    ids = prompt_set(prompts, tokenizer, (policy,), job.settings).ids
    device = torch.cuda.get_device_properties(torch.cuda.current_device())
    estimate = run_memory(policy, ids, job.settings)
    return f"ppo: {job.method.name}: estimated to need {estimate} of {device.total_memory / GIB:.0f} GiB"


def _sampler(job: _Job) -> Sampler | None:
    from trainers.ppo_vllm import VLLMSampler

    address = job.context.config.vllm
    return VLLMSampler(address, load_tokenizer(job.start.path)) if address else None


def renewals(job: _Job) -> RewardRenewals:
    """New reward models on the way, from the annotators of the sandbox or from comparisons in files."""
    from trainers.reward_model import train_reward_model

    context, config = job.context, job.context.config
    tokenizer, kind = load_tokenizer(job.start.path), job.method.reward_model
    assert kind is not None

    def train(comparisons: Sequence[Comparison], out: Path) -> object:
        model = new_reward_model(job.base.path, tokenizer, config.model.precision, config.seed)
        rank = config.model.lora_rank
        return train_reward_model(
            model, tokenizer, comparisons, config.reward_model, config.seed, out, lora_rank=rank
        )

    def at(folder: Path) -> Artifact:
        return replace(job.reward_model, path=folder)

    labels = config.renewal.labels
    return RewardRenewals(
        config.renewal,
        prompts_for(job.method, job.data),
        comparisons_for(job.data, kind),
        tokenizer,
        Decoding(config.ppo.max_new_tokens, config.ppo.temperature, batch_size=64, seed=config.seed),
        job.out,
        people(Path(labels), job.out) if labels else annotators(context, job.data),
        train,
        lambda folder: reward_model_term(job.data, at(folder)),
        lambda folder: reward_for(context, job.method, job.data, at(folder), job.grader, job.weights),
        job.reward_model.path,
    )


def people(labels: Path, out: Path) -> Label:
    """Comparisons that people wrote; keeps the digest of each file that is used, for `check_labels`.

    Their contents cannot be part of the stage's key: they are written while the stage waits for them.
    """
    check_labels(labels, out)
    written = labels_from_files(labels, out)

    def label(update: int, pairs: Sequence[Pair]) -> list[Comparison]:
        comparisons = written(update, pairs)
        name = f"comparisons-{update}.jsonl"
        write_json(out / USED_LABELS, _used_labels(out) | {name: digest_files([labels / name])})
        return comparisons

    return label


def check_labels(labels: Path, out: Path) -> None:
    """Raises InputError for a file that was trained on in `out` and says something else now."""
    for name, used in _used_labels(out).items():
        if not (labels / name).is_file() or digest_files([labels / name]) != used:
            raise InputError(
                "is not what the stored training used",
                path=labels / name,
                field="renewal.labels",
                fix="put the old file back, or give the new ones in a folder of another name",
            )


def _used_labels(out: Path) -> dict[str, str]:
    path = out / USED_LABELS
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def annotators(context: Context, data: Artifact) -> Label:
    """The sandbox's people compare: the same pairs of the same update always alike."""
    from harness.sandbox.annotators import Annotator
    from harness.sandbox.oracle import Oracle
    from harness.sandbox.request import parse_request
    from harness.sandbox.world import World

    world = World.load(data.path / "sandbox.json")

    def label(update: int, pairs: Sequence[Pair]) -> list[Comparison]:
        rng = np.random.default_rng([context.config.seed, 6, update])
        annotator = Annotator(context.config.sandbox.annotators, Oracle(world), context.rulebook, rng)
        asked = [(one, other, parse_request(world, one.prompt.text)) for one, other in pairs]
        return [
            annotator.compare(one.prompt, request, one.text, other.text)
            for one, other, request in asked
            if request is not None
        ]

    return label


def _group_relative(job: _Job) -> None:
    from trainers.group_relative import train_group_relative

    config = job.context.config
    train_group_relative(
        config.algorithm,
        job.policy(torch.float32),  # TRL trains float32 weights, under autocast on a GPU
        load_tokenizer(job.start.path),
        prompts_for(job.method, job.data),
        job.reward,
        job.settings,
        job.out,
        job.advance,
        group_size=config.group_size,
        lora_rank=config.model.lora_rank,
        held_out=job.held_out,
    )


def _reinforce(job: _Job) -> None:
    from trainers.adapters import add_adapter
    from trainers.reinforce import train_reinforce

    config = job.context.config
    dtype, rank = config.model.precision.dtype, config.model.lora_rank
    train_reinforce(
        add_adapter(job.policy(dtype), rank, config.seed),
        job.policy(dtype),
        load_tokenizer(job.start.path),
        prompts_for(job.method, job.data),
        job.reward,
        job.settings,
        job.out,
        job.advance,
        held_out=job.held_out,
    )


_TRAIN: dict[Algorithm, Callable[[_Job], None]] = {
    Algorithm.PPO: _ppo,
    Algorithm.GRPO: _group_relative,
    Algorithm.RLOO: _group_relative,
    Algorithm.REINFORCE: _reinforce,
}
_MODULES = {
    Algorithm.PPO: "trainers.ppo",
    Algorithm.GRPO: "trainers.group_relative",
    Algorithm.RLOO: "trainers.group_relative",
    Algorithm.REINFORCE: "trainers.reinforce",
}


def modules_of(config: RunConfig) -> list[str]:
    """What the stage's results depend on, beside this file."""
    is_sandbox = config.data.source is Source.SANDBOX
    modules = [_MODULES[config.algorithm], "trainers.reward", "trainers.held_out"]
    modules += ["harness.sandbox.oracle" if is_sandbox else "evals.graders.language_model"]
    if config.renewal.every:
        modules += ["trainers.ppo_renewal", "trainers.reward_model", "trainers.models"]
        modules += ["harness.sandbox.annotators"] if is_sandbox else []
    return modules


def _outcome(out: Path) -> dict[str, Any]:
    """For the stage's line: how far it came, and in how many looks at held-out responses the alarm was up."""
    rows = read_jsonl(out / "metrics.jsonl", lambda row: row.values)
    looked = [row[ALARM] for row in rows if ALARM in row]
    return {"updates": rows[-1]["update"]} | ({"alarms": int(sum(looked))} if looked else {})


def prompts_for(method: Method, data: Artifact) -> list[Prompt]:
    helpful = read_prompts(data.path / "prompts_helpful.jsonl")
    return helpful + read_prompts(data.path / "prompts_safety.jsonl") if method.safety_prompts else helpful


def checkpoints_of(method: Method, artifact: Artifact) -> dict[str, Path]:
    """{checkpoint: folder}: the last updates' policies of PPO, or the one model of SFT."""
    if not method.is_ppo:
        return {"sft": artifact.path}
    folders = sorted(artifact.path.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    return {folder.name.split("-")[1]: folder for folder in folders}
