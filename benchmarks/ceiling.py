"""What a reward's ceiling predicts, and what a training made of it: on the sandbox, at several prices of KL.

    python benchmarks/ceiling.py [KEY=VALUE ...] --out FOLDER [--seeds 0 1] [--betas 0.2 0.05 0.8] [--minutes 55]
    python benchmarks/ceiling.py --read results/NAME ...

Trains seven rewards, those of the three methods, rules with weights fixed at 1 and at 10, and two edited rulebooks
(`ceiling_rewards.py`), each at each beta and seed, and holds the predicted F1 of each against the trained one, on
training and on evaluation prompts. Pairs are two rewards at one beta, seed and part. FOLDER/report.md has what is
known so far after every training. A killed benchmark goes on: finished stages come from FOLDER/results/.store, a
training from its last saved state. `--minutes` begins no training later than that; KEY=VALUE change all of them.
`--size smoke` is its smallest, which trains nothing worth a number.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from evals.values.errors import InputError
from evals.values.jsonl_rows import read_jsonl
from harness.ceiling.rewards import run_settings
from harness.record.finished_run import RunAddress
from harness.record.run import ATTRIBUTION

FAR = 0.8  # of the way in J: a training that converged
BEYOND, SURE = "of those beyond their interval", "and both 80 % gone"
# What nobody here looks at is not made: capability, a good automated judge, looks on the way, earlier checkpoints.
SPARED = (
    "capability.tasks=[]",
    "evaluation.graded_samples=0",
    "judge_width=0",
    "ppo.checkpoints=1",
    "ppo.monitor_every=0",
)
FEW_LABELS = "sandbox.judge_labels=600"  # of the demo's 9,000


@dataclass(frozen=True)
class Variant:
    """One reward: the method that climbs it, and settings of its run beside beta and seed."""

    name: str
    method: str
    settings: tuple[str, ...] = ()


VARIANTS = (
    Variant("rbr", "rbr_ppo"),  # first: edited rules are fitted to its completions
    Variant("human", "human_ppo"),
    Variant("helpful", "ceiling_rewards:HELPFUL"),
    Variant("lax", "ceiling_rewards:LAX"),
    Variant("fixed10", "rbr_ppo", ("weights.method=fixed", "weights.fixed=10")),
    Variant("swapped", "ceiling_rewards:SWAPPED"),
    Variant("fixed1", "rbr_ppo", ("weights.method=fixed", "weights.fixed=1")),
)


@dataclass(frozen=True)
class Landing:
    """One reward's row: what was predicted and what came of it, F1 as fractions of 1."""

    reward: str
    beta: float
    seed: int
    part: str
    start: float
    predicted: float
    trained: float
    stderr: float
    gone: float
    told: bool
    gone_told: bool


def train_all(given: argparse.Namespace) -> list[Path]:
    """Every reward at every beta and seed, while there is time; the folders of their results."""
    sys.path.insert(0, str(Path(__file__).parent))  # `ceiling_rewards:HELPFUL`
    from ceiling_rewards import FOLDER, fit_edits

    out, begun = Path(given.out).resolve(), time.monotonic()
    os.environ[FOLDER] = str(out / "edits")
    folders: list[Path] = []
    for seed in given.seeds:
        for beta in given.betas:
            for variant in VARIANTS:
                if given.minutes and time.monotonic() - begun > 60 * given.minutes:
                    return folders
                folders.append(train(variant, beta, seed, given, out / "results"))
                if variant is VARIANTS[0]:
                    fit_edits(folders[-1], seed, out / "edits")
                (out / "report.md").write_text(report(list(landings(folders))), encoding="utf-8")
    return folders


