"""What a reward's ceiling predicts, and what a training made of it: on the sandbox, at several prices of KL.

    python benchmarks/ceiling.py --out FOLDER [--seeds 0 1] [--betas 0.05 0.2 0.8] [--size demo]
    python benchmarks/ceiling.py --read results/NAME ...

Trains the three methods' rewards, rules with weights fixed at 1 and at 10, and two edited rulebooks, each at each beta
and seed, and holds the predicted F1 of each against the trained one, on training and on evaluation prompts. Pairs are
two rewards at one beta, seed and part. A killed benchmark goes on: finished stages come from FOLDER/results/.store.
`--size smoke` is its smallest, which trains nothing worth a number.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from conf import CONF
from evals.values.jsonl_rows import read_jsonl
from harness.keys.methods import Data, Method

# The helpful reward model alone, on safety prompts too, so that its ceiling is of the same prompts as the others'.
HELPFUL = Method("helpful_safety_ppo", "Helpful-PPO on all prompts", Data.HELPFUL, Data.HELPFUL)

FAR = 0.8  # of the way in J: a training that converged
DEMO_PARTS = ("capability.tasks=[]", "evaluation.graded_samples=0")


@dataclass(frozen=True)
class Variant:
    """One run's settings, beside beta and seed, and the methods that it trains."""

    name: str
    methods: tuple[str, ...]
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Landing:
    """One reward's row: what was predicted and what came of it, F1 as fractions of 1."""

    reward: str
    beta: float
    seed: int
    part: str
    start: float
    predicted: float
    told: bool
    trained: float
    stderr: float
    gone: float


def edited_rulebooks(folder: Path) -> dict[str, Path]:
    """Two edits of the sandbox's rules: a rude refusal may be ideal; two classes change places."""
    text = (CONF / "rulebooks" / "sandbox.yaml").read_text(encoding="utf-8")
    edits = {"rude": _without_bans(text), "swapped": _swapped(text)}
    found = {}
    for name, content in edits.items():
        found[name] = folder / f"{name}.yaml"
        if content == text:
            raise SystemExit(f"the edit {name!r} no longer changes the rulebook")
        found[name].write_text(content, encoding="utf-8")
    return found


def _without_bans(text: str) -> str:
    """As in docs/gate.md: what an ideal refusal may not do is struck out."""
    kept, inside = [], False
    for line in text.splitlines(keepends=True):
        inside = (inside or line.startswith("  correct_refusal:")) and bool(line.strip())
        if not (inside and ": false" in line):
            kept.append(line)
    return "".join(kept)


def _swapped(text: str) -> str:
    """The two middle classes change places in the order."""
    first, second = "minimum_acceptable_style", "unacceptable_completion"
    head, mark, tail = text.partition("class_order:")
    if not mark:
        return text
    return head + mark + tail.replace(first, "\0", 1).replace(second, first, 1).replace("\0", second, 1)


def variants(folder: Path) -> list[Variant]:
    rules = edited_rulebooks(folder)
    rbr = ("rbr_ppo",)
    fixed = [
        Variant(f"fixed {size}", rbr, ("weights.method=fixed", f"weights.fixed={size}")) for size in (1, 10)
    ]
    edited = [Variant(name, rbr, (f"rulebook={path}",)) for name, path in rules.items()]
    return [Variant("default", ("human_ppo", "rbr_ppo", "ceiling:HELPFUL")), *fixed, *edited]


