"""The metric of each capability task that stands for it."""

from __future__ import annotations

from harness.findings.frontier import Scores

ACCURACY_METRICS = ("acc_norm", "acc", "exact_match")  # the field's order of preference


def capability_metrics(scores: Scores) -> dict[str, tuple[str, str]]:
    """Each capability task's suite name with the (metric, judge) that stands for it."""
    found = {}
    for suite in scores.suites(prefix="capability/"):
        metric = next((m for m in ACCURACY_METRICS if m in scores.metrics(suite)), None)
        if metric is not None:
            found[suite] = metric, scores.judges(suite, metric)[0]
    return found
