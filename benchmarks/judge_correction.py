"""Do corrected intervals cover the truth, where those of the judge's own verdicts do not?

Three parts. A simulation of 1,000 judged responses, 50 or 100 of them labelled: judges that are right on 70 to 95 %
of the responses, with errors both ways, or on one side only (refusals missed, or false alarms), on shares of 10,
30 and 50 %. A share of 70 % is one of 30 % with yes and no changed over. Then F1, where half of the prompts are to
be refused. Labels that are no random draw, of responses of which half are to be refused: three of four labels are of
those (38 and 12 of 50); or labels three times likelier for positives, first by what they alone tell, then with the
column of each response's probability. And real models: XSTest's recorded completions with GPT-4's and the string
matcher's verdicts, 50 human labels drawn at random; the truth is the people's labels of all 450. One line a setting:
share of draws whose 95 % interval covers the truth, and its mean width, of

    judge        the verdicts taken for the truth (Wilson's interval; of F1 the posterior)
    labels       the labels alone (likewise)
    ppi          prediction-powered, ppi-python's own normal interval; none where verdicts are unscored, nor of F1
    corrected    as this project reports it: prediction-powered (`prediction_powered`, `prediction_powered_f1`), of
                 labels that are no random draw by response type, verdict and weight (`corrected_share`)
    rogan-gladen the textbook's, from the same labels; none of F1

    python benchmarks/judge_correction.py [--draws 1000] [--seed 0] [--xstest FOLDER] [--only TEXT]

Fails when a simulated corrected interval covers in less than 93 or more than 97 % of the draws, one on XSTest in less
than 93 %, or one of labels that are no random draw in less than 91 % (those three times likelier for positives have no
target without the column, and are shown: nothing tells how they were drawn). Fewer than 1,000 draws are a trial: two
binomial standard errors are allowed for their noise.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, product
from pathlib import Path

import numpy as np
from scipy import stats

from evals.judges.judgement import Judgement
from evals.judges.measures import not_refused, not_unsafe
from evals.statistics import (
    Estimate,
    Interval,
    LabelledFew,
    corrected_share,
    harmonic_mean,
    prediction_powered,
    prediction_powered_f1,
    wilson,
)
from evals.values.errors import UndecidableError

RESPONSES, XSTEST_LABELS = 1000, 50
LABELS = (50, 100)
SHARES = (0.1, 0.3, 0.5)
F1_SHARES = (0.9, 0.7)  # of unsafe prompts refused, of safe prompts answered
ACCURACIES = (0.7, 0.8, 0.9, 0.95)
BOTH, MISSES, ALARMS = "both ways", "misses", "false alarms"
METHODS = ("judge", "labels", "ppi", "corrected", "rogan-gladen")
LEAST, MOST = 0.93, 0.97
LEAST_UNEQUAL = 0.91


@dataclass
class Coverage:
    """Hits and widths by method over the draws of one setting."""

    truth: float
    hits: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    widths: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, method: str, interval: Interval | Estimate | None) -> None:
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
        cells = (f"{100 * self.share(m):.1f} ({100 * self.width(m):.1f})" for m in METHODS)
        return f"| {name} | " + " | ".join(cell if "nan" not in cell else "–" for cell in cells) + " |"


Setting = tuple[str, Callable[[], Coverage]]
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
    coverage.add("corrected", decided(lambda: prediction_powered(*pair)))
    known = ~np.isnan(labelled)
    coverage.add("rogan-gladen", decided(lambda: textbook(labels[known], labelled[known], scored)))


def add_f1(coverage: Coverage, safe: Pair, useful: Pair) -> None:
    """One draw of F1 from the pairs of its two shares."""
    coverage.add("judge", prediction_powered_f1(by_verdicts(safe), by_verdicts(useful)))
    coverage.add("labels", prediction_powered_f1(by_labels(safe), by_labels(useful)))
    coverage.add("corrected", prediction_powered_f1(safe, useful))


def by_verdicts(pair: Pair) -> Pair:
    """The verdicts in the place of labels, and a judge beside them that says nothing."""
    verdicts = np.concatenate(pair[1:])
    verdicts = verdicts[~np.isnan(verdicts)]
    return verdicts, np.ones(len(verdicts)), np.ones(1)


def by_labels(pair: Pair) -> Pair:
    """The labels beside a judge that says nothing."""
    return pair[0], np.ones(len(pair[0])), np.ones(1)


def decided(estimate: Callable[[], Estimate]) -> Estimate | None:
    try:
        return estimate()
    except UndecidableError:
        return None


def share_of(value: float) -> float:
    return float(np.clip(value, 0.0, 1.0))


def rogan_gladen(
    flagged: int,
    n: int,
    *,
    true_positives: int,
    positives: int,
    true_negatives: int,
    negatives: int,
    level: float = 0.95,
) -> Estimate:
    """True share behind a judge's `flagged` of `n`, given the judge's record on human-labelled responses.

    Estimate of Rogan and Gladen (Am. J. Epidemiol. 107, 1978), interval of Lang and Reiczigel (Prev. Vet.
    Med. 113, 2014), which counts that sensitivity and specificity are themselves estimated. Clipped to
    [0, 1]. Raises UndecidableError when the judge is no better than chance.
    """
    if min(n, positives, negatives) == 0:
        raise UndecidableError("a judge's correction needs judged responses and human labels of both kinds")
    youden = true_positives / positives + true_negatives / negatives - 1
    if youden <= 0:
        raise UndecidableError("the judge is no better than chance on the human labels")
    value = (flagged / n + true_negatives / negatives - 1) / youden
    z = float(stats.norm.ppf((1 + level) / 2))
    apparent, size = (flagged + z**2 / 2) / (n + z**2), n + z**2
    sensitivity, specificity = (true_positives + 1) / (positives + 2), (true_negatives + 1) / (negatives + 2)
    youden = sensitivity + specificity - 1
    centre = (apparent + specificity - 1) / youden
    of_sensitivity = sensitivity * (1 - sensitivity) / (positives + 2)
    of_specificity = specificity * (1 - specificity) / (negatives + 2)
    variance = apparent * (1 - apparent) / size
    variance += centre**2 * of_sensitivity + (1 - centre) ** 2 * of_specificity
    stderr = math.sqrt(variance) / youden
    shift = 2 * z**2 * (centre * of_sensitivity - (1 - centre) * of_specificity)
    low, high = share_of(centre + shift - z * stderr), share_of(centre + shift + z * stderr)
    return Estimate(share_of(value), stderr, low, high, n)


def textbook(labels: np.ndarray, labelled: np.ndarray, scored: np.ndarray) -> Estimate:
    return rogan_gladen(
        int(scored.sum()),
        len(scored),
        true_positives=int(labelled[labels == 1].sum()),
        positives=int(labels.sum()),
        true_negatives=int((1 - labelled[labels == 0]).sum()),
        negatives=int((1 - labels).sum()),
    )


def normal_ppi(pair: Pair) -> Interval:
    with warnings.catch_warnings():
        from ppi_py import ppi_mean_ci

        warnings.simplefilter("ignore", RuntimeWarning)
        return Interval(*(float(np.squeeze(x)) for x in ppi_mean_ci(*pair, alpha=0.05)))


# --- simulation --------------------------------------------------------------------------------


def error_rates(kind: str, accuracy: float, share: float) -> tuple[float, float]:
    """(of the positives missed, of the negatives called positive) by a judge that is right on `accuracy`."""
    wrong = 1 - accuracy
    return {BOTH: (wrong, wrong), MISSES: (wrong / share, 0.0), ALARMS: (0.0, wrong / (1 - share))}[kind]


def judged(truth: np.ndarray, rates: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    wrong = rng.random(len(truth)) < np.where(truth, *rates)
    return np.where(wrong, ~truth, truth).astype(float)


def shares(draws: int, seed: int) -> Iterator[Setting]:
    """Judges that always say the same are left out, and what another setting mirrors."""
    for kind, accuracy, share, labels in product((BOTH, MISSES, ALARMS), ACCURACIES, SHARES, LABELS):
        rates = error_rates(kind, accuracy, share)
        if max(rates) < 1 - 1e-9 and not (kind == ALARMS and share == 0.5):
            name = f"{kind}, right {accuracy:.2f}, share {share:.1f}, {labels} labels"
            yield name, partial(share_setting, share, rates, labels, draws, seed)


def share_setting(share: float, rates: tuple[float, float], labels: int, draws: int, seed: int) -> Coverage:
    coverage = Coverage(share)
    for draw in range(draws):
        rng = np.random.default_rng((seed, draw))
        truth = rng.random(RESPONSES) < share
        verdicts = judged(truth, rates, rng)
        add_share(coverage, (truth[:labels].astype(float), verdicts[:labels], verdicts[labels:]))
    return coverage


def f1s(draws: int, seed: int) -> Iterator[Setting]:
    refuses, answers = F1_SHARES
    for kind, accuracy, labels in product((BOTH, MISSES, ALARMS), ACCURACIES, LABELS):
        rates = error_rates(kind, accuracy, (refuses + 1 - answers) / 2)
        yield (
            f"F1, {kind}, right {accuracy:.2f}, {labels} labels",
            partial(f1_setting, rates, labels, draws, seed),
        )


def f1_setting(rates: tuple[float, float], labels: int, draws: int, seed: int) -> Coverage:
    """A judge of refusals; only prompts to be refused can be unsafely answered."""
    refuses, answers = F1_SHARES
    coverage = Coverage(float(harmonic_mean((1 + refuses) / 2, answers)))
    for draw in range(draws):
        rng = np.random.default_rng((seed, draw))
        comply = rng.permutation(RESPONSES) < RESPONSES // 2
        truth = rng.random(RESPONSES) < np.where(comply, 1 - answers, refuses)
        verdicts = judged(truth, rates, rng)
        safe = [np.maximum(comply, said) for said in (truth, verdicts)]
        useful = [(1.0 - said)[comply] for said in (truth, verdicts)]
        drawn = np.flatnonzero(np.flatnonzero(comply) < labels)
        add_f1(coverage, split(*safe, np.arange(labels)), split(*useful, drawn))
    return coverage


# --- labels that are no random draw --------------------------------------------------------------


STRATIFIED, UNTOLD, TOLD = (
    "by type, 3 to 1",
    "likelier for positives, no column",
    "likelier for positives, column",
)
LIKELIER = 3.0
POSITIVES = 0.4  # of the responses to prompts to be refused; the others have none


def unequal_draws(draws: int, seed: int) -> Iterator[Setting]:
    for how, accuracy, labels in product((STRATIFIED, UNTOLD, TOLD), ACCURACIES, LABELS):
        name = f"{how}, right {accuracy:.2f}, {labels} labels"
        yield name, partial(unequal_setting, how, accuracy, labels, draws, seed)


def unequal_setting(how: str, accuracy: float, labels: int, draws: int, seed: int) -> Coverage:
    coverage = Coverage(POSITIVES / 2)
    refuse = np.arange(RESPONSES) < RESPONSES // 2
    for draw in range(draws):
        rng = np.random.default_rng((seed, draw))
        truth = refuse & (rng.random(RESPONSES) < POSITIVES)
        verdicts = judged(truth, (1 - accuracy, 1 - accuracy), rng)
        chance = np.where(truth, LIKELIER, 1.0) * labels / (RESPONSES * (1 + (LIKELIER - 1) * POSITIVES / 2))
        labelled = rng.random(RESPONSES) < chance
        if how == STRATIFIED:
            labelled = np.zeros(RESPONSES, dtype=bool)
            labelled[rng.permutation(RESPONSES // 2)[: round(0.76 * labels)]] = True
            labelled[RESPONSES // 2 + rng.permutation(RESPONSES // 2)[: round(0.24 * labels)]] = True
        weights = 1 / chance if how == TOLD else np.ones(RESPONSES)
        told = np.where(labelled, truth, math.nan)
        few = LabelledFew(refuse.astype(float), verdicts, told, weights)
        coverage.add("judge", wilson(float(verdicts.sum()), RESPONSES))
        coverage.add("labels", wilson(float(truth[labelled].sum()), int(labelled.sum())))
        coverage.add("ppi", normal_ppi(few.paired))
        coverage.add("corrected", decided(partial(corrected_share, few)))
    return coverage


# --- XSTest ------------------------------------------------------------------------------------


def xstest(folder: Path, draws: int, seed: int) -> Iterator[Setting]:
    from harness.evaluate.labelled_models import recorded_models

    for model in recorded_models(folder):
        responses = [label.response for label in model.labels]
        human, *judgements = [judge.judge(responses) for judge in model.judges.values()]
        comply = np.array([j.response_type.value == "comply" for j in human])
        everything = np.ones(len(comply), dtype=bool)
        for judge, said in zip(list(model.judges)[1:], judgements, strict=True):
            name = f"XSTest, {model.name} by {judge}"
            for label, verdict, kept in (
                ("refused", refused, everything),
                ("Not-Unsafe", not_unsafe, everything),
                ("Not-Overrefuse", not_refused, comply),
            ):
                truth, verdicts = values(human, verdict)[kept], values(said, verdict)[kept]
                yield f"{name}, {label}", partial(xstest_share, truth, verdicts, kept, draws, seed)
            yield f"{name}, F1", partial(xstest_f1, human, said, comply, draws, seed)


def refused(judgement: Judgement) -> bool | None:
    return judgement.refused


def samples(kept: np.ndarray, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Places, among the kept, of the responses that are labelled: XSTEST_LABELS of all, drawn at random."""
    places = np.cumsum(kept) - 1
    for draw in range(draws):
        drawn = np.random.default_rng((seed, draw)).permutation(len(kept))[:XSTEST_LABELS]
        yield places[drawn[kept[drawn]]]


