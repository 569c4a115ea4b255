"""PPO here beside TRL 1.12's (the last release that has it), on this machine, in one run.

    python benchmarks/ppo_vs_trl.py [--repeats 5] [--updates 8] [--threads 2] [--case early|full]
    python benchmarks/ppo_vs_trl.py --model FOLDER --data FOLDER [--repeats 3] [--updates 20] [--case whole|adapters]
        [--precision float32|bfloat16]

Without `--model` both train the same Llama policy (width 128, 2 layers, vocabulary 602: 0.5 M parameters) with a
separate critic, reference and reward model of that size from the same saved weights: 64 responses
an update, prompts of 24 tokens, up to 40 new tokens, 4 epochs, one minibatch, stopping at EOS.

- early: EOS has a chance of about 5.5 % a token, so that responses end after about 40 % of the limit.
- full:  EOS is all but impossible, so that all run to the limit.

Learning rates are 0 there, which changes no cost and keeps the lengths what they are.

With `--model` both train that chat model on XSTest's prompts: 16 responses of at most 32 tokens an update, 2 epochs,
and a reward model of the same trunk whose score head is random, of spread 1. Repeats differ in their seed.

- whole:    every weight is trained, with a critic and a reference of their own on both sides.
- adapters: TRL with its adapters of rank 16 in every linear layer, which has a critic of its own; here what this
            project recommends on two cores: one trunk for policy, reference and critic, adapters in the last 8 layers.

Printed with it: the mean score of the first and of the last five updates. Scores count as no worse where the mean
over the repeats of the last five is at most .2 (of the head's spread 1) below TRL's.

The sides take turns, each in a fresh process; the first update of each is left out. Processor time is printed too:
on a machine that others use it is the steadier of the two. The peer runs in a virtual
environment of its own in a temporary folder, with trl==1.12.0 before this environment's packages
(the same torch and transformers). Prints medians over repeats with the range, seconds by phase and
peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "tiny"))  # tiny_models, imported where it is used
PEER = "trl==1.12.0"
VOCABULARY, PROMPT_TOKENS = 602, 24
EOS = 2
EOS_LOGIT = {"early": 3.55, "full": -20.0}
TARGETS = {"early": 2.5, "full": 1.5, "whole": 1.27, "adapters": 2.5}
IN_BFLOAT16 = {**TARGETS, "adapters": 4.0}
LAYERS_WITH_ADAPTERS, RANK = 8, 16
MARGIN = 0.2
Report = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What both sides are given; `folder` has policy/, reward/ and prompts.json."""

    folder: str
    case: str
    updates: int
    threads: int
    batch: int = 64
    epochs: int = 4
    new_tokens: int = 40
    learning_rate: float = 0.0
    seed: int = 0
    precision: str = "float32"
    micro_batch: int = 16

    @property
    def adapters(self) -> bool:
        return self.case == "adapters"

    @property
    def prompts(self) -> list[dict[str, Any]]:
        """Each with its `text` and its token `ids`."""
        return json.loads((Path(self.folder) / "prompts.json").read_text())


def main() -> None:
    options = _options()
    if options.side:
        side = train_with_trl if options.side == "trl" else train_here
        print(json.dumps(side(Setting(**json.loads(options.setting)))))
        return
    with tempfile.TemporaryDirectory() as folder:
        peer = make_peer(Path(folder) / "peer")
        for setting in settings_of(options, Path(folder)):
            compare(setting, peer, options.repeats)


def settings_of(options: argparse.Namespace, folder: Path) -> Iterator[Setting]:
    """One a case, its models and prompts made."""
    chosen = [options.case] if options.case else ["whole", "adapters"] if options.model else list(EOS_LOGIT)
    for case in chosen:
        place = folder / case
        given = {"folder": str(place), "case": case, "threads": options.threads}
        if options.model:
            make_chat_models(place, options.model, options.data)
            learning_rate = 1e-3 if case == "adapters" else 2e-5
            yield Setting(
                **given,
                updates=options.updates or 20,
                batch=16,
                epochs=2,
                new_tokens=32,
                learning_rate=learning_rate,
                precision=options.precision,
            )
        else:
            make_models(place, case)
            yield Setting(**given, updates=options.updates or 8)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--updates", type=int, help="timed updates a repeat; 8, of a chat model 20")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--case", choices=list(TARGETS), help="one case only")
    parser.add_argument("--model", help="a chat model's folder")
    parser.add_argument("--data", help="the folder that has xstest/, for --model")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--side", choices=["trl", "here"], help=argparse.SUPPRESS)
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    return parser.parse_args()


# --- both sides ------------------------------------------------------------------------------


