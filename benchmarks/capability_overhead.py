"""What measuring capability costs beside lm-eval's own run of the same items on the same model.

Both sides score the same knowledge tasks (multiple choice by log-likelihood, last words) with a small Llama
and a word-level tokenizer, in turns in one process. lm-eval's side is its stock HFLM and `evaluate`, as
`lm_eval.simple_evaluate` calls them, without the environment report that the latter adds. Ours includes
reading and checking the files. Scores must agree, or the benchmark fails.

    python benchmarks/capability_overhead.py [--items 900] [--repeats 5] [--threads 2]

Prints seconds of each side (median, and processor time) and their ratio; below 1.05 is the aim.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from evals.capability import CapabilityTask, load_tasks, score_tasks

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "tiny"))
from tiny_models import make_tokenizer, numbered_words, random_model

VOCABULARY = 600


def world(folder: Path, items: int) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast, list[CapabilityTask]]:
    """A model of 0.5 M parameters and four tasks of items / 4 questions each, about 25 tokens a request."""
    rng = np.random.default_rng(0)
    tokenizer = make_tokenizer(numbered_words(VOCABULARY - 4))
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4}
    sizes |= {"max_position_embeddings": 512, "tie_word_embeddings": True}
    model = random_model(LlamaForCausalLM, tokenizer, **sizes)
    return model, tokenizer, write_tasks(folder, items // 4, rng)


def write_tasks(folder: Path, items: int, rng: np.random.Generator) -> list[CapabilityTask]:
    def words(n: int) -> str:
        return " ".join(f"w{i}" for i in rng.integers(VOCABULARY - 4, size=n))

    def choice(question: str, choices: str, answer: str, length: int) -> dict[str, object]:
        return {question: words(20), choices: [words(length) for _ in range(4)], answer: int(rng.integers(4))}

    rows = {
        "mmlu": [choice("question", "choices", "answer", 2) for _ in range(items)],
        "gpqa": [choice("question", "choices", "answer", 3) for _ in range(items)],
        "hellaswag": [choice("context", "endings", "label", 6) for _ in range(items)],
        "lambada": [{"text": words(24)} for _ in range(items)],
    }
    tasks = []
    for name, of_task in rows.items():
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in of_task))
        tasks.append(CapabilityTask(name, name, path))
    return tasks


def lm_eval_alone(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, loaded: list, batch_size: int
) -> dict[str, float]:
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    tasks = {name: task for one in loaded for name, task in one.lm_eval_tasks.items()}
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        results = evaluate(lm, {"tasks": tasks}, bootstrap_iters=0, log_samples=True)["results"]
    return {name: result["acc,none"] for name, result in results.items()}


def timed(run: Callable[[], dict[str, float]]) -> tuple[dict[str, float], float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=900)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        model, tokenizer, tasks = world(Path(folder), options.items)
        loaded = load_tasks(tasks, limit=None, seed=0)

        def ours() -> dict[str, float]:
            again = load_tasks(tasks, limit=None, seed=0)
            scores = score_tasks(model, tokenizer, again, batch_size=options.batch_size)
            return {score.task: score.value for score in scores if score.metric == "acc"}

        def theirs() -> dict[str, float]:
            return lm_eval_alone(model, tokenizer, loaded, options.batch_size)

        times: dict[str, list[tuple[float, float]]] = {"lm-eval": [], "rbrbench": []}
        ours(), theirs()  # the first run of each imports and warms up
        for _ in range(options.repeats):
            expected, *of_theirs = timed(theirs)
            found, *of_ours = timed(ours)
            if any(abs(found[task] - value) > 1e-9 for task, value in expected.items()):
                raise SystemExit(f"scores differ: {found} against {expected}")
            times["lm-eval"].append(tuple(of_theirs))
            times["rbrbench"].append(tuple(of_ours))
    report(times, options.items)


def report(times: dict[str, list[tuple[float, float]]], items: int) -> None:
    medians = {
        side: [statistics.median(column) for column in zip(*rows, strict=True)]
        for side, rows in times.items()
    }
    print(f"{items} items, median of {len(times['lm-eval'])} runs in turns")
    for side, (wall, cpu) in medians.items():
        print(f"{side:10s} {wall:6.2f} s, {cpu:6.2f} s of processor time, {items / wall:6.0f} items/s")
    ratio = [ours / theirs for ours, theirs in zip(medians["rbrbench"], medians["lm-eval"], strict=True)]
    print(f"rbrbench / lm-eval: {ratio[0]:.2f} by the clock, {ratio[1]:.2f} of processor time")


if __name__ == "__main__":
    main()
