"""Stage 5: the grader that pays and the judge that reports against gold labels, and whether the grader may pay.

A grader is measured before anything is trained on it, by response type and proposition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evals.graders import grade_in_batches
from evals.graders.calibration import MEAN, calibrate, cuts_of, gold_labels, measures
from evals.graders.encoder import UNLEARNED
from evals.rules.rulebook import Rulebook
from evals.values.conversation import LabelledResponse
from evals.values.csv_rows import read_csv, write_csv
from evals.values.errors import UndecidableError
from evals.values.grades import Grades, Unscored, check_unscored
from evals.values.json_text import read_json_object
from harness.pipeline.context import Context
from harness.pipeline.graders import DESCRIPTION, UNSEEN, asked_grader, grades_as_json
from harness.storage.disk import write_json
from harness.storage.store import Artifact
from harness.worlds.folder import GOLD, WorldFolder, labels_file
from trainers.reward.weights_config import MAX_UNSCORED

CALIBRATION, BY_TYPE, GRADES = "calibration.csv", "by_type.csv", "grades.json"
TYPE_COLUMNS = ("response_type", "proposition", "n", "n_positive", "balanced_accuracy")
UNMEASURED = (
    "grader: the data have no gold labels, so nobody knows how often the grader that pays is right; "
    "give data.gold=[FILE]"
)


def check_grader_is_good(context: Context, gold: Artifact) -> None:
    """Says what fails and what is unmeasured. Raises UndecidableError for a grader that is wrong too often to pay.

    A proposition of a response type is measured where both values have at least `grader.few` labels; where none of
    any type is, propositions over all types are.
    """
    keys = context.config.grader
    rows = _measures_by_type(gold)
    measured, unmeasured = _enough(rows, keys.few)
    if unmeasured:
        context.console.say(
            f"grader: too few gold labels of both values to measure {_by_type(unmeasured, rows)}"
        )
    measured = measured or _enough(_measures(gold), keys.few)[0]
    if not measured:
        return
    mean = sum(row.value for row in measured) / len(measured)
    failing = sorted(
        (row for row in measured if row.value < keys.least_balanced_accuracy), key=lambda m: m.value
    )
    shown = ", ".join(
        f"{' '.join(filter(None, (m.kind, m.proposition)))} {m.value:.2f}" for m in failing[:MOST_SHOWN]
    )
    shown += f" and {len(failing) - MOST_SHOWN} more" if len(failing) > MOST_SHOWN else ""
    limit = f"grader.least_balanced_accuracy {keys.least_balanced_accuracy:g}"
    if mean < keys.least_balanced_accuracy and not keys.anyway:
        raise UndecidableError(
            f"grader: its balanced accuracy on gold labels is {mean:.3f}, below {limit}, and a reward of it would "
            f"teach its errors (below it, the worst first: {shown}); take another grader or rulebook, lower the "
            "limit, or say grader.anyway=true"
        )
    if failing:
        context.console.say(f"grader: below {limit} on gold labels: {shown}")


MOST_SHOWN = 5  # propositions that fail; the record has all


@dataclass(frozen=True)
class Measured:
    """A grader's balanced accuracy on one proposition, of a response type or ("") of all; labels of the rarer value."""

    kind: str
    proposition: str
    rarer: int
    value: float


def _enough(rows: Sequence[Measured], few: int) -> tuple[list[Measured], list[Measured]]:
    """Those with enough labels of both values, and the others."""
    return [row for row in rows if row.rarer >= few], [row for row in rows if row.rarer < few]


def _by_type(unmeasured: Sequence[Measured], rows: Sequence[Measured]) -> str:
    """`hard_refuse: judges, shouts; safe_refuse_1: none of its 3 propositions`."""
    parts = []
    for kind in dict.fromkeys(row.kind for row in unmeasured):
        mine = [row.proposition for row in unmeasured if row.kind == kind]
        every = sum(row.kind == kind for row in rows)
        parts.append(
            f"{kind}: {f'any of its {every} propositions' if len(mine) == every else ', '.join(mine)}"
        )
    return "; ".join(parts)


def _measures(gold: Artifact) -> list[Measured]:
    """By proposition, over all response types."""
    rows = read_csv(gold.path / CALIBRATION, ("proposition", "n", "n_positive"))
    return [_measured("", row.values) for row in rows if row.values["proposition"] != MEAN]