def compare(setting: Setting, peer: Path, repeats: int) -> None:
    reports: dict[str, list[Report]] = {"here": [], "trl": []}
    for seed in range(repeats):
        for side, python in (("here", Path(sys.executable)), ("trl", peer)):
            report = run_side(side, python, replace(setting, seed=seed))
            reports[side].append(report)
            rate = f"{report['responses_per_second']:.2f} responses/s"
            print(
                f"{setting.case}, repeat {seed + 1} of {repeats}, {side}: {rate}", file=sys.stderr, flush=True
            )
    length = reports["here"][0]["length"]
    print(
        f"\n{setting.case}: {length:.1f} of {setting.new_tokens} tokens a response, {setting.threads} threads, "
        f"{setting.precision}"
    )
    for side, name in (("here", "rbrbench"), ("trl", PEER)):
        print_side(name, reports[side])
    pairs = list(zip(reports["here"], reports["trl"], strict=True))
    ratios = [ours["responses_per_second"] / theirs["responses_per_second"] for ours, theirs in pairs]
    work, memory = (
        statistics.median(theirs[what] / ours[what] for ours, theirs in pairs)
        for what in ("processor_seconds", "peak_mb")
    )
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    targets = IN_BFLOAT16 if setting.precision == "bfloat16" else TARGETS
    print(
        f"  ratio {statistics.median(ratios):.2f} ({spread}); target {targets[setting.case]}; "
        f"in processor time {work:.2f}; in peak memory {memory:.2f}"
    )
    if setting.learning_rate:
        ours, theirs = (statistics.mean(r["last_scores"] for r in reports[side]) for side in ("here", "trl"))
        verdict = "no worse" if ours >= theirs - MARGIN else "WORSE"
        print(
            f"  mean score of the last five updates {ours:.2f} here, {theirs:.2f} there: {verdict}",
            flush=True,
        )


def print_side(name: str, reports: Sequence[Report]) -> None:
    """Responses a second, seconds by phase, processor time and memory; scores where something is learnt."""
    rates = [report["responses_per_second"] for report in reports]
    memory = statistics.median(report["peak_mb"] for report in reports)
    own = statistics.median(report["peak_mb"] - report["start_mb"] for report in reports)
    phases = {
        phase: statistics.median(report["phases"][phase] for report in reports)
        for phase in reports[0]["phases"]
    }
    parts = ", ".join(f"{phase} {seconds * 1e3:.0f} ms" for phase, seconds in phases.items())
    spread = f"{min(rates):.2f} to {max(rates):.2f}"
    print(f"  {name:12s} {statistics.median(rates):6.2f} responses/s ({spread}); an update: {parts}")
    processor = statistics.median(report["processor_seconds"] for report in reports)
    print(
        f"  {'':12s} {processor:.2f} processor seconds an update; "
        f"peak {memory:.0f} MB, {own:.0f} MB above imports and models"
    )
    scores = [f"{report['first_scores']:.2f} to {report['last_scores']:.2f}" for report in reports]
    print(f"  {'':12s} scores of the first and the last five updates: {'; '.join(scores)}")


