"""Stages 10 to 12: responses are written first and judged after, by each judge apart; then capability."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from evals.capability import CapabilityTask, load_tasks, real_tasks, score_tasks
from evals.judges.judgement import Judge
from evals.models.load import load_causal_lm, load_tokenizer
from evals.values.conversation import Prompt, Response, read_jsonl, read_prompts, write_jsonl
from evals.values.errors import InputError
from harness.keys.methods import Method
from harness.keys.run import SANDBOX_TASKS, CapabilityConfig, RunConfig, Source
from harness.pipeline.context import Context
from harness.pipeline.graders import load_grader
from harness.pipeline.reinforcement import checkpoints_of
from harness.pipeline.world import summary_of
from harness.storage.digest import digest_files
from harness.storage.store import Artifact

ORACLE, AUTO, STRING_MATCH = "oracle", "auto", "string_match"


def respond(context: Context, method: Method, data: Artifact, model: Artifact) -> Artifact:
    """Greedy responses of each checkpoint to the suite's prompts; writes CHECKPOINT.jsonl."""
    config = context.config

    def build(out: Path) -> dict[str, Any]:
        from evals.models.sampling import Decoding, sample_responses

        prompts = read_prompts(data.path / "eval_prompts.jsonl")
        folders = checkpoints_of(method, model)
        decoding = Decoding(config.evaluation.max_new_tokens, batch_size=config.evaluation.batch_size)
        label = f"responses: {method.name}"
        with context.console.stage(label, total=len(prompts) * len(folders), unit="responses") as advance:
            for checkpoint, folder in folders.items():
                policy, tokenizer = (
                    load_causal_lm(folder, config.model.precision.dtype),
                    load_tokenizer(folder),
                )
                responses = sample_responses(policy, tokenizer, prompts, decoding, advance)
                write_jsonl(
                    out / f"{checkpoint}.jsonl",
                    (
                        {"prompt_id": r.prompt.id, "response": r.text, "finished": r.finished}
                        for r in responses
                    ),
                )
        return {"responses": len(prompts) * len(folders)}

    return context.stage(
        f"responses: {method.name}",
        build,
        config={"max_new_tokens": config.evaluation.max_new_tokens, "ppo": method.is_ppo},
        inputs={"data": data, "model": model},
        modules=["evals.models.sampling"],
    )


def stored_responses(data: Artifact, responses: Artifact) -> dict[str, list[Response]]:
    """{checkpoint: responses}, as they were written."""
    prompts: dict[str, Prompt] = {p.id: p for p in read_prompts(data.path / "eval_prompts.jsonl")}
    files = sorted(responses.path.glob("*.jsonl"), key=lambda p: (len(p.stem), p.stem))
    return {
        file.stem: read_jsonl(
            file,
            lambda row: Response(
                prompts[row.get("prompt_id", str)],
                row.get("response", str),
                finished=row.get("finished", bool),
            ),
        )
        for file in files
    }


def judges_of(context: Context) -> list[str]:
    """Who reports: the sandbox's oracle, or the field's string matcher on real prompts; and the judge."""
    sandbox = context.config.data.source is Source.SANDBOX
    return [ORACLE if sandbox else STRING_MATCH, AUTO]


def judge_responses(
    context: Context, method: Method, data: Artifact, responses: Artifact, judge: Artifact, name: str
) -> Artifact:
    """One judge's judgements of stored responses; writes CHECKPOINT.jsonl."""

    def build(out: Path) -> dict[str, Any]:
        by_checkpoint = stored_responses(data, responses)
        reporter = _judge(context, data, judge, name)
        total = sum(map(len, by_checkpoint.values()))
        with context.console.stage(f"judged: {method.name} {name}", total=total, unit="responses") as advance:
            for checkpoint, rows in by_checkpoint.items():
                judged = reporter.judge(rows)
                write_jsonl(
                    out / f"{checkpoint}.jsonl",
                    (asdict(j) | {"response_type": j.response_type.value} for j in judged),
                )
                advance(len(rows))
        return {"identity": reporter.identity}

    inputs = {"data": data, "responses": responses}
    modules = ["evals.judges.rulebook_judge"]
    if name == AUTO:
        inputs["judge"] = judge
        modules += ["evals.graders.language_model"]
    else:
        modules += ["harness.worlds.sandbox.oracle"] if name == ORACLE else ["evals.judges.string_match"]
    return context.stage(
        f"judged: {method.name} {name}",
        build,
        config={"judge": name, "rulebook": context.rulebook.digest},
        inputs=inputs,
        modules=modules,
    )