def _measures_by_type(gold: Artifact) -> list[Measured]:
    # None is written where no label is of a type that the rulebook has classes for.
    path = gold.path / BY_TYPE
    rows = read_csv(path, TYPE_COLUMNS) if path.is_file() else []
    return [_measured(str(row.values["response_type"]), row.values) for row in rows]


def _measured(kind: str, row: Mapping[str, Any]) -> Measured:
    positive, n = int(row["n_positive"]), int(row["n"])
    value = float(row["balanced_accuracy"] or "nan")
    return Measured(kind, str(row["proposition"]), min(positive, n - positive), value)


def measures_by_type(
    grades: Grades, labelled: Sequence[LabelledResponse], rulebook: Rulebook
) -> list[dict[str, object]]:
    """One row a response type of the labels and proposition that its classes use: counts, balanced accuracy."""
    truth = gold_labels(labelled, grades.propositions)
    rows: list[dict[str, object]] = []
    for kind in rulebook.response_types:
        mine = np.array([item.response.prompt.response_type is kind for item in labelled], dtype=bool)
        for name in rulebook.propositions_for(kind) if mine.any() else ():
            column = grades.propositions.index(name)
            known = mine & ~np.isnan(truth[:, column]) & ~np.isnan(grades.probability[:, column])
            label = truth[known, column] > 0.5
            cut = rulebook.propositions[name].cut
            point = measures(grades.probability[known, column], label, cut, np.ones((1, len(label))))
            value = float(point["balanced_accuracy"][0])
            counts = {"n": len(label), "n_positive": int(label.sum())}
            rows.append(
                {"response_type": kind.value, "proposition": name, **counts, "balanced_accuracy": value}
            )
    return rows


def measure_grader(context: Context, data: Artifact, grader: Artifact) -> Artifact:
    """Accuracy and calibration on gold labels, by proposition; writes calibration.csv, by_type.csv and the grades."""

    def build(out: Path) -> dict[str, Any]:
        propositions = list(context.rulebook.propositions.values())
        labelled = WorldFolder(data.path).labelled(GOLD, levels=context.rulebook.levels)
        with context.console.stage(f"gold: {grader.stage}", total=len(labelled), unit="responses") as advance:
            grades = _unseen(grader)
            if grades is None:
                responses = [row.response for row in labelled]
                asked = asked_grader(context, grader)
                grades = grade_in_batches(asked, responses, propositions, progress=advance)
                _check_graded(grades, grader)
        rows = calibrate(grader.stage, grades, labelled, cuts_of(propositions))
        write_csv(out / CALIBRATION, rows)
        write_json(out / GRADES, grades_as_json(grades))
        write_csv(out / BY_TYPE, measures_by_type(grades, labelled, context.rulebook))
        mean = next(row for row in rows if row["proposition"] == MEAN)
        return {name: mean[name] for name in ("accuracy", "balanced_accuracy", "majority")}

    return context.stage(
        f"gold: {grader.stage}",
        build,
        config={"rulebook": context.rulebook.digest},
        inputs={"data": data.part(labels_file(GOLD)), "grader": grader},
        modules=["evals.graders.calibration", "evals.graders.language_model"],
        packages=["scipy"],
    )


def _check_graded(grades: Grades, grader: Artifact) -> None:
    """Raises UndecidableError where a chosen grader gave no number too often: it would count as unmeasured."""
    if (grader.path / DESCRIPTION).is_file():
        what, then = "grades of the gold labels are missing", "mend the grader; what it said is kept"
        reasons = grades.reasons.values()
        check_unscored(grades.n_unscored, grades.probability.size, MAX_UNSCORED, what, reasons, then)


def _unseen(grader: Artifact) -> Grades | None:
    """What a grader that was fitted to the gold labels says of each without having seen its prompt."""
    if not (grader.path / UNSEEN).is_file():
        return None
    kept = read_json_object(grader.path / UNSEEN)
    rows = [[Unscored(UNLEARNED) if p is None else float(p) for p in row] for row in kept["grades"]]
    return Grades.of(kept["propositions"], rows)


def graded_gold(gold: Artifact) -> list[dict[str, float | None]]:
    """Of each gold label's response, {proposition: its probability}; None where it is unscored."""
    kept = read_json_object(gold.path / GRADES)
    return [dict(zip(kept["propositions"], row, strict=True)) for row in kept["grades"]]
