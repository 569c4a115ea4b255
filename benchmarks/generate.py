"""Responses a second of a real chat model beside transformers' own generate, in one run.

    python benchmarks/generate.py --model FOLDER --data FOLDER [--suite xstest] [--prompts 160] [--tokens 48 160]
        [--batch 32] [--repeats 3] [--threads 2]

Both answer the same prompts of a suite greedily in float32, in batches of the same prompts, longest first; the sides
take turns. With few tokens nearly every response runs to the limit; with many they end where the model ends them, and
the printed quartiles of their lengths say how mixed they are. Prints medians with the range, the ratio, and on how
many prompts the two texts are the same. Target: 1.5 times as fast, every text equal; exit code 1 where it is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.models.load import load_causal_lm, load_tokenizer, prompt_token_ids
from evals.models.sampling import Decoding, sample_responses, stop_token_ids
from evals.suites import load_suite
from evals.values.conversation import Prompt

LEAST_RATIO = 1.5


def main() -> int:
    options = _options()
    torch.set_num_threads(options.threads)
    model = load_causal_lm(options.model, torch.float32).eval()
    tokenizer = load_tokenizer(options.model, needs_padding=False)
    prompts = list(load_suite(options.suite, options.data).prompts[: options.prompts])
    sides = {"transformers": by_transformers, "rbrbench": here}
    good = True
    for tokens in options.tokens:
        for side in sides.values():  # warm up
            side(model, tokenizer, prompts[: options.batch], 4, options.batch)
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        texts: dict[str, list[str]] = {}
        for _ in range(options.repeats):
            for name, side in sides.items():
                start = time.perf_counter()
                texts[name] = side(model, tokenizer, prompts, tokens, options.batch)
                seconds[name].append(time.perf_counter() - start)
        lengths = [len(tokenizer(text).input_ids) for text in texts["rbrbench"]]
        print(f"at most {tokens} tokens; quartiles of the texts' {statistics.quantiles(lengths, n=4)}")
        for name, took in seconds.items():
            rates = sorted(len(prompts) / s for s in took)
            print(f"  {name:13} {statistics.median(rates):6.2f} a second ({rates[0]:.2f} to {rates[-1]:.2f})")
        ratio = statistics.median(seconds["transformers"]) / statistics.median(seconds["rbrbench"])
        same = sum(a == b for a, b in zip(*texts.values(), strict=True))
        print(f"  {ratio:.2f} times as fast; {same} of {len(prompts)} texts the same", flush=True)
        good &= ratio >= LEAST_RATIO and same == len(prompts)
    return 0 if good else 1


def here(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[Prompt],
    tokens: int,
    batch: int,
) -> list[str]:
    tokenizer.pad_token_id = tokenizer.pad_token_id or 0
    return [r.text for r in sample_responses(model, tokenizer, prompts, Decoding(tokens, batch_size=batch))]


@torch.inference_mode()
def by_transformers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[Prompt],
    tokens: int,
    batch: int,
) -> list[str]:
    ids = [prompt_token_ids(tokenizer, prompt.messages) for prompt in prompts]
    order = sorted(range(len(ids)), key=lambda row: -len(ids[row]))
    texts = [""] * len(ids)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        width = max(len(ids[row]) for row in rows)
        padded = torch.tensor([[0] * (width - len(ids[row])) + list(ids[row]) for row in rows])
        mask = torch.tensor([[0] * (width - len(ids[row])) + [1] * len(ids[row]) for row in rows])
        written = model.generate(
            input_ids=padded,
            attention_mask=mask,
            max_new_tokens=tokens,
            do_sample=False,
            eos_token_id=stop_token_ids(model, tokenizer),
            pad_token_id=0,
        )
        found = tokenizer.batch_decode(written[:, width:], skip_special_tokens=True)
        for row, text in zip(rows, found, strict=True):
            texts[row] = text.strip()
    return texts


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Responses a second beside transformers' generate.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--suite", default="xstest")
    parser.add_argument("--prompts", type=int, default=160)
    parser.add_argument("--tokens", type=int, nargs="+", default=[48, 160])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
