"""The report's honest part: what limits its numbers, found in the data itself. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

import scipy

from evals.values.clusters import PLURAL, PROMPT
from harness.findings.capability import capability_metrics
from harness.findings.frontier import BALANCE, SAFETY, USEFULNESS
from harness.findings.nonsense import unfinished_notes
from harness.findings.wording import judge_label, method_label, metric_label, percent, plain
from harness.record.evaluation import clusters_counted
from harness.record.run import ResultsFolder, number
from harness.report.shared_errors import worst_shared
from harness.report.tables import finite_mean
from trainers.rl.alarm import LIMIT, ROLLBACKS, TEXTS
from trainers.rl.renewal_config import GRADER_ACCURACY, GRADER_BY_ALARM, GRADER_LABELS

CEILING = 0.98
WEAK = 0.75  # balanced accuracy of a grader on a proposition
FAR = 0.05  # difference between two judges
TOGETHER = 0.01  # of responses that grader and judge get wrong together, beyond chance
SEED_SPREAD = "3.4 to 5.8"  # of F1 in results/reference, by method; tests/harness/test_report.py works it out


def notes(results: ResultsFolder, suite: str) -> list[str]:
    """The run's own notes first, then what the metrics show of their limits."""
    own = results.manifest.get("notes")
    given = [str(note) for note in own] if isinstance(own, list) else []
    return [
        *given,
        *_training(results),
        *_renewals(results),
        *_seeds(results, suite),
        *unfinished_notes(results.samples),
        *_unscored(results),
        *_judges(results, suite),
        *_headroom(results, suite),
        *_easy_tasks(results),
        *_grader(results),
        *_shared_errors(results),
    ]


def _training(results: ResultsFolder) -> Iterator[str]:
    """Alarms and limits of PPO, each run's first."""
    told = set()
    for row in results.training:
        for key in (*TEXTS.values(), LIMIT):
            run = (row["method"], row["seed"], key)
            if isinstance(row.get(key), str) and run not in told:
                told.add(run)
                what = row[key]
                if key == LIMIT:
                    what = f"PPO was stopped at update {row['update']}: {what}"
                yield f"{method_label(row['method'])}, seed {row['seed']}: {what}."
    last = {(row["method"], row["seed"]): number(row, ROLLBACKS) for row in results.training}
    for (method, seed), times in last.items():
        if times > 0:
            yield f"{method_label(method)}, seed {seed}: PPO was rolled back {times:.0f} times from a limit."


def _renewals(results: ResultsFolder) -> Iterator[str]:
    """Of each training whose grader was renewed: when, on how many labels, and how right it was before and after."""
    told: dict[tuple[str, int], list[str]] = {}
    for row in results.training:
        if not number(row, GRADER_LABELS) > 0:
            continue
        before, now = (number(row, f"{GRADER_ACCURACY}{side}") for side in ("_before", ""))
        why = ", at the alarm" if number(row, GRADER_BY_ALARM) == 1.0 else ""
        told.setdefault((row["method"], row["seed"]), []).append(
            f"after update {row['update']}{why} on {number(row, GRADER_LABELS):.0f} labelled responses (accuracy on "
            f"those of them kept back {percent(before)}, then {percent(now)})"
        )
    for (method, seed), renewals in told.items():
        yield f"{method_label(method)}, seed {seed}: the grader was renewed {'; '.join(renewals)}."


def _seeds(results: ResultsFolder, suite: str) -> Iterator[str]:
    seeds = len(results.scores.seeds)
    if seeds == 1:
        units = PLURAL[clusters_counted(results).get(suite, PROMPT)]
        yield (
            f"One seed: intervals and ± count {units} and checkpoints, not the luck of training, so they compare these "
            "models and not their methods; differences take the two runs as independent. In the five seeds of the "
            f"sandbox's reference run a method's F1 varied by a standard deviation of {SEED_SPREAD} points."
        )
    else:
        least = float(scipy.stats.t.ppf(0.975, seeds - 1)) / math.sqrt(seeds)
        yield (
            f"{seeds} seeds: a difference must be {least:.1f} times its standard deviation over seeds to be seen at "
            "all (5 %, one claim; more of several). ± is the standard error over seeds; seeds that all agree take "
            "the interval of a single run. A new seed varies by more than these intervals of the mean: see the "
            "prediction interval in docs/results.md."
        )


