"""How much faster are HellaSwag's endings when each context is computed once? Against lm-eval's own HF model.

    python benchmarks/shared_contexts.py --model FOLDER --data FOLDER [--items 64] [--batch-size 64] [--repeats 3]

The same released items and the same model in one process, in turns. `--data` is what `capability.root` is: it holds
hellaswag/. Prints processor seconds of each side (median and all), the ratio, and the largest difference between two
log-probabilities; ends with exit code 1 below 1.5 times, at a difference above 1e-3 or where an answer differs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM

from evals.capability import load_tasks
from evals.capability.language_model import InMemoryLM
from evals.capability.lm_eval_tasks import quiet
from evals.capability.task import LoadedTask, real_tasks
from evals.models.load import load_causal_lm, load_tokenizer

LEAST_RATIO, LARGEST_DIFFERENCE = 1.5, 1e-3


def main() -> int:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    tasks = load_tasks(real_tasks(options.data, ["hellaswag"]), limit=options.items, seed=0)
    model, tokenizer = load_causal_lm(options.model, torch.float32), load_tokenizer(options.model)
    sides = {
        "lm-eval": HFLM(pretrained=model, tokenizer=tokenizer, batch_size=options.batch_size),
        "rbrbench": InMemoryLM(model, tokenizer, batch_size=options.batch_size),
    }
    times: dict[str, list[float]] = {side: [] for side in sides}
    found: dict[str, np.ndarray] = {}
    for turn in range(options.repeats):
        for side in list(sides)[:: 1 if turn % 2 else -1]:
            seconds, found[side] = measure(sides[side], tasks)
            times[side].append(seconds)
    for side, row in times.items():
        print(f"{side:9}{statistics.median(row):8.2f} s of processor time  {[round(one, 2) for one in row]}")
    ratio = statistics.median(times["lm-eval"]) / statistics.median(times["rbrbench"])
    difference = float(np.abs(found["lm-eval"] - found["rbrbench"]).max())
    chosen = [found[side].reshape(-1, 4).argmax(1) for side in sides]
    print(f"{ratio:.2f} times as fast, largest difference in log-probability {difference:.1e}")
    held = ratio >= LEAST_RATIO and difference <= LARGEST_DIFFERENCE and bool((chosen[0] == chosen[1]).all())
    print(f"{'held' if held else 'NOT held'}: {LEAST_RATIO:g} times as fast, equal answers")
    return 0 if held else 1


def measure(lm: HFLM, tasks: list[LoadedTask]) -> tuple[float, np.ndarray]:
    """(processor seconds, log-probabilities of all endings in the items' order)."""
    (loaded,) = tasks
    with quiet(), open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        start = time.process_time()
        results = evaluate(
            lm,
            {"tasks": loaded.lm_eval_tasks},
            samples=loaded.samples,
            bootstrap_iters=0,
            log_samples=True,
        )
        seconds = time.process_time() - start
    (rows,) = results["samples"].values()
    rows = sorted(rows, key=lambda row: row["doc_id"])
    return seconds, np.array([float(one[0]) for row in rows for one in row["filtered_resps"]])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
