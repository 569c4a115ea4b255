"""PPO here beside TRL 1.12's (the last release that has it), on this machine, in one run.

    python benchmarks/ppo_vs_trl.py [--repeats 5] [--updates 8] [--threads 2] [--case early|full]

Both train the same Llama policy (width 128, 2 layers, vocabulary 602: 0.5 M parameters) with a
separate critic, reference and reward model of that size from the same saved weights: 64 responses
an update, prompts of 24 tokens, up to 40 new tokens, 4 epochs, one minibatch, stopping at EOS.

- early: EOS has a chance of about 5.5 % a token, so that responses end after about 40 % of the limit.
- full:  EOS is all but impossible, so that all run to the limit.

Learning rates are 0, which changes no cost and keeps the lengths what they are. The sides take
turns, each in a fresh process; the first update of each is left out. Processor time is printed too:
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "tiny"))  # tiny_models, imported where it is used
PEER = "trl==1.12.0"
VOCABULARY, PROMPT_TOKENS, NEW_TOKENS, BATCH, EPOCHS = 602, 24, 40, 64, 4
EOS = 2
EOS_LOGIT = {"early": 3.55, "full": -20.0}
TARGETS = {"early": 2.5, "full": 1.5}
Report = dict[str, Any]


def main() -> None:
    options = _options()
    if options.side:
        side = train_with_trl if options.side == "trl" else train_here
        print(json.dumps(side(Path(options.folder), options.updates, options.threads)))
        return
    with tempfile.TemporaryDirectory() as folder:
        peer = make_peer(Path(folder) / "peer")
        for case in [options.case] if options.case else list(EOS_LOGIT):
            models = Path(folder) / case
            make_models(models, case)
            compare(case, models, peer, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--updates", type=int, default=8, help="timed updates a repeat")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--case", choices=list(EOS_LOGIT), help="one case only")
    parser.add_argument("--side", choices=["trl", "here"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


# --- both sides ------------------------------------------------------------------------------


def compare(case: str, models: Path, peer: Path, options: argparse.Namespace) -> None:
    reports: dict[str, list[Report]] = {"here": [], "trl": []}
    for _ in range(options.repeats):
        for side, python in (("here", Path(sys.executable)), ("trl", peer)):
            reports[side].append(run_side(side, python, models, options))
    length = reports["here"][0]["length"]
    print(f"\n{case}: {length:.1f} of {NEW_TOKENS} tokens a response, {options.threads} threads")
    for side, name in (("here", "rbrbench"), ("trl", PEER)):
        rates = [report["responses_per_second"] for report in reports[side]]
        memory = statistics.median(report["peak_mb"] for report in reports[side])
        own = statistics.median(report["peak_mb"] - report["start_mb"] for report in reports[side])
        phases = {
            phase: statistics.median(report["phases"][phase] for report in reports[side])
            for phase in reports[side][0]["phases"]
        }
        parts = ", ".join(f"{phase} {seconds * 1e3:.0f} ms" for phase, seconds in phases.items())
        spread = f"{min(rates):.1f} to {max(rates):.1f}"
        print(f"  {name:12s} {statistics.median(rates):6.1f} responses/s ({spread}); an update: {parts}")
        processor = statistics.median(report["processor_seconds"] for report in reports[side])
        print(
            f"  {'':12s} {processor:.2f} processor seconds an update; "
            f"peak {memory:.0f} MB, {own:.0f} MB above imports and models"
        )
    pairs = list(zip(reports["here"], reports["trl"], strict=True))
    ratios = [ours["responses_per_second"] / theirs["responses_per_second"] for ours, theirs in pairs]
    work = statistics.median(
        theirs["processor_seconds"] / ours["processor_seconds"] for ours, theirs in pairs
    )
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(
        f"  ratio {statistics.median(ratios):.2f} ({spread}); target {TARGETS[case]}; in processor time {work:.2f}"
    )


def run_side(side: str, python: Path, models: Path, options: argparse.Namespace) -> Report:
    command = [str(python), __file__, "--side", side, "--folder", str(models)]
    command += ["--updates", str(options.updates), "--threads", str(options.threads)]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT) if side == "here" else "",
        "OMP_NUM_THREADS": str(options.threads),
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


def prompt_words() -> list[list[str]]:
    import numpy as np

    rng = np.random.default_rng(0)
    return [[f"w{i}" for i in row] for row in rng.integers(0, VOCABULARY - 4, (512, PROMPT_TOKENS))]


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

    def report(self, updates: int, length: float) -> Report:
        """Over `updates` updates, the first left out."""
        seconds = (self.ends[updates] - self.ends[0]) / updates
        rows = self.phases[1 : updates + 1]
        phases = {name: sum(row.get(name, 0.0) for row in rows) / updates for name in rows[0]}
        return {
            "responses_per_second": BATCH / seconds,
            "processor_seconds": (self.processor[updates] - self.processor[0]) / updates,
            "phases": phases | {"other": seconds - sum(phases.values())},
            "peak_mb": peak_mb(),
            "start_mb": self.start_mb,
            "length": length,
        }


# --- each side -------------------------------------------------------------------------------


def train_here(folder: Path, updates: int, threads: int) -> Report:
    import torch

    from evals.models.load import load_causal_lm, load_reward_model, load_tokenizer
    from evals.values.conversation import user_prompt
    from trainers.reward.reward import RewardModelTerm, SumOfTerms
    from trainers.rl.ppo import Models, Options, PPOConfig, train_ppo

    torch.set_num_threads(threads)
    tokenizer = load_tokenizer(folder / "policy")
    prompts = [user_prompt(str(i), " ".join(words)) for i, words in enumerate(prompt_words())]
    reward = SumOfTerms([RewardModelTerm(load_reward_model(folder / "reward"), tokenizer)])
    policy, reference = load_causal_lm(folder / "policy"), load_causal_lm(folder / "policy")
    critic = load_reward_model(folder / "reward")
    config = PPOConfig(
        updates=updates + 2,
        batch_size=BATCH,
        epochs=EPOCHS,
        max_new_tokens=NEW_TOKENS,
        learning_rate=0.0,
        critic_learning_rate=0.0,
        checkpoints=1,
        save_every=updates + 2,
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
    return watch.report(updates, statistics.mean(row["response/length"] for row in metrics))


def train_with_trl(folder: Path, updates: int, threads: int) -> Report:
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        TrainerCallback,
    )
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(folder / "policy", padding_side="left")
    policy, reference = (AutoModelForCausalLM.from_pretrained(folder / "policy") for _ in range(2))
    reward, critic = (
        AutoModelForSequenceClassification.from_pretrained(folder / "reward", num_labels=1) for _ in range(2)
    )
    watch = Stopwatch()
    lengths: list[float] = []
    generate = ppo_trainer.batch_generation

    def batch_generation(*args: Any) -> Any:
        output = generate(*args)
        written = output[0][:, PROMPT_TOKENS:]
        ended = (written == EOS).int()
        lengths.append(float(torch.where(ended.any(1), ended.argmax(1) + 1, written.shape[1]).float().mean()))
        return output

    class EndOfUpdate(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            watch.end_update()

    # Scoring is all that runs without gradients apart from sampling; the rest of the loop is the update.
    ppo_trainer.batch_generation = watch.timed("rollout", batch_generation)
    ppo_trainer.get_reward = watch.timed("score", ppo_trainer.get_reward)
    forward = ppo_trainer.forward

    def split_forward(*args: Any, **kwargs: Any) -> Any:
        return (forward if torch.is_grad_enabled() else watch.timed("score", forward))(*args, **kwargs)

    ppo_trainer.forward = split_forward
    ids = [tokenizer(" ".join(words))["input_ids"] for words in prompt_words()]
    data = Dataset.from_dict({"input_ids": ids})
    with tempfile.TemporaryDirectory() as out:
        config = PPOConfig(
            output_dir=out,
            per_device_train_batch_size=BATCH,
            num_mini_batches=1,
            num_ppo_epochs=EPOCHS,
            total_episodes=BATCH * (updates + 2),
            local_rollout_forward_batch_size=BATCH,
            response_length=NEW_TOKENS,
            stop_token="eos",
            temperature=1.0,
            missing_eos_penalty=1.0,
            learning_rate=0.0,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
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
        )
        trainer.train()
    report = watch.report(updates, statistics.mean(lengths))
    report["phases"]["update"] = report["phases"].pop("other")
    return report


if __name__ == "__main__":
    main()