def _judge(context: Context, data: Artifact, judge: Artifact, name: str) -> Judge:
    from evals.judges.rulebook_judge import RulebookJudge

    if name == AUTO:
        return RulebookJudge(context.rulebook, load_grader(judge), AUTO)
    if name == STRING_MATCH:
        from evals.judges.string_match import StringMatchJudge

        return StringMatchJudge()
    from harness.worlds.sandbox.oracle import oracle_grader

    return RulebookJudge(context.rulebook, oracle_grader(data.path / "sandbox.json"), ORACLE)


def test_capability(context: Context, method: Method, data: Artifact, model: Artifact) -> Artifact:
    """Knowledge tasks through lm-eval, on each checkpoint; writes capability.jsonl."""
    config = context.config

    def build(out: Path) -> dict[str, Any]:
        tasks = load_tasks(capability_tasks(context, data), limit=config.capability.limit, seed=config.seed)
        rows: list[dict[str, Any]] = []
        folders = checkpoints_of(method, model)
        total = len(folders) * sum(task.items for task in tasks)
        with context.console.stage(f"capability: {method.name}", total=total, unit="items") as advance:
            for checkpoint, folder in folders.items():
                policy, tokenizer = (
                    load_causal_lm(folder, config.model.precision.dtype),
                    load_tokenizer(folder),
                )
                scores = score_tasks(
                    policy, tokenizer, tasks, batch_size=config.capability.batch_size, progress=advance
                )
                rows += [asdict(score) | {"checkpoint": checkpoint} for score in scores]
        write_jsonl(out / "capability.jsonl", rows)
        return {
            f"{s['task']} {s['metric']}": s["value"]
            for s in rows
            if s["checkpoint"] == rows[-1]["checkpoint"]
        }

    return context.stage(
        f"capability: {method.name}",
        build,
        config={
            **capability_settings(config.capability),
            "suite": summary_of(data)["suite"],
            "ppo": method.is_ppo,
        },
        inputs={"data": data, "model": model},
        modules=["evals.capability"],
        packages=["lm-eval"],
    )


def check_capability(config: RunConfig) -> None:
    """Raises InputError, before anything is trained, for tasks that this run could not measure at its end."""
    tasks, root = config.capability.tasks, config.capability.root
    if not tasks:
        return
    if root is not None and not Path(root).is_dir():
        raise InputError(
            "no such folder", path=root, field="capability.root", fix="give the folder of the tasks' files"
        )
    if root is None and config.data.source is not Source.SANDBOX:
        raise InputError(
            "is not set, and real data has no tasks of its own",
            field="capability.root",
            fix="give the folder of the tasks' files, or capability.tasks=[]",
        )
    known = SANDBOX_TASKS if root is None else tuple(task.name for task in real_tasks(root))
    if unknown := [name for name in tasks if name not in known]:
        raise InputError(
            f"there is no task {unknown[0]!r} here",
            path=root,
            field="capability.tasks",
            fix=f"use some of {', '.join(known)}",
        )


def capability_settings(config: CapabilityConfig) -> dict[str, Any]:
    """What decides the scores: of real tasks' files the contents, not where they lie. Raises InputError."""
    settings = {k: v for k, v in asdict(config).items() if k != "batch_size"}
    if config.root is not None:
        tasks = real_tasks(config.root, config.tasks)
        settings["root"] = digest_files([task.path for task in tasks if task.path is not None])
    return settings


def capability_tasks(context: Context, data: Artifact) -> list[CapabilityTask]:
    config = context.config.capability
    if config.root is not None:
        return real_tasks(config.root, config.tasks)
    return [CapabilityTask(name, name, data.path / "knowledge" / f"{name}.jsonl") for name in config.tasks]
