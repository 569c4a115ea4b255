"""How much faster does a tiny model answer a suite in batches than one prompt at a time?

    python benchmarks/evaluate_batching.py data.root=FOLDER [suites=xstest] [repeats=3]

A random Llama (2 layers of width 128, byte-level vocabulary of 1,000) writes 32 tokens to each of XSTest's 450
prompts, greedily: in batches as `rbrbench evaluate` does, and with decoding.batch_size=1. Both ways take turns in
one process. Prints seconds, prompts a second and the ratio; ends with exit code 1 where batches are less than
twice as fast, or where one response differs. Without XSTest's files it makes 450 prompts of like lengths.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from pathlib import Path

import torch
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from evals.models.sampling import Decoding, sample_responses
from evals.suites import load_suite
from evals.values.conversation import Prompt, Response, user_prompt
from harness.keys.subject import DecodingKeys
from trainers.models.tokenizer import train_tokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "tiny"))
from tiny_models import random_model

LEAST_RATIO = 2.0
NEW_TOKENS = 32
CONTEXT = 256


def main() -> int:
    options = dict(argument.split("=", 1) for argument in sys.argv[1:])
    torch.set_num_threads(int(options.get("threads", "1")))
    prompts = suite_prompts(options)
    model, tokenizer = tiny_model([prompt.text for prompt in prompts])
    batched, single = DecodingKeys().batch_size, 1
    sample_responses(model, tokenizer, prompts[:40], Decoding(NEW_TOKENS, batch_size=batched))  # warm up
    seconds: dict[int, list[float]] = {batched: [], single: []}
    responses: dict[int, list[Response]] = {}
    for _ in range(int(options.get("repeats", "3"))):
        for size in seconds:
            started = time.perf_counter()
            responses[size] = sample_responses(
                model, tokenizer, prompts, Decoding(NEW_TOKENS, batch_size=size)
            )
            seconds[size].append(time.perf_counter() - started)
    medians = {size: statistics.median(found) for size, found in seconds.items()}
    for size, median in medians.items():
        print(f"batch size {size:3d}: {median:7.2f} s, {len(prompts) / median:7.1f} prompts a second")
    ratio, same = medians[single] / medians[batched], responses[single] == responses[batched]
    held = same and ratio >= LEAST_RATIO
    print(f"{'held' if held else 'NOT held'}: {ratio:.2f} times as fast (at least {LEAST_RATIO:g}), ", end="")
    print("every response the same" if same else "some responses differ")
    return 0 if held else 1


def suite_prompts(options: dict[str, str]) -> list[Prompt]:
    if "data.root" in options:
        return list(load_suite(options.get("suites", "xstest"), options["data.root"]).prompts)
    words = "how do i stop kill cut a the python process candle in my garden tonight please".split()
    choose = random.Random(0)
    return [user_prompt(str(k), " ".join(choose.choices(words, k=choose.randint(5, 16)))) for k in range(450)]


def tiny_model(texts: list[str]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    tokenizer = train_tokenizer(texts, 1000, CONTEXT)
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4}
    # A large spread gives clear winners, so that responses end at their own steps.
    others = {"max_position_embeddings": CONTEXT, "initializer_range": 0.3}
    return random_model(LlamaForCausalLM, tokenizer, **sizes, **others), tokenizer


if __name__ == "__main__":
    sys.exit(main())
