"""How much faster is grading with shared prefixes than one pass per (response, proposition)?

    python benchmarks/grading_prefix_sharing.py

Each way runs in a process of its own, so that its peak memory is its own; the same random model, the same
64 responses of 300 tokens and 20 propositions of 40. `default` is what the grader does on its own. Prints
the median seconds and their range, peak memory, the ratio of medians to separate passes, and the largest
difference between the probabilities; ends with exit code 1 where the default is less than 4 times as fast,
or differs by more than 1e-4.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from evals.graders.language_model import LanguageModelGrader
from evals.graders.question import PLAIN
from evals.models.prefix_tree import Pass
from evals.rules.propositions import Proposition
from evals.values.conversation import Response, user_prompt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "tiny"))
from tiny_models import make_tokenizer, numbered_words, random_model

VOCABULARY = 600
LEAST_RATIO, LARGEST_DIFFERENCE = 4.0, 1e-4
DEFAULT = "default"
WAYS = (DEFAULT, *(way.value for way in Pass))


def main() -> int:
    arguments = parse_arguments()
    if arguments.way:
        print(json.dumps(measure(arguments, arguments.way)))
        return 0
    found = {way: run_alone(way) for way in WAYS}
    apart = found[Pass.SEPARATE.value]
    print(f"{'way':10} {'seconds':>19} {'peak MiB':>9} {'times as fast':>14} {'largest difference':>19}")
    for way, row in found.items():
        row["difference"] = float(np.abs(np.subtract(row["probability"], apart["probability"])).max())
        row["ratio"] = median(apart["seconds"]) / median(row["seconds"])
        seconds = f"{median(row['seconds']):.2f} ({min(row['seconds']):.2f}-{max(row['seconds']):.2f})"
        figures = f"{row['peak_mib']:9.0f} {row['ratio']:14.2f} {row['difference']:19.1e}"
        print(f"{way:10} {seconds:>19} {figures}")
    default = found[DEFAULT]
    held = default["ratio"] >= LEAST_RATIO and default["difference"] <= LARGEST_DIFFERENCE
    print(f"{'held' if held else 'NOT held'}: {LEAST_RATIO:g} times as fast, equal to {LARGEST_DIFFERENCE:g}")
    return 0 if held else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--responses", type=int, default=64)
    parser.add_argument("--propositions", type=int, default=20)
    parser.add_argument("--response-tokens", type=int, default=300)
    parser.add_argument("--question-tokens", type=int, default=40)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--way", choices=WAYS, help="measure one way only, as JSON")
    return parser.parse_args()


def run_alone(way: str) -> dict:
    command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
    return json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
    )


def measure(arguments: argparse.Namespace, way: str) -> dict:
    """Seconds of each of `repeats`, after one warm-up; peak resident memory of this process."""
    torch.set_num_threads(arguments.threads)
    how = None if way == DEFAULT else Pass(way)
    grader = LanguageModelGrader(model(arguments), tokenizer(), prompt=PLAIN, min_mass=0.0, how=how)
    responses, propositions = texts(arguments)
    grader.grade(responses[:4], propositions)
    seconds = []
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        grades = grader.grade(responses, propositions)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mib": peak, "probability": grades.probability.tolist()}


def model(arguments: argparse.Namespace) -> LlamaForCausalLM:
    sizes = {"hidden_size": arguments.width, "intermediate_size": 11 * arguments.width // 4}
    sizes |= {"num_hidden_layers": arguments.layers, "num_attention_heads": 4}
    return random_model(
        LlamaForCausalLM, VOCABULARY, max_position_embeddings=4096, initializer_range=0.1, **sizes
    )


def tokenizer() -> PreTrainedTokenizerFast:
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    template = "{% for m in messages %}{{ m.content }}<eos>{% endfor %}"
    return make_tokenizer(["yes", "no", *numbered_words(VOCABULARY - 5)], template, special=special)


def texts(arguments: argparse.Namespace) -> tuple[list[Response], list[Proposition]]:
    rng = np.random.default_rng(0)

    def words(count: int) -> str:
        return " ".join(f"w{i}" for i in rng.integers(0, VOCABULARY - 5, count))

    responses = [
        Response(user_prompt(str(i), words(20)), words(arguments.response_tokens))
        for i in range(arguments.responses)
    ]
    questions = [
        Proposition(f"p{i}", words(arguments.question_tokens)) for i in range(arguments.propositions)
    ]
    return responses, questions


if __name__ == "__main__":
    sys.exit(main())
