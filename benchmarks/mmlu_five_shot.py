"""How much faster is MMLU with five examples when a subject's questions share them? Against lm-eval's own HF model.

    python benchmarks/mmlu_five_shot.py [--subjects 2] [--questions 32] [--batch-size 8] [--threads 1]

Files in MMLU's released form with random words, of MMLU's usual lengths (an example of about 100 tokens), a random
Llama of 42 M parameters; nothing is fetched. Both sides run lm-eval's `evaluate` on the same tasks, each in a process
of its own, so that its peak memory is its own. Prints seconds, peak memory, the ratio of processor times and the
largest difference between two log-probabilities; ends with exit code 1 below 3 times as fast, at a difference above
1e-4, or where the accuracies differ.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from evals.capability import CapabilityTask, load_tasks
from evals.capability.lm_eval_tasks import quiet
from evals.models.load import default_device

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "tiny"))
from tiny_models import make_tokenizer, numbered_words, random_model

LEAST_RATIO, LARGEST_DIFFERENCE = 3.0, 1e-4
SIDES = ("lm-eval", "rbrbench")
SHOTS = 5
PROMPT_WORDS = (
    "<pad> <bos> <eos> <unk> A B C D A. B. C. D. Answer: The following are multiple choice questions "
    "(with answers) about subject"
).split()


def main() -> int:
    options = parse_arguments()
    if options.side:
        print(json.dumps(measure(options)))
        return 0
    found = {side: run_alone(side) for side in SIDES}
    theirs, ours = (found[side] for side in SIDES)
    print(f"{options.subjects} subjects of {options.questions} questions, {ours['tokens']:.0f} tokens each")
    for side, row in found.items():
        times = f"{row['seconds']:8.2f} s, {row['processor']:8.2f} s of processor time"
        print(f"{side:10}{times}, {row['peak_mib']:6.0f} MiB, accuracy {row['accuracy']:.4f}")
    # Processor time: on a busy machine the clock measures its neighbours.
    ratio = theirs["processor"] / ours["processor"]
    difference = float(np.abs(np.subtract(ours["log_likelihood"], theirs["log_likelihood"])).max())
    print(f"{ratio:.2f} times as fast, largest difference in log-probability {difference:.1e}")
    same = ours["accuracy"] == theirs["accuracy"] and difference <= LARGEST_DIFFERENCE
    held = same and ratio >= LEAST_RATIO
    print(f"{'held' if held else 'NOT held'}: {LEAST_RATIO:g} times as fast, equal to {LARGEST_DIFFERENCE:g}")
    return 0 if held else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subjects", type=int, default=2)
    parser.add_argument("--questions", type=int, default=32, help="of a subject; MMLU has 100 to 1534")
    parser.add_argument("--question-words", type=int, default=60)
    parser.add_argument("--choice-words", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--side", choices=SIDES, help="measure one side only, as JSON")
    return parser.parse_args()


def run_alone(side: str) -> dict:
    command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(options: argparse.Namespace) -> dict:
    """Seconds of lm-eval's `evaluate` after a warm-up, and what it found; peak memory of this process."""
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    from evals.capability.language_model import InMemoryLM

    torch.set_num_threads(options.threads)
    with (
        tempfile.TemporaryDirectory() as folder,
        quiet(),
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stderr(nowhere),
    ):
        write_release(Path(folder), options)
        task = CapabilityTask("mmlu", "mmlu_release", Path(folder), num_fewshot=SHOTS)
        (loaded,) = load_tasks([task], limit=None, seed=0)
        if options.side == "lm-eval":
            lm = HFLM(pretrained=model(options), tokenizer=tokenizer(options), batch_size=options.batch_size)
        else:
            lm = InMemoryLM(model(options), tokenizer(options), batch_size=options.batch_size)

        def run(limit: int | None) -> dict:
            return evaluate(
                lm, {"tasks": loaded.lm_eval_tasks}, limit=limit, bootstrap_iters=0, log_samples=True
            )

        run(2)
        start, processor = time.perf_counter(), time.process_time()
        samples = run(None)["samples"]
        seconds, processor = time.perf_counter() - start, time.process_time() - processor
    rows = [row for name in sorted(samples) for row in sorted(samples[name], key=lambda row: row["doc_id"])]
    return {
        "seconds": seconds,
        "processor": processor,
        "peak_mib": peak_mib(),
        "accuracy": float(np.mean([row["acc"] for row in rows])),
        "log_likelihood": [float(one[0]) for row in rows for one in row["filtered_resps"]],
        "tokens": float(np.mean([len(row["arguments"][0][0].split()) for row in rows])),
    }


def peak_mib() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_release(folder: Path, options: argparse.Namespace) -> None:
    rng = np.random.default_rng(0)

    def words(mean: int) -> str:
        count = max(1, rng.poisson(mean))
        return " ".join(f"w{i}" for i in rng.integers(options.vocabulary - len(PROMPT_WORDS), size=count))

    for split, count in (("dev", SHOTS), ("test", options.questions)):
        (folder / "data" / split).mkdir(parents=True)
        for subject in ("abstract_algebra", "anatomy", "astronomy", "virology")[: options.subjects]:
            rows = [
                [words(options.question_words), *(words(options.choice_words) for _ in "ABCD"), letter]
                for letter in rng.choice(list("ABCD"), size=count)
            ]
            with open(folder / "data" / split / f"{subject}_{split}.csv", "w", newline="") as file:
                csv.writer(file).writerows(rows)


def model(options: argparse.Namespace) -> LlamaForCausalLM:
    heads = max(1, options.width // 64)
    sizes = {"hidden_size": options.width, "intermediate_size": 11 * options.width // 4}
    sizes |= {"num_hidden_layers": options.layers, "num_attention_heads": heads}
    others = {"max_position_embeddings": 2048, "initializer_range": 0.05, "tie_word_embeddings": True}
    # Typed so that its wrapped `to` is not checked.
    network: Any = random_model(LlamaForCausalLM, options.vocabulary, **sizes, **others)
    found: LlamaForCausalLM = network.to(default_device()).eval()
    return found


def tokenizer(options: argparse.Namespace) -> PreTrainedTokenizerFast:
    return make_tokenizer([*PROMPT_WORDS, *numbered_words(options.vocabulary - len(PROMPT_WORDS))])


if __name__ == "__main__":
    sys.exit(main())