def xstest_share(
    truth: np.ndarray, verdicts: np.ndarray, kept: np.ndarray, draws: int, seed: int
) -> Coverage:
    coverage = Coverage(float(truth.mean()))
    for labelled in samples(kept, draws, seed):
        add_share(coverage, split(truth, verdicts, labelled))
    return coverage


def xstest_f1(
    human: Sequence[Judgement], said: Sequence[Judgement], comply: np.ndarray, draws: int, seed: int
) -> Coverage:
    safe = [values(judgements, not_unsafe) for judgements in (human, said)]
    useful = [values(judgements, not_refused)[comply] for judgements in (human, said)]
    coverage = Coverage(float(harmonic_mean(safe[0].mean(), useful[0].mean())))
    drawn = zip(
        samples(np.ones(len(comply), dtype=bool), draws, seed), samples(comply, draws, seed), strict=True
    )
    for labelled, labelled_comply in drawn:
        add_f1(coverage, split(*safe, labelled), split(*useful, labelled_comply))
    return coverage


def values(judgements: Sequence[Judgement], verdict: Callable[[Judgement], bool | None]) -> np.ndarray:
    return np.array([math.nan if (v := verdict(j)) is None else float(v) for j in judgements])


def split(truth: np.ndarray, verdicts: np.ndarray, labelled: np.ndarray) -> Pair:
    rest = np.setdiff1d(np.arange(len(truth)), labelled)
    return truth[labelled], verdicts[labelled], verdicts[rest]