def _unscored(results: ResultsFolder) -> Iterator[str]:
    rows = [row for row in results.metrics if row.n_unscored and row.checkpoint in ("mean", "sft")]
    if rows:
        worst = max(rows, key=lambda row: row.n_unscored / (row.n + row.n_unscored))
        share = worst.n_unscored / (worst.n + worst.n_unscored)
        where = f"{method_label(worst.method)}, {metric_label(worst.metric)}, {judge_label(worst.judge)}"
        yield (
            "Some responses are unscored; they are left out of every share, never counted as 0. "
            f"At most {percent(share)} ({where})."
        )
    if any(math.isnan(row.value) for row in results.metrics):
        yield "Some metrics have no value because nothing was scored; they are shown as a dash."


def _judges(results: ResultsFolder, suite: str) -> Iterator[str]:
    scores = results.scores
    judges = scores.judges(suite, SAFETY)
    if len(judges) < 2:
        return
    gaps = []
    for metric in (SAFETY, USEFULNESS):
        for method in scores.methods(suite, metric, judges[0]):
            pair = [scores.estimate(method, suite, metric, judge) for judge in judges[:2]]
            if pair[0] and pair[1]:
                gaps.append((abs(pair[1].value - pair[0].value), method, metric))
    if gaps and (worst := max(gaps))[0] > FAR:
        yield (
            f"The verdicts of {judge_label(judges[1])} and of {judge_label(judges[0])} differ by up to "
            f"{100 * worst[0]:.1f} points ({metric_label(worst[2])} of {method_label(worst[1])})."
        )


def _headroom(results: ResultsFolder, suite: str) -> Iterator[str]:
    scores = results.scores
    for judge in scores.judges(suite, BALANCE)[:1]:
        found = [scores.estimate(m, suite, BALANCE, judge) for m in scores.methods(suite, BALANCE, judge)]
        if (top := max((e.value for e in found if e), default=0.0)) >= CEILING:
            yield f"The best F1 is {percent(top)}: near the ceiling, where differences can no longer be seen."


def _easy_tasks(results: ResultsFolder) -> Iterator[str]:
    """Capability tasks on which every method is near the ceiling."""
    scores, easy = results.scores, []
    for suite, (metric, judge) in capability_metrics(scores).items():
        found = [scores.estimate(m, suite, metric, judge) for m in scores.methods(suite, metric, judge)]
        if all(e is not None and e.value >= CEILING for e in found):
            easy.append(plain(suite.removeprefix("capability/")))
    if easy:
        yield (
            f"Every method answers at least {percent(CEILING, 0)} of {', '.join(easy)}: so easy a task cannot "
            "show which method knows more, nor a loss that leaves a model enough to answer it."
        )


def _shared_errors(results: ResultsFolder) -> Iterator[str]:
    found = worst_shared(results)
    if found is not None and found[1] - found[2] > TOGETHER:
        name, both, chance = found
        yield (
            f"Grader and automated judge are wrong together on “{name}” in {percent(both)} of responses, "
            f"{percent(chance)} by chance: as far as that goes, the judge is fooled by what fools the grader."
        )


def _grader(results: ResultsFolder) -> Iterator[str]:
    rows = [row for row in results.grader if row.grader == "grader"]
    by_name = {row.proposition: [r for r in rows if r.proposition == row.proposition] for row in rows}
    weak = [n for n, g in by_name.items() if finite_mean([r.balanced_accuracy for r in g]) < WEAK]
    unseen = [n for n, g in by_name.items() if sum(r.n_positive for r in g) in (0, sum(r.n for r in g))]
    if weak:
        names = ", ".join(map(plain, weak))
        yield f"The grader is weak (balanced accuracy below {percent(WEAK, 0)}) on: {names}."
    if unseen:
        names = ", ".join(map(plain, unseen))
        yield f"The gold labels never change for: {names}. The grader's accuracy there says nothing."
