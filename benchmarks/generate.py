"""Responses a second of a real chat model beside transformers' own generate, in one run.

    python benchmarks/generate.py --model FOLDER --data FOLDER [--suite xstest] [--prompts 160] [--tokens 48 160]
        [--batch 32] [--repeats 3] [--threads 2] [--beside lm_eval] [--gguf FILE]

Both answer the same prompts of a suite greedily in float32, in batches of the same prompts, longest first; the sides
take turns. With few tokens nearly every response runs to the limit; with many they end where the model ends them, and
the printed quartiles of their lengths say how mixed they are. Prints medians with the range, the ratio, and on how
many prompts the two texts are the same. Target: 1.5 times as fast, every text equal; exit code 1 where it is missed.

`--beside lm_eval` adds lm-eval's HF backend on the task that `rbrbench export` writes of the suite, `--gguf FILE`
llama.cpp's own server (`pip install xllamacpp`) on that file, asked by as many requests at once as a batch has rows:
its weights are the file's, of four bits in SmolLM2's, so that its texts are others. No target holds for these two.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.models.load import load_causal_lm, load_tokenizer, prompt_token_ids
from evals.models.sampling import Decoding, sample_responses, stop_token_ids
from evals.suites import load_suite
from evals.values.conversation import Prompt

LEAST_RATIO = 1.5


# Texts to prompts by at most so many tokens, in batches of so many.
Side = Callable[[Sequence[Prompt], int, int], list[str]]


def main() -> int:
    options = _options()
    torch.set_num_threads(options.threads)
    model = load_causal_lm(options.model, torch.float32).eval()
    tokenizer = load_tokenizer(options.model, needs_padding=False)
    prompts = list(load_suite(options.suite, options.data).prompts[: options.prompts])
    good = True
    with contextlib.ExitStack() as stack:
        sides: dict[str, Side] = {
            "transformers": partial(by_transformers, model, tokenizer),
            "rbrbench": partial(here, model, tokenizer),
        }
        if options.beside:
            sides["lm-eval"] = stack.enter_context(lm_eval(model, tokenizer, options.suite, options.data))
        if options.gguf:
            sides["llama.cpp"] = stack.enter_context(llama_server(options))
        for tokens in options.tokens:
            good &= compare(sides, prompts, tokens, options, tokenizer)
    return 0 if good else 1


def compare(
    sides: dict[str, Side],
    prompts: Sequence[Prompt],
    tokens: int,
    options: argparse.Namespace,
    tokenizer: PreTrainedTokenizerBase,
) -> bool:
    """Prints what each side took; whether ours reaches the target beside transformers'."""
    for side in sides.values():  # warm up
        side(prompts[: options.batch], 4, options.batch)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    texts: dict[str, list[str]] = {}
    for _ in range(options.repeats):
        for name, side in sides.items():
            start = time.perf_counter()
            texts[name] = side(prompts, tokens, options.batch)
            seconds[name].append(time.perf_counter() - start)
    lengths = [len(tokenizer(text).input_ids) for text in texts["rbrbench"]]
    print(f"at most {tokens} tokens; quartiles of the texts' {statistics.quantiles(lengths, n=4)}")
    ours = statistics.median(seconds["rbrbench"])
    good = True
    for name, took in seconds.items():
        rates = sorted(len(prompts) / s for s in took)
        line = f"  {name:13} {statistics.median(rates):6.2f} a second ({rates[0]:.2f} to {rates[-1]:.2f})"
        if name != "rbrbench":
            ratio = statistics.median(took) / ours
            same = sum(a == b for a, b in zip(texts["rbrbench"], texts[name], strict=True))
            line += f"; rbrbench {ratio:.2f} times as fast, {same} of {len(prompts)} texts the same"
            if name == "transformers":
                good = ratio >= LEAST_RATIO and same == len(prompts)
        print(line, flush=True)
    return good


def here(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    tokens: int,
    batch: int,
) -> list[str]:
    tokenizer.pad_token_id = tokenizer.pad_token_id or 0
    return [r.text for r in sample_responses(model, tokenizer, prompts, Decoding(tokens, batch_size=batch))]


@torch.inference_mode()
def by_transformers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
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


@contextlib.contextmanager
def lm_eval(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, suite: str, data: str
) -> Iterator[Side]:
    """Its own run of the exported task, the first prompts of it, with its records left out."""
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager, get_task_dict

    with tempfile.TemporaryDirectory() as folder:
        asked = [f"suites=[{suite}]", f"data.root={data}", f"out={folder}/tasks"]
        subprocess.run([sys.executable, "-m", "rbrbench", "export", *asked], check=True, capture_output=True)
        manager = TaskManager(include_path=f"{folder}/tasks", include_defaults=False)

        def side(prompts: Sequence[Prompt], tokens: int, batch: int) -> list[str]:
            tasks: Any = get_task_dict([f"rbrbench_{suite}"], manager)
            for task in tasks.values():
                task.set_config(key="generation_kwargs", value={"max_gen_toks": tokens}, update=True)
            backend = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch)
            found = evaluate(backend, tasks, limit=len(prompts), apply_chat_template=True, bootstrap_iters=0)
            samples = found["samples"][f"rbrbench_{suite}"]
            return [sample["resps"][0][0].strip() for sample in samples]

        yield side


@contextlib.contextmanager
def llama_server(options: argparse.Namespace) -> Iterator[Side]:
    import openai
    import xllamacpp

    asked = xllamacpp.CommonParams()
    asked.model.path, asked.cpuparams.n_threads = options.gguf, options.threads
    asked.n_parallel, asked.n_ctx = options.batch, options.batch * 512
    server = xllamacpp.Server(asked)
    client = openai.OpenAI(base_url=f"{server.listening_address}/v1", api_key="none", timeout=600)

    def side(prompts: Sequence[Prompt], tokens: int, batch: int) -> list[str]:
        def answer(prompt: Prompt) -> str:
            messages: Any = [{"role": m.role, "content": m.content} for m in prompt.messages]
            said = client.chat.completions.create(
                model="given", messages=messages, max_tokens=tokens, temperature=0
            )
            return (said.choices[0].message.content or "").strip()

        with ThreadPoolExecutor(batch) as pool:
            return list(pool.map(answer, prompts))

    yield side
    del server


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
    parser.add_argument("--beside", choices=["lm_eval"], help="a further side")
    parser.add_argument("--gguf", help="a file for llama.cpp's server, a further side")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