def targets(name: str) -> tuple[float, float]:
    """The least and the greatest coverage of a setting."""
    if name.startswith(UNTOLD):
        return 0.0, 1.0
    if name.startswith((STRATIFIED, TOLD)):
        return LEAST_UNEQUAL, 1.0
    return LEAST, 1.0 if name.startswith("XSTest") else MOST


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--xstest", type=Path, help="XSTest's folder; without it the simulation alone")
    parser.add_argument("--only", default="", help="settings whose name holds this: F1, misses, XSTest")
    options = parser.parse_args()
    settings = chain(
        xstest(options.xstest, options.draws, options.seed) if options.xstest else (),
        shares(options.draws, options.seed),
        f1s(options.draws, options.seed),
        unequal_draws(options.draws, options.seed),
    )
    print(f"{options.draws} draws, seed {options.seed}: covered, percent (mean width, points)\n")
    print(f"| setting | {' | '.join(METHODS)} |\n{'| --- ' * (1 + len(METHODS))}|")
    slack = 2 * math.sqrt(0.95 * 0.05 / options.draws) if options.draws < 1000 else 0.0
    outside = []
    for name, measure in settings:
        if options.only in name:
            coverage = measure()
            print(coverage.line(name), flush=True)
            found = coverage.share("corrected")
            least, most = targets(name)
            if not least - slack <= found <= most + slack:
                outside.append(f"{name}: {100 * found:.1f} %")
    if outside:
        raise SystemExit(f"\ncoverage out of bounds in {len(outside)} settings: {'; '.join(outside)}")


if __name__ == "__main__":
    main()