def run_side(side: str, python: Path, setting: Setting) -> Report:
    command = [str(python), __file__, "--side", side, "--setting", json.dumps(asdict(setting))]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT) if side == "here" else "",
        "OMP_NUM_THREADS": str(setting.threads),
        "HF_HUB_OFFLINE": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def make_peer(folder: Path) -> Path:
    """A virtual environment with the peer in front of this environment's packages; its Python."""
    venv.create(folder, with_pip=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "this_environment.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = folder / "bin" / "python"
    pinned = f"torch=={_version('torch')}"
    subprocess.run([python, "-m", "pip", "install", "--quiet", PEER, pinned], check=True)
    return python


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def make_models(folder: Path, case: str) -> None:
    """policy/ and reward/ (also the critic), with a tokenizer of single words, in `folder`."""
    policy, reward = random_models(VOCABULARY, EOS_LOGIT[case], 128, 344, 2, 4, context=128)
    tokenizer = make_tokenizer(VOCABULARY)
    for name, model in (("policy", policy), ("reward", reward)):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    write_prompts(folder, random_prompts(tokenizer))


def make_chat_models(folder: Path, given: str, data: str) -> None:
    """policy/, reward/ of the same trunk with a random score head, and XSTest's prompts, in `folder`."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from evals.models.load import load_causal_lm, load_tokenizer, prompt_token_ids, save_model
    from evals.suites import load_suite
    from trainers.models.padding import give_padding, rows_of_embedding, stops_of

    policy, tokenizer = load_causal_lm(given, torch.float32), load_tokenizer(given, needs_padding=False)
    give_padding(tokenizer, rows_of_embedding(policy), stops_of(policy))
    save_model(policy, tokenizer, folder / "policy")
    reward = AutoModelForSequenceClassification.from_pretrained(folder / "policy", num_labels=1)
    prompts = [
        {"text": prompt.text, "ids": list(prompt_token_ids(tokenizer, prompt.messages))}
        for prompt in load_suite("xstest", data).prompts
    ]
    with torch.no_grad():
        torch.nn.init.normal_(reward.score.weight, generator=torch.Generator().manual_seed(0))
        scores = torch.stack([reward(torch.tensor([prompt["ids"]])).logits[0, 0] for prompt in prompts[:32]])
        reward.score.weight /= scores.std()
    save_model(reward, tokenizer, folder / "reward")
    write_prompts(folder, prompts)


def write_prompts(folder: Path, prompts: list[dict[str, Any]]) -> None:
    (folder / "prompts.json").write_text(json.dumps(prompts))


def random_models(
    vocabulary: int, eos_logit: float | None, width: int, inner: int, layers: int, heads: int, context: int
) -> tuple[Any, Any]:
    """A policy, its logit of EOS held where one is given, and a reward model (also the critic) of its shape."""
    import torch
    from tiny_models import random_model
    from transformers import LlamaForCausalLM, LlamaForSequenceClassification

    sizes = {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers}
    sizes |= {"num_attention_heads": heads, "max_position_embeddings": context}
    policy = random_model(LlamaForCausalLM, vocabulary, **sizes)
    if eos_logit is not None:
        with torch.no_grad():  # A constant in the first hidden unit reaches the logit of EOS alone.
            policy.model.embed_tokens.weight[:, 0] = 10.0
            policy.lm_head.weight[:, 0] = 0.0
            policy.lm_head.weight[EOS, 0] = eos_logit / width**0.5
    return policy, random_model(LlamaForSequenceClassification, vocabulary, 1, num_labels=1, **sizes)


def make_tokenizer(vocabulary: int) -> Any:
    """Single words w0, w1, ... after PAD, BOS, EOS and UNK; a prompt is its words alone."""
    import tiny_models

    template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    return tiny_models.make_tokenizer(tiny_models.numbered_words(vocabulary - 4), template)


def prompt_words(length: int = PROMPT_TOKENS) -> list[list[str]]:
    import numpy as np

    rng = np.random.default_rng(0)
    return [[f"w{i}" for i in row] for row in rng.integers(0, VOCABULARY - 4, (512, length))]


def random_prompts(tokenizer: Any, length: int = PROMPT_TOKENS) -> list[dict[str, Any]]:
    texts = [" ".join(words) for words in prompt_words(length)]
    return [{"text": text, "ids": tokenizer(text)["input_ids"]} for text in texts]


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Stopwatch:
    """Seconds by phase, and the time of each update's end."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.processor: list[float] = []
        self.phases: list[dict[str, float]] = [{}]
        self.start_mb = peak_mb()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.phases[-1][name] = self.phases[-1].get(name, 0.0) + time.perf_counter() - start

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name):
                return function(*args, **kwargs)

        return wrapped

    def end_update(self) -> None:
        self.ends.append(time.perf_counter())
        self.processor.append(time.process_time())
        self.phases.append({})

    def report(self, setting: Setting, length: float, scores: Sequence[float]) -> Report:
        """Over the setting's updates, the first left out; `scores` is a mean an update."""
        updates = setting.updates
        seconds = (self.ends[updates] - self.ends[0]) / updates
        rows = self.phases[1 : updates + 1]
        phases = {name: sum(row.get(name, 0.0) for row in rows) / updates for name in rows[0]}
        return {
            "responses_per_second": setting.batch / seconds,
            "processor_seconds": (self.processor[updates] - self.processor[0]) / updates,
            "phases": phases | {"other": seconds - sum(phases.values())},
            "peak_mb": peak_mb(),
            "start_mb": self.start_mb,
            "length": length,
            "first_scores": statistics.mean(scores[:5]),
            "last_scores": statistics.mean(scores[updates - 4 : updates + 1]),
        }


# --- each side -------------------------------------------------------------------------------


