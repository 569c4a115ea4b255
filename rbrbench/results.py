"""An evaluation asked for by a program, and results read back."""

from __future__ import annotations

from pathlib import Path

from harness.evaluate.engine import evaluate as write_evaluation
from harness.keys.evaluate import compose_evaluate
from harness.record.run import ResultsFolder
from harness.runtime.console import Console


def evaluate(*keys: str) -> ResultsFolder:
    """Evaluate as `rbrbench evaluate KEY=VALUE ...` does, and give its results folder, as `read_results` does.

    `evaluate("responses=mine.csv", "suites=[xstest]", "data.root=data", "name=mine")` writes `results/mine`;
    `rbrbench report results/mine` draws its pages. The keys are the command's (`rbrbench evaluate --help`).
    Raises InputError for bad keys or input, UndecidableError where more than `max_unscored` of the
    responses is unscored; the record is then written all the same.
    """
    finished = write_evaluation(compose_evaluate(keys), list(keys), Console())
    if finished.unscored is not None:
        raise finished.unscored
    return finished.evaluation.folder


def read_results(folder: Path | str) -> ResultsFolder:
    """The results folder of a finished command, whose files are read when they are first asked for.

    Of it these are public: `path`; `metrics`, the rows of metrics.csv (method, suite, metric, judge, value,
    stderr, ci_low, ci_high, n, n_unscored, ...); `samples`, {model or method: rows of sampled responses};
    `manifest`, its `kind` (run, evaluation, fit, gold, gate, xstest) and what made it. A gold and a gate have no
    metrics. Raises InputError where neither metrics.csv nor such a manifest lies there, and at first use for a
    malformed file, with file, line and field.
    """
    return ResultsFolder(folder)