def train_all(given: argparse.Namespace) -> list[Path]:
    """Every variant at every beta and seed; the folders of their results."""
    from rbrbench.cli import main as rbrbench

    sys.path.insert(0, str(Path(__file__).parent))  # `ceiling:HELPFUL`
    out = Path(given.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    folders = []
    for seed in given.seeds:
        for beta in given.betas:
            for variant in variants(out):
                name = f"{variant.name.replace(' ', '-')}-{beta:g}-{seed}"
                asked = [
                    "run",
                    f"experiment={given.size}",
                    f"name={name}",
                    f"results={out / 'results'}",
                    f"threads={given.threads}",
                    f"seed={seed}",
                    f"ppo.kl_coef={beta:g}",
                    f"methods=[{','.join(variant.methods)}]",
                    f"evaluation.ceiling_samples={given.samples}",
                    f"evaluation.ceiling_prompts={given.prompts}",
                    *DEMO_PARTS,
                    *variant.settings,
                ]
                code = rbrbench(asked)
                if code:
                    raise SystemExit(code)
                folders.append(out / "results" / name)
    return folders


def landings(folders: Sequence[Path]) -> Iterator[Landing]:
    """Of the rows of all prompts in each folder's attribution.jsonl."""
    for folder in folders:
        text = (folder / "config.yaml").read_text(encoding="utf-8")
        beta = float(
            next(line.split(":")[1] for line in text.splitlines() if line.strip().startswith("kl_coef:"))
        )
        label = folder.name.rsplit("-", 2)[0]
        for row in read_jsonl(folder / "attribution.jsonl", lambda row: dict(row.values)):
            if row["group"] == "all":
                yield _landing(row, f"{label} {row['method']}", beta)


def _landing(row: Mapping[str, Any], reward: str, beta: float) -> Landing:
    predicted, trained = row["ceiling"]["f1"], row["trained"]["f1"]
    values = (
        row["start"]["f1"]["value"],
        predicted["value"],
        trained["value"],
        trained["stderr"],
        row["gone"],
    )
    start, asked, reached, stderr, gone = (math.nan if v is None else float(v) for v in values)
    told = not predicted.get("problem")
    return Landing(
        reward, beta, int(row["seed"]), str(row["part"]), start, asked, told, reached, stderr, gone
    )


def report(rows: Sequence[Landing]) -> None:
    print("| reward | beta | seed | part | SFT | predicted | trained | gone |")
    print("| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |")
    for row in rows:
        mark = "" if row.told else " ?"
        print(
            f"| {row.reward} | {row.beta:g} | {row.seed} | {row.part} | {100 * row.start:.1f} | "
            f"{100 * row.predicted:.1f}{mark} | {100 * row.trained:.1f} | {100 * row.gone:.0f} % |"
        )
    print("\n| part | rewards | rank correlation | mean absolute error | pairs | sign right | of those beyond their "
          "interval, both 80 % gone |")  # fmt: skip
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for part in dict.fromkeys(row.part for row in rows):
        print(_summary([row for row in rows if row.part == part], part))


def _summary(rows: Sequence[Landing], part: str) -> str:
    known = [row for row in rows if math.isfinite(row.predicted) and math.isfinite(row.trained)]
    predicted, trained = (
        np.array([getattr(row, name) for row in known]) for name in ("predicted", "trained")
    )
    rank = float(scipy.stats.spearmanr(predicted, trained).statistic) if len(known) > 2 else math.nan
    error = 100 * float(np.abs(predicted - trained).mean()) if known else math.nan
    pairs = [
        (a, b)
        for a, b in combinations(known, 2)
        if (a.beta, a.seed) == (b.beta, b.seed) and a.trained != b.trained
    ]
    sure = [(a, b) for a, b in pairs if _is_sure(a, b)]
    return (
        f"| {part} | {len(known)} | {rank:.2f} | {error:.1f} points | {len(pairs)} | {_right(pairs)} | "
        f"{_right(sure)} of {len(sure)} |"
    )


def _is_sure(a: Landing, b: Landing) -> bool:
    """The trained difference lies beyond its 95 % interval, and both trainings converged."""
    beyond = abs(a.trained - b.trained) > 1.96 * math.hypot(a.stderr, b.stderr)
    return beyond and min(a.gone, b.gone) >= FAR


def _right(pairs: Sequence[tuple[Landing, Landing]]) -> str:
    if not pairs:
        return "–"
    right = [(a.predicted - b.predicted) * (a.trained - b.trained) > 0 for a, b in pairs]
    return f"{100 * float(np.mean(right)):.0f} %"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out")
    parser.add_argument("--read", nargs="+", type=Path, help="finished runs with evaluation.ceiling_samples")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--betas", nargs="+", type=float, default=[0.05, 0.2, 0.8])
    parser.add_argument("--size", default="demo", choices=("demo", "smoke"))
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--prompts", type=int, default=150)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    if bool(given.out) == bool(given.read):
        parser.error("give --out or --read")
    report(list(landings(given.read or train_all(given))))


if __name__ == "__main__":
    main()
