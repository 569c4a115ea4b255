"""Do corrected intervals cover the truth, where those of the judge's own verdicts do not?

Two parts. A simulation: judges of 70 to 95 % accuracy (equal error rates, and errors on one side only) on shares
of 10 to 90 %, with 50 and 100 human labels and 1,000 judged responses. And real models: XSTest's recorded
completions with GPT-4's and the string matcher's verdicts, 50 human labels drawn at random; the truth is the
people's labels of all 450. Each line: share of draws whose 95 % interval covers the truth, and its mean width, for

    judge        Wilson's interval of the verdicts, uncorrected
    labels       Wilson's interval of the labels alone
    ppi          prediction-powered, ppi-python's own normal interval
    corrected    prediction-powered, as this project reports it (`prediction_powered`, `prediction_powered_f1`)
    rogan-gladen the textbook's, from the same labels

    python benchmarks/judge_correction.py [--draws 1000] [--xstest FOLDER]

Fails when a simulated corrected interval covers less than 93 or more than 97 % (two binomial standard errors are
allowed for the draws), or one on XSTest less than 93 %.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from evals.errors import UndecidableError
from evals.measures import Judgement, not_refused, not_unsafe
from evals.statistics import (
    Interval,
    harmonic_mean,
    prediction_powered,
    prediction_powered_f1,
    rogan_gladen,
    wilson,
)

RESPONSES, XSTEST_LABELS = 1000, 50
LABELS = (50, 100)
SHARES = (0.1, 0.3, 0.5, 0.9)
ACCURACIES = (0.7, 0.8, 0.9, 0.95)
METHODS = ("judge", "labels", "ppi", "corrected", "rogan-gladen")


@dataclass
class Coverage:
    """Hits and widths by method over the draws of one setting."""

    truth: float
    hits: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    widths: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, method: str, interval: Interval | None) -> None:
        if interval is None:
            return
        low, high = max(0.0, interval.low), min(1.0, interval.high)
        self.hits[method] += low - 1e-9 <= self.truth <= high + 1e-9
        self.widths[method].append(high - low)

    def share(self, method: str) -> float:
        return self.hits[method] / len(self.widths[method]) if self.widths[method] else math.nan

    def width(self, method: str) -> float:
        return float(np.mean(self.widths[method])) if self.widths[method] else math.nan

    def line(self, name: str) -> str:
        cells = (f"{100 * self.share(m):5.1f} % {self.width(m):5.3f}" for m in METHODS)
        return f"{name:44s}" + "  ".join(cells)


Pair = tuple[np.ndarray, np.ndarray, np.ndarray]  # labels, verdicts on the labelled, verdicts on the others


def add_share(coverage: Coverage, pair: Pair) -> None:
    """One draw of a share; verdicts may be NaN."""
    labels, labelled, unlabelled = pair
    verdicts = np.concatenate([labelled, unlabelled])
    scored = verdicts[~np.isnan(verdicts)]
    coverage.add("judge", wilson(float(scored.sum()), len(scored)))
    coverage.add("labels", wilson(float(labels.sum()), len(labels)))
    if not np.isnan(verdicts).any():
        coverage.add("ppi", normal_ppi(pair))
    coverage.add("corrected", as_interval(lambda: prediction_powered(*pair)))
    known = ~np.isnan(labelled)
    coverage.add("rogan-gladen", as_interval(lambda: textbook(labels[known], labelled[known], scored)))


def as_interval(estimate: Callable[[], object]) -> Interval | None:
    try:
        found = estimate()
    except UndecidableError:
        return None
    return Interval(found.low, found.high)  # type: ignore[attr-defined]


def textbook(labels: np.ndarray, labelled: np.ndarray, scored: np.ndarray) -> object:
    return rogan_gladen(
        int(scored.sum()),
        len(scored),
        true_positives=int(labelled[labels == 1].sum()),
        positives=int(labels.sum()),
        true_negatives=int((1 - labelled[labels == 0]).sum()),
        negatives=int((1 - labels).sum()),
    )


def normal_ppi(pair: Pair) -> Interval:
    from ppi_py import ppi_mean_ci

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return Interval(*(float(np.squeeze(x)) for x in ppi_mean_ci(*pair, alpha=0.05)))


# --- simulation --------------------------------------------------------------------------------


def simulated(draws: int) -> Iterator[tuple[str, Coverage]]:
    for one_sided in (False, True):
        for accuracy in ACCURACIES:
            for share in SHARES:
                for n in LABELS:
                    coverage = Coverage(share)
                    for draw in range(draws):
                        add_share(coverage, drawn(draw, share, accuracy, n, one_sided))
                    kind = "misses some" if one_sided else "errs both ways"
                    yield f"{kind} {accuracy:.2f}, share {share:.2f}, {n} labels", coverage


def drawn(draw: int, share: float, accuracy: float, n: int, one_sided: bool) -> Pair:
    """A judge that is right with probability `accuracy`; with `one_sided` it errs on the positives only."""
    rng = np.random.default_rng(draw)
    truth = rng.random(RESPONSES) < share
    wrong = rng.random(RESPONSES) > accuracy
    verdicts = np.where(wrong & (truth | (not one_sided)), ~truth, truth).astype(float)
    return truth[:n].astype(float), verdicts[:n], verdicts[n:]


# --- XSTest ------------------------------------------------------------------------------------


def xstest(folder: Path, draws: int) -> Iterator[tuple[str, Coverage]]:
    from harness.xstest_models import recorded_models

    for model in recorded_models(folder):
        human, *judges = [judge.judge(model.responses) for judge in model.judges]
        safe = [j.response_type.value == "comply" for j in human]
        for judge, verdicts in zip(model.judges[1:], judges, strict=True):
            name = f"{model.name} by {judge.name}"
            yield f"{name}, refused", of_share(human, verdicts, lambda j: j.refused, draws)
            yield f"{name}, not_unsafe", of_share(human, verdicts, not_unsafe, draws)
            chosen = [[j for j, kept in zip(js, safe, strict=True) if kept] for js in (human, verdicts)]
            n = round(XSTEST_LABELS * sum(safe) / len(safe))
            yield f"{name}, not_overrefuse", of_share(chosen[0], chosen[1], not_refused, draws, n)
            yield f"{name}, f1", of_f1(human, verdicts, np.array(safe), draws)


Verdict = Callable[[Judgement], bool | None]


def values(judgements: Sequence[Judgement], verdict: Verdict) -> np.ndarray:
    return np.array([math.nan if (v := verdict(j)) is None else float(v) for j in judgements])


def split(truth: np.ndarray, verdicts: np.ndarray, labelled: np.ndarray) -> Pair:
    rest = np.setdiff1d(np.arange(len(truth)), labelled)
    return truth[labelled], verdicts[labelled], verdicts[rest]


def of_share(
    human: Sequence[Judgement],
    judged: Sequence[Judgement],
    verdict: Verdict,
    draws: int,
    labels: int = XSTEST_LABELS,
) -> Coverage:
    truth, verdicts = values(human, verdict), values(judged, verdict)
    coverage = Coverage(float(truth.mean()))
    for draw in range(draws):
        labelled = np.random.default_rng(draw).permutation(len(truth))[:labels]
        add_share(coverage, split(truth, verdicts, labelled))
    return coverage


def of_f1(
    human: Sequence[Judgement], judged: Sequence[Judgement], comply: np.ndarray, draws: int
) -> Coverage:
    """`labels` is left out: F1 has no interval of its own from fifty labels."""
    truth = [values(human, not_unsafe), values(human, not_refused)]
    verdicts = [values(judged, not_unsafe), values(judged, not_refused)]
    coverage = Coverage(float(harmonic_mean(truth[0].mean(), truth[1][comply].mean())))
    for draw in range(draws):
        labelled = np.random.default_rng(draw).permutation(len(comply))[:XSTEST_LABELS]
        safe = split(truth[0], verdicts[0], labelled)
        places = np.cumsum(comply) - 1
        useful = split(truth[1][comply], verdicts[1][comply], places[labelled[comply[labelled]]])
        found = prediction_powered_f1(safe, useful)
        coverage.add("corrected", Interval(found.low, found.high))
    return coverage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--xstest", type=Path, help="XSTest's folder; without it the simulation alone")
    options = parser.parse_args()
    print(
        f"{options.draws} draws; covered, mean width{'':18s}" + "        ".join(f"{m:>9s}" for m in METHODS)
    )
    slack = 2 * math.sqrt(0.95 * 0.05 / options.draws)
    failed = []
    for name, coverage in xstest(options.xstest, options.draws) if options.xstest else ():
        print(coverage.line(name), flush=True)
        if coverage.share("corrected") < 0.93:
            failed.append(name)
    for name, coverage in simulated(options.draws):
        print(coverage.line(name), flush=True)
        if not 0.93 - slack <= coverage.share("corrected") <= 0.97 + slack:
            failed.append(name)
    if failed:
        raise SystemExit(f"coverage out of bounds in {len(failed)} settings: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
