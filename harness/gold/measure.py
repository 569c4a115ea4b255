"""Grade the labelled responses, with and without attacks, and work out what the report shows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evals.graders.calibration import MEAN, METRICS, calibrate, gold_labels, prompt_folds, tune_thresholds
from evals.graders.hostile import ATTACKS, Movement, movements
from evals.graders.level_agreement import level_agreement
from evals.statistics import Estimate, bootstrap
from evals.statistics.resampling import cluster_shares, resample_counts
from evals.values.conversation import LabelledResponse
from evals.values.grades import Grades
from harness.gold.graders import JudgedGrader
from harness.gold.grading import grade_or_stop
from harness.gold.labels import GoldSplits, LabelCount
from harness.gold.pace import GradingPace, pace_of
from harness.keys.gold import RECORDED, GoldConfig
from harness.runtime.console import Advance

ENOUGH = "(mean where enough labels)"  # over the propositions that have enough labels to judge by
VERDICT_METRICS = ("accuracy", "balanced_accuracy", "tpr", "tnr")  # those that a threshold changes
Row = dict[str, object]


@dataclass(frozen=True)
class ReliabilityPoint:
    """One bin of grades: their mean, and the share of true labels with its 95 % interval over prompts."""

    mean_grade: float
    share_true: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class GoldResult:
    """What one grader reached.

    `fixed` and `tuned` hold a row a proposition, MEAN and ENOUGH: at 0.5, and at thresholds that were not
    tuned on the rows judged (empty without training labels). `thresholds` are for use: tuned on all of
    gold.train. `levels` hold a row of LEVEL_COLUMNS a proposition that has any.
    """

    name: str
    kind: str
    grades: Grades
    fixed: list[Row]
    tuned: list[Row]
    thresholds: dict[str, float]
    curve: list[ReliabilityPoint]
    movements: list[Movement]
    against_first: Estimate | None = None
    levels: Sequence[Row] = ()
    pace: GradingPace | None = None

    def mean(self, tuned: bool = False, row: str = MEAN) -> Row:
        return next(r for r in (self.tuned if tuned else self.fixed) if r["proposition"] == row)


def grading_steps(judged: JudgedGrader, config: GoldConfig, splits: GoldSplits) -> int:
    """Responses that a grader is asked about."""
    train = 0 if splits.cross or judged.train_grades is not None else len(splits.train)
    return len(splits.judged) + train + attacked_responses(judged.kind, config, splits) * len(ATTACKS)


def attacked_responses(kind: str, config: GoldConfig, splits: GoldSplits) -> int:
    """How many responses are made hostile; none for a file of grades, which cannot be asked about new texts."""
    return 0 if kind == RECORDED else min(config.hostile.responses, len(splits.judged))


def judge_grader(
    judged: JudgedGrader,
    config: GoldConfig,
    splits: GoldSplits,
    counts: Sequence[LabelCount],
    advance: Advance,
) -> GoldResult:
    """Raises UndecidableError as soon as more than `max_unscored` of the grades are unscored."""

    def graded(labelled: Sequence[LabelledResponse]) -> Grades:
        responses = [item.response for item in labelled]
        asked = judged.grader, judged.name, responses, splits.propositions
        return grade_or_stop(*asked, config, advance)

    grades = graded(splits.judged)
    train = grades if splits.cross else judged.train_grades or graded(splits.train)
    kept = {count.proposition for count in counts if count.too_few_to_learn(config.few)}
    thresholds = _tune(train, splits.train, config, kept, splits.cuts)
    verdicts = _verdicts(grades, splits, config, thresholds, kept) if splits.train else None
    enough = [c.proposition for c in counts if not c.too_few_to_judge(config.few)]
    fixed = _rows(judged.name, grades, splits, config, enough, splits.cuts)
    tuned = _tuned_rows(judged.name, verdicts, splits, config, enough, fixed, thresholds) if verdicts else []
    return GoldResult(
        name=judged.name,
        kind=judged.kind,
        grades=grades,
        fixed=fixed,
        tuned=tuned,
        thresholds=thresholds,
        curve=reliability_curve(grades, splits.judged, config),
        movements=attack(judged, config, splits, grades, advance),
        levels=level_agreement(
            judged.name, grades, splits.judged, splits.propositions, config.draws, config.seed
        ),
        pace=pace_of(judged.grader, len(splits.propositions), judged.server),
    )


def attack(
    judged: JudgedGrader, config: GoldConfig, splits: GoldSplits, grades: Grades, advance: Advance
) -> list[Movement]:
    """How far each attack moves the grades of a sample of the judged responses."""
    size = attacked_responses(judged.kind, config, splits)
    if size == 0:
        return []
    rows = sorted(np.random.default_rng(config.seed).permutation(len(splits.judged))[:size].tolist())
    responses = [splits.judged[i].response for i in rows]
    attacked = []
    for item in ATTACKS:
        attacked.append(judged.grader.grade([item.on(r) for r in responses], splits.propositions))
        advance(size)
    return movements(grades.rows(rows), attacked, [r.prompt.id for r in responses], config.seed, splits.cuts)


def compare_with_first(
    results: Sequence[GoldResult], splits: GoldSplits, config: GoldConfig
) -> list[GoldResult]:
    """Each further grader's mean accuracy minus the first one's, on pairs that both scored, with interval."""
    first = results[0]
    rest = [
        replace(result, against_first=_accuracy_difference(result.grades, first.grades, splits, config))
        for result in results[1:]
    ]
    return [first, *rest]


def reliability_curve(
    grades: Grades, labelled: Sequence[LabelledResponse], config: GoldConfig, bins: int = 10
) -> list[ReliabilityPoint]:
    """Equal bins of the grade, none empty, over all propositions; intervals by bootstrap over prompts."""
    truth = gold_labels(labelled, grades.propositions)
    known = ~np.isnan(truth) & ~np.isnan(grades.probability)
    place = np.where(known, np.minimum(np.nan_to_num(grades.probability) * bins, bins - 1).astype(int), -1)
    prompt = _clusters(labelled)
    draws = resample_counts(
        [0] * (prompt.max(initial=-1) + 1), config.draws, np.random.default_rng(config.seed)
    )
    points = []
    for number in range(bins):
        inside = place == number
        if not inside.any():
            continue
        hits = _by_cluster(np.where(inside, truth, 0.0), prompt)
        shares = cluster_shares(draws, hits.sum(1), _by_cluster(inside, prompt).sum(1))
        low, high = np.nanquantile(shares, [0.025, 0.975])
        mean = float(grades.probability[inside].mean())
        points.append(
            ReliabilityPoint(mean, float(truth[inside].mean()), float(low), float(high), int(inside.sum()))
        )
    return points


def _tune(
    grades: Grades,
    labelled: Sequence[LabelledResponse],
    config: GoldConfig,
    kept: Collection[str],
    cuts: Mapping[str, float],
) -> dict[str, float]:
    """Thresholds with the best metric; the cut stays for the propositions `kept`, which have too few labels."""
    if not labelled:
        return {}
    tuned = tune_thresholds(grades, labelled, config.metric.value, cuts)
    return {name: cuts[name] if name in kept else threshold for name, threshold in tuned.items()}


def cross_thresholds(
    grades: Grades, splits: GoldSplits, config: GoldConfig, kept: Collection[str]
) -> np.ndarray:
    """Thresholds [responses, propositions]: each fold's are tuned on the other folds' labels."""
    fold = prompt_folds([item.response.prompt.id for item in splits.judged], config.folds, config.seed)
    levels = np.empty(grades.probability.shape)
    for number in range(config.folds):
        others = np.flatnonzero(fold != number).tolist()
        tuned = _tune(grades.rows(others), [splits.judged[i] for i in others], config, kept, splits.cuts)
        levels[fold == number] = [tuned[name] for name in grades.propositions]
    return levels


def _verdicts(
    grades: Grades,
    splits: GoldSplits,
    config: GoldConfig,
    thresholds: Mapping[str, float],
    kept: Collection[str],
) -> Grades:
    """Grades as 1 or 0 by thresholds that were tuned on other prompts."""
    if splits.cross:
        levels = cross_thresholds(grades, splits, config, kept)
    else:
        levels = np.tile([thresholds[name] for name in grades.propositions], (len(grades), 1))
    found = np.where(np.isnan(grades.probability), np.nan, grades.probability >= levels)
    return Grades(grades.propositions, found, grades.reasons)


def _rows(
    name: str,
    grades: Grades,
    splits: GoldSplits,
    config: GoldConfig,
    enough: Sequence[str],
    cuts: Mapping[str, float] | None = None,
) -> list[Row]:
    """At `cuts`, 0.5 where none are given."""
    labelled = splits.judged
    rows = calibrate(name, grades, labelled, cuts, draws=config.draws, seed=config.seed)
    columns = [grades.propositions.index(proposition) for proposition in enough]
    some = Grades(
        tuple(enough),
        grades.probability[:, columns],
        {(i, columns.index(j)): why for (i, j), why in grades.reasons.items() if j in columns},
    )
    mean = calibrate(name, some, labelled, cuts, draws=config.draws, seed=config.seed)[-1]
    return [*rows, mean | {"proposition": ENOUGH}]


def _tuned_rows(
    name: str,
    verdicts: Grades,
    splits: GoldSplits,
    config: GoldConfig,
    enough: Sequence[str],
    fixed: Sequence[Row],
    thresholds: Mapping[str, float],
) -> list[Row]:
    """Rows of the verdicts; what no threshold changes (AUROC, Brier score) is that of the grades."""
    same = [f"{m}{end}" for m in METRICS if m not in VERDICT_METRICS for end in ("", "_ci_low", "_ci_high")]
    rows = _rows(name, verdicts, splits, config, enough)
    return [
        row
        | {key: of_grades[key] for key in same}
        | {"threshold": thresholds.get(str(row["proposition"]), np.nan)}
        for row, of_grades in zip(rows, fixed, strict=True)
    ]


def _accuracy_difference(grades: Grades, first: Grades, splits: GoldSplits, config: GoldConfig) -> Estimate:
    truth, prompt = gold_labels(splits.judged, grades.propositions), _clusters(splits.judged)
    known = ~np.isnan(truth) & ~np.isnan(grades.probability) & ~np.isnan(first.probability)
    cuts = np.array([splits.cuts[name] for name in grades.propositions])
    right = [
        _by_cluster(known & ((side.probability >= cuts) == (truth > 0.5)), prompt) for side in (grades, first)
    ]
    scored = _by_cluster(known, prompt)

    def difference(draws: np.ndarray) -> np.ndarray:
        gaps = cluster_shares(draws, right[0], scored) - cluster_shares(draws, right[1], scored)
        defined = ~np.isnan(gaps)
        return np.where(defined, gaps, 0.0).sum(1) / np.maximum(defined.sum(1), 1)

    return bootstrap(difference, [0] * len(scored), draws=config.draws, seed=config.seed)


def _clusters(labelled: Sequence[LabelledResponse]) -> np.ndarray:
    """The number of each response's prompt [responses]."""
    return np.unique([item.response.prompt.id for item in labelled], return_inverse=True)[1]


def _by_cluster(values: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    """Sums over each prompt's responses [prompts, columns]."""
    sums = np.zeros((prompt.max(initial=-1) + 1, values.shape[1]))
    np.add.at(sums, prompt, values)
    return sums
