"""Stage 9: reinforcement learning, one run a method."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from evals.values.jsonl_rows import read_jsonl
from harness.evaluate.judging import asked_judge
from harness.keys.data import DataSource
from harness.keys.methods import Method
from harness.keys.run import RunConfig
from harness.pipeline.context import Context
from harness.pipeline.grader_renewal import folder_name, labels_identity
from harness.pipeline.language_models import adapters_of
from harness.pipeline.reward_model_term import REFERENCE_FILES
from harness.pipeline.training import Origins, Training, check_grader_labels, check_labels, train_policy
from harness.pipeline.worker import train_in_processes
from harness.runtime.launch import launch_digest
from harness.storage.store import Artifact
from harness.worlds.folder import (
    GOLD,
    HELD_OUT_PROMPTS_FILE,
    HELPFUL,
    SAFETY,
    SANDBOX_FILE,
    labels_file,
    prompts_file,
)
from trainers.reward.terms import term_identity
from trainers.rl.alarm import TEXTS
from trainers.rl.recipe import module_of, recipe_of
from trainers.rl.renewal_config import GRADER_LABELS

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
    judge: Artifact | None,
    base: Artifact,
) -> Artifact:
    """Train the method's policy from its SFT model by the run's algorithm, a critic from its reward model.

    A killed training goes on from its last saved state.
    """
    config = context.config
    label = f"{config.algorithm.value}: {method.name}"
    origins = Origins(data, start, reward_model, grader, weights, judge, base)
    own = recipe_of(config.algorithm, config).identity
    renews_grader = config.renewal.grader.is_asked and method.rule_based
    with context.open_stage(
        label,
        config={
            "ppo": settings_of(context, method),
            "group_size": own.pop("group_size", None),
            "terms": [term_identity(term) for term in method.terms],
            "safety_prompts": method.safety_prompts,
            "rulebook": context.rulebook.digest,
            **adapters_of(config.model),
            **own,
        },
        inputs=inputs_of(config, method, origins),
        modules=modules_of(config) + (grader_modules(config) if renews_grader else []),
        glue=[__name__, "harness.pipeline.training"]
        + (["harness.pipeline.grader_renewal"] if renews_grader else []),
        resumable=True,
    ) as work:
        if work.missing:
            cost: dict[str, Any] = {}
            with context.console.stage(label, total=config.ppo.updates, unit="updates") as advance:
                training = Training(context, method, origins, work.folder, advance, context.console.say)
                if config.processes > 1:
                    cost = train_in_processes(training)
                else:
                    train_policy(training)
            work.results = _outcome(work.folder) | cost
    if config.renewal.every and config.renewal.labels:
        check_labels(Path(config.renewal.labels), work.artifact.path)
    if renews_grader and config.renewal.grader.labels:
        check_grader_labels(Path(config.renewal.grader.labels), work.artifact.path)
    return work.artifact


def inputs_of(config: RunConfig, method: Method, origins: Origins) -> dict[str, Artifact]:
    """Those of the artifacts that the method's training depends on, by the names in its stage's key."""
    asked = {
        "judge": config.data.source is not DataSource.SANDBOX,
        "grader": method.is_graded,
        "weights": method.rule_based,
        "base": config.renewal.every > 0,
    }
    data = _read_of_data(config, method, origins.data)
    found = {"data": data, "start": origins.start, "reward_model": origins.reward_model}
    for name, is_asked in asked.items():
        if is_asked and (artifact := getattr(origins, name)) is not None:
            found[name] = artifact
    return found


def _read_of_data(config: RunConfig, method: Method, data: Artifact) -> Artifact:
    """What lies in the data that the training reads: prompts, what its held-out looks need, the reward's zero."""
    if config.renewal.every or (config.renewal.grader.is_asked and method.rule_based):
        return data  # whose labels are written by how the data were made, and not by their files alone
    prompts = [HELPFUL, SAFETY] if method.safety_prompts else [HELPFUL]
    looks = (labels_file(GOLD), SANDBOX_FILE, HELD_OUT_PROMPTS_FILE)
    return data.part(*map(prompts_file, prompts), *looks, *REFERENCE_FILES)


def settings_of(context: Context, method: Method) -> dict[str, Any]:
    """Those of `ppo` that change the result, and what else decides it where it is asked for."""
    config = context.config
    settings = {k: v for k, v in asdict(config.ppo).items() if k not in WITHOUT_EFFECT}
    if config.renewal.every:
        settings["renewal"] = config.renewal.of_reward_model | {"labels": folder_name(config.renewal.labels)}
    if config.renewal.grader.is_asked and method.rule_based:
        settings["renewal_grader"] = labels_identity(context) | {"training": grader_training(config)}
    if name := config.evaluation.monitored_by:
        settings["monitored_by"] = asked_judge(config.evaluation, name).identity
    if method.safety_prompts and not config.rl_prompts.as_they_are:
        settings["rl_prompts"] = asdict(config.rl_prompts)
    if config.vllm:
        settings["sampler"] = "vllm"
    if config.processes > 1:
        settings["launch"] = [config.processes, launch_digest(config.launch)]
    return settings


def grader_training(config: RunConfig) -> Any:
    """How a renewed grader learns."""
    return asdict(config.grader.training if config.grader.is_trained else config.grader.encoder)


def grader_modules(config: RunConfig) -> list[str]:
    """What a training that renews its grader depends on beside `modules_of`."""
    learns = "grader" if config.grader.is_trained else "encoder_grader"
    is_sandbox = config.data.source is DataSource.SANDBOX
    labels = ["harness.worlds.sandbox.mistakes"] if is_sandbox else []
    return ["trainers.rl.grader_renewal", f"trainers.supervised.{learns}", *labels]


def modules_of(config: RunConfig) -> list[str]:
    """What the stage's results depend on, beside this file."""
    is_sandbox = config.data.source is DataSource.SANDBOX
    modules = [
        "trainers.rl.loop",
        module_of(config.algorithm),
        "trainers.reward.terms",
        "trainers.rl.monitor",
    ]
    modules += ["harness.worlds.sandbox.oracle" if is_sandbox else "evals.graders.language_model"]
    if config.renewal.every:
        modules += ["trainers.rl.reward_model_renewal", "trainers.supervised.reward_model"]
        modules += ["trainers.models.sizes"]
        modules += ["harness.worlds.sandbox.annotators"] if is_sandbox else []
    return modules


def _outcome(out: Path) -> dict[str, Any]:
    """For the stage's line: how far it came, and in how many looks at held-out responses an alarm was up."""
    rows = read_jsonl(out / "metrics.jsonl", lambda row: row.values)
    looked = [any(row.get(alarm) for alarm in TEXTS) for row in rows if TEXTS.keys() & row.keys()]
    labels = [row[GRADER_LABELS] for row in rows if row.get(GRADER_LABELS)]
    told = {"updates": rows[-1]["update"]} | ({"alarms": int(sum(looked))} if looked else {})
    return told | ({"grader_renewals": len(labels), "grader_labels": sum(labels)} if labels else {})


def checkpoints_of(method: Method, artifact: Artifact) -> dict[str, Path]:
    """{checkpoint: folder}: the last updates' policies of PPO, or the one model of SFT."""
    if not method.is_ppo:
        return {"sft": artifact.path}
    folders = sorted(artifact.path.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    return {folder.name.split("-")[1]: folder for folder in folders}