def train_here(setting: Setting) -> Report:
    import torch

    from evals.models.load import load_causal_lm, load_reward_model, load_tokenizer
    from evals.values.conversation import user_prompt
    from trainers.models.adapters import add_adapter
    from trainers.reward.reward import SumOfTerms
    from trainers.reward.reward_model_term import RewardModelTerm
    from trainers.rl.ppo import Models, Options, PPOConfig, train_ppo

    torch.set_num_threads(setting.threads)
    folder, number_type = Path(setting.folder), getattr(torch, setting.precision)
    tokenizer = load_tokenizer(folder / "policy")
    prompts = [user_prompt(str(i), prompt["text"]) for i, prompt in enumerate(setting.prompts)]
    reward = SumOfTerms([RewardModelTerm(load_reward_model(folder / "reward", number_type), tokenizer)])
    policy = load_causal_lm(folder / "policy", number_type)
    critic = load_reward_model(folder / "reward", number_type)
    reference = None if setting.adapters else load_causal_lm(folder / "policy", number_type)
    if setting.adapters:
        add_adapter(policy, RANK, setting.seed, LAYERS_WITH_ADAPTERS)
    config = PPOConfig(
        updates=setting.updates + 2,
        batch_size=setting.batch,
        micro_batch_size=setting.micro_batch,
        epochs=setting.epochs,
        max_new_tokens=setting.new_tokens,
        learning_rate=setting.learning_rate,
        critic_learning_rate=setting.learning_rate,
        shared_trunk=setting.adapters,
        checkpoints=1,
        save_every=setting.updates + 2,
        seed=setting.seed,
    )
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as out:
        models, options = Models(policy, critic, reference, tokenizer), Options(lambda _: watch.end_update())
        train_ppo(models, prompts, reward, config, Path(out), options)
        times, metrics = (
            [json.loads(line) for line in (Path(out) / name).read_text().splitlines()]
            for name in ("timings.jsonl", "metrics.jsonl")
        )
    names = {"rollout": ("rollout",), "score": ("grade", "evaluate"), "update": ("update",)}
    for row, seconds in zip(times, watch.phases, strict=False):
        seconds |= {name: sum(row[f"time/{part}_s"] for part in parts) for name, parts in names.items()}
    scores = [row["objective/score"] for row in metrics]
    return watch.report(setting, statistics.mean(row["response/length"] for row in metrics), scores)


def train_with_trl(setting: Setting) -> Report:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        TrainerCallback,
    )
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

    torch.set_num_threads(setting.threads)
    folder, given = Path(setting.folder), {"dtype": getattr(torch, setting.precision)}
    tokenizer = AutoTokenizer.from_pretrained(folder / "policy", padding_side="left")
    policy = AutoModelForCausalLM.from_pretrained(folder / "policy", **given)
    reference, adapter = None, None
    if setting.adapters:
        adapter = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    else:
        reference = AutoModelForCausalLM.from_pretrained(folder / "policy", **given)
    reward, critic = (
        AutoModelForSequenceClassification.from_pretrained(folder / "reward", num_labels=1, **given)
        for _ in range(2)
    )
    watch = Stopwatch()
    lengths: list[float] = []
    scores: list[float] = []
    generate = ppo_trainer.batch_generation

    def batch_generation(*args: Any) -> Any:
        output = generate(*args)
        written = output[0][:, args[1].shape[1] :]
        ended = (written == tokenizer.eos_token_id).int()
        lengths.append(float(torch.where(ended.any(1), ended.argmax(1) + 1, written.shape[1]).float().mean()))
        return output

    class EndOfUpdate(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            watch.end_update()

        def on_log(self, *args: Any, logs: dict[str, Any], **kwargs: Any) -> None:
            if "objective/scores" in logs:
                scores.append(logs["objective/scores"])

    # Scoring is all that runs without gradients apart from sampling; the rest of the loop is the update.
    ppo_trainer.batch_generation = watch.timed("rollout", batch_generation)
    ppo_trainer.get_reward = watch.timed("score", ppo_trainer.get_reward)
    forward = ppo_trainer.forward

    def split_forward(*args: Any, **kwargs: Any) -> Any:
        return (forward if torch.is_grad_enabled() else watch.timed("score", forward))(*args, **kwargs)

    ppo_trainer.forward = split_forward
    data = Dataset.from_dict({"input_ids": [prompt["ids"] for prompt in setting.prompts]})
    with tempfile.TemporaryDirectory() as out:
        config = PPOConfig(
            output_dir=out,
            per_device_train_batch_size=setting.batch,
            num_mini_batches=1,
            num_ppo_epochs=setting.epochs,
            total_episodes=setting.batch * (setting.updates + 2),
            local_rollout_forward_batch_size=setting.batch,
            response_length=setting.new_tokens,
            stop_token="eos",
            temperature=1.0,
            missing_eos_penalty=1.0,
            learning_rate=setting.learning_rate,
            seed=setting.seed,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=not torch.cuda.is_available(),
            num_sample_generations=0,
            save_strategy="no",
            report_to="none",
            logging_steps=1000,
            disable_tqdm=True,
        )
        trainer = PPOTrainer(
            args=config,
            processing_class=tokenizer,
            model=policy,
            ref_model=reference,
            reward_model=reward,
            value_model=critic,
            train_dataset=data,
            callbacks=[EndOfUpdate()],
            peft_config=adapter,
        )
        trainer.train()
    report = watch.report(setting, statistics.mean(lengths), scores)
    report["phases"]["update"] = report["phases"].pop("other")
    return report


if __name__ == "__main__":
    main()