def train(variant: Variant, beta: float, seed: int, given: argparse.Namespace, results: Path) -> Path:
    """One training with its prediction; the folder of its results."""
    from rbrbench.cli import main as rbrbench

    name = f"{variant.name}-{beta:g}-{seed}"
    asked = [
        "run",
        f"experiment={given.size}",
        f"name={name}",
        f"results={results}",
        f"threads={given.threads}",
        f"seed={seed}",
        f"ppo.kl_coef={beta:g}",
        f"methods=[{variant.method}]",
        f"evaluation.ceiling_samples={given.samples}",
        f"evaluation.ceiling_prompts={given.prompts}",
        *SPARED,
        *([FEW_LABELS] if given.size == "demo" else []),
        *([f"ppo.updates={given.updates}"] if given.updates else []),
        *variant.settings,
        *given.keys,
    ]
    results.mkdir(parents=True, exist_ok=True)
    if code := rbrbench(asked):
        raise SystemExit(code)
    return results / name


def landings(folders: Sequence[Path]) -> Iterator[Landing]:
    """Of the rows of all prompts in each folder's attribution.jsonl. Raises InputError where there is none."""
    for folder in folders:
        if not (folder / ATTRIBUTION).is_file():
            fix = "run it with evaluation.ceiling_samples=16"
            raise InputError(f"holds no {ATTRIBUTION}", path=folder, fix=fix)
        beta, label = float(run_settings(RunAddress(folder))["kl_coef"]), folder.name.rsplit("-", 2)[0]
        for row in read_jsonl(folder / ATTRIBUTION, lambda row: dict(row.values)):
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
    told = not predicted.get("problem"), not row.get("problem")
    return Landing(
        reward, beta, int(row["seed"]), str(row["part"]), start, asked, reached, stderr, gone, *told
    )


def report(rows: Sequence[Landing]) -> str:
    lines = ["| reward | beta | seed | part | SFT | predicted | trained | gone |"]
    lines.append("| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |")
    for row in rows:
        mark, gone_mark = ("" if told else " ?" for told in (row.told, row.gone_told))
        lines.append(
            f"| {row.reward} | {row.beta:g} | {row.seed} | {row.part} | {100 * row.start:.1f} | "
            f"{100 * row.predicted:.1f}{mark} | {100 * row.trained:.1f} | {100 * row.gone:.0f} %{gone_mark} |"
        )
    lines += [
        "",
        f"| part | rewards | rank correlation | mean absolute error | pairs | sign right | {BEYOND} | {SURE} |",
    ]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    parts = dict.fromkeys(row.part for row in rows)
    lines += [_summary([row for row in rows if row.part == part], part) for part in parts]
    return "\n".join(lines) + "\n"


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
    beyond = [(a, b) for a, b in pairs if _is_beyond(a, b)]
    sure = [(a, b) for a, b in beyond if _has_converged(a) and _has_converged(b)]
    return (
        f"| {part} | {len(known)} | {rank:.2f} | {error:.1f} points | {len(pairs)} | {_right(pairs)} | "
        f"{_right(beyond)} of {len(beyond)} | {_right(sure)} of {len(sure)} |"
    )


def _is_beyond(a: Landing, b: Landing) -> bool:
    """The trained difference lies beyond its 95 % interval: of two unpaired F1s, wider than a paired one."""
    return abs(a.trained - b.trained) > 1.96 * math.hypot(a.stderr, b.stderr)


def _has_converged(a: Landing) -> bool:
    return a.gone_told and a.gone >= FAR


def _right(pairs: Sequence[tuple[Landing, Landing]]) -> str:
    if not pairs:
        return "–"
    right = [(a.predicted - b.predicted) * (a.trained - b.trained) > 0 for a, b in pairs]
    return f"{100 * float(np.mean(right)):.0f} %"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("keys", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--out")
    parser.add_argument("--read", nargs="+", type=Path, help="finished runs with evaluation.ceiling_samples")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--betas", nargs="+", type=float, default=[0.2, 0.05, 0.8])
    parser.add_argument("--minutes", type=float, default=0, help="begin no training later than this; 0: all")
    parser.add_argument("--updates", type=int, default=0, help="of each training; 0: the size's own")
    parser.add_argument("--size", default="demo", choices=("demo", "smoke"))
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    if bool(given.out) == bool(given.read):
        parser.error("give --out or --read")
    try:
        print(report(list(landings(given.read or train_all(given)))), end="")
    except InputError as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
