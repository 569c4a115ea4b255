"""PPO on a GPU in bfloat16: throughput, model-FLOP utilisation and memory by model size, beside TRL 1.12.

    python benchmarks/ppo_gpu.py [--sizes 0.1B 0.5B 1B 3B] [--updates 4] [--peer] [--peak-tflops 989]

Random weights of Llama's shape; a critic, a reference and a reward model of the policy's size; 64
responses an update, prompts of 128 tokens, 128 new tokens, 4 epochs, one minibatch. Each size runs in a
fresh process; the first update is left out. With `--peer` TRL 1.12 runs on the same models in a virtual
environment of its own, and what does not fit says so.

Utilisation counts 2 FLOPs a weight and token for each forward pass and 6 for a training pass (Kaplan et
al. 2020, arXiv 2001.08361, section 2.1; attention is left out) over the device's dense peak: 989 TFLOP/s
is an H100's or H200's in bfloat16. Size `tiny` runs on a CPU too, to try the program itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
import ppo_vs_trl as small  # noqa: E402  the CPU benchmark: its peer environment, prompts and TRL side

PROMPT_TOKENS, NEW_TOKENS, BATCH, EPOCHS, MICRO_BATCH = 128, 128, 64, 4, 8
# width, feed-forward width, layers, heads, vocabulary
SIZES: dict[str, tuple[int, int, int, int, int]] = {
    "tiny": (64, 128, 2, 4, 602),
    "0.1B": (768, 2048, 12, 12, 32000),
    "0.5B": (1280, 3456, 22, 20, 32000),
    "1B": (2048, 5504, 20, 16, 32000),
    "3B": (3072, 8192, 26, 24, 32000),
}
Report = dict[str, Any]


def main() -> None:
    options = _options()
    if options.side:
        print(json.dumps(train(options.side, Path(options.folder), options.updates)))
        return
    with tempfile.TemporaryDirectory() as folder:
        peer = small.make_peer(Path(folder) / "peer") if options.peer else None
        for size in options.sizes:
            models = Path(folder) / size
            parameters = make_models(models, SIZES[size])
            print(f"{size}: {parameters / 1e9:.2f} B parameters")
            show("rbrbench", run_side("here", Path(sys.executable), models, options), parameters, options)
            if peer is not None:
                show(small.PEER, run_side("trl", peer, models, options), parameters, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["0.1B", "0.5B", "1B", "3B"])
    parser.add_argument("--updates", type=int, default=4, help="timed updates")
    parser.add_argument("--peer", action="store_true", help="run TRL 1.12 too")
    parser.add_argument("--peak-tflops", type=float, default=989.0, help="the device's dense bfloat16 peak")
    parser.add_argument("--side", choices=["here", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def run_side(side: str, python: Path, models: Path, options: argparse.Namespace) -> Report | str:
    """The report, or the last line of what went wrong (out of memory, most likely)."""
    command = [str(python), __file__, "--side", side, "--folder", str(models)]
    done = subprocess.run(
        [*command, "--updates", str(options.updates)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return done.stderr.strip().splitlines()[-1][:200]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def show(name: str, report: Report | str, parameters: int, options: argparse.Namespace) -> None:
    if isinstance(report, str):
        print(f"  {name:12s} did not run: {report}")
        return
    seconds = BATCH / report["responses_per_second"]
    used = flops_of_update(parameters, report["length"]) / seconds / (options.peak_tflops * 1e12)
    phases = ", ".join(f"{phase} {value:.2f} s" for phase, value in report["phases"].items())
    print(
        f"  {name:12s} {report['responses_per_second']:7.1f} responses/s, "
        f"{report['responses_per_second'] * report['length']:9.0f} tokens/s, MFU {used:.1%}, "
        f"peak {report['peak_gib']:.1f} GiB; an update: {phases}"
    )


def flops_of_update(parameters: int, length: float) -> float:
    """Model FLOPs of one update: sampling, five evaluating passes' worth of models, epochs of two models.

    Evaluated are policy, reference and critic, and the reward model; responses have `length` tokens.
    """
    tokens = BATCH * (PROMPT_TOKENS + length)
    forward = 2.0 * parameters * tokens
    return forward + 4 * forward + EPOCHS * 2 * 3 * forward


def make_models(folder: Path, shape: tuple[int, int, int, int, int]) -> int:
    """policy/ and reward/ (also the critic) in bfloat16; returns the policy's parameters."""
    import torch

    *sizes, vocabulary = shape
    models = small.random_models(vocabulary, None, *sizes, context=512)
    policy, reward = (model.to(torch.bfloat16) for model in models)
    tokenizer = small.make_tokenizer(vocabulary)
    for name, model in (("policy", policy), ("reward", reward)):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    small.write_prompts(folder, small.random_prompts(tokenizer, PROMPT_TOKENS))
    return sum(p.numel() for p in policy.parameters())


def peak_gib() -> float:
    import torch

    return (
        torch.cuda.max_memory_allocated() / 1024**3 if torch.cuda.is_available() else small.peak_mb() / 1024
    )


def train(side: str, folder: Path, updates: int) -> Report:
    """The CPU benchmark's training at this benchmark's sizes."""
    import torch

    setting = small.Setting(
        str(folder),
        "gpu",
        updates,
        torch.get_num_threads(),
        batch=BATCH,
        epochs=EPOCHS,
        new_tokens=NEW_TOKENS,
        precision="bfloat16",
        micro_batch=MICRO_BATCH,
    )
    run = small.train_here if side == "here" else small.train_with_trl
    return run(setting) | {"peak_gib": peak_gib()}


if __name__ == "__main__":
    main()
