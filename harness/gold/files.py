"""results/NAME of `rbrbench gold`: figures, thresholds, grades, and what was fitted, for report/of_gold.py to draw.

calibration.csv   a row a grader, proposition and kind of threshold: evals.graders.calibration.COLUMNS
reliability.csv   a row a grader and bin of its grades
levels.csv        where a proposition has levels: evals.graders.level_agreement.LEVEL_COLUMNS
hostile.csv       a row a grader and attack
teacher.csv       where an encoder was taught: harness.gold.agreement.COLUMNS
manifest.json     `graders`: {name: kind, share of unscored grades, accuracy less the first one's with its
                  interval, and where it was asked here its pace: harness.gold.pace.GradingPace}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from evals.graders.calibration import COLUMNS
from evals.graders.hostile import Movement
from evals.graders.level_agreement import LEVEL_COLUMNS
from evals.graders.recorded import write_grades
from evals.values.csv_rows import write_csv
from harness.gold.agreement import COLUMNS as AGREEMENT_COLUMNS
from harness.gold.agreement import TeacherAgreement
from harness.gold.graders import JudgedGrader
from harness.gold.labels import GoldSplits, LabelCount
from harness.gold.measure import GoldResult, ReliabilityPoint
from harness.keys.gold import GoldConfig
from harness.keys.shared import file_name
from harness.record.manifest import Kind, recording
from harness.storage.digest import figures
from harness.storage.disk import write_json

HOSTILE_COLUMNS = ("grader", *(f.name for f in fields(Movement)))
CURVE_COLUMNS = ("grader", *(f.name for f in fields(ReliabilityPoint)))
LABEL_COLUMNS = ("enough_to_learn", "enough_to_judge")


@dataclass(frozen=True)
class JudgedGraders:
    """What `rbrbench gold` found; `results` and `graders` in one order."""

    results: Sequence[GoldResult]
    graders: Sequence[JudgedGrader]
    splits: GoldSplits
    counts: Sequence[LabelCount]
    agreements: Sequence[TeacherAgreement]
    notes: Sequence[str]


def write_record(folder: Path, judged: JudgedGraders, config: GoldConfig, command: Sequence[str]) -> None:
    """The same results give the same bytes. Raises InputError where another command's results lie."""
    results = judged.results
    graders = {result.name: _about(result) for result in results}
    with recording(folder, Kind.GOLD, config.name, command, judged.notes, graders=graders) as new:
        write_csv(new / "calibration.csv", _calibration_rows(results, judged.counts, config.few))
        write_csv(new / "reliability.csv", _rows_of(results, "curve"), CURVE_COLUMNS)
        write_csv(new / "hostile.csv", _rows_of(results, "movements"), HOSTILE_COLUMNS)
        _write_levels(new / "levels.csv", results)
        _write_agreements(new / "teacher.csv", judged.agreements)
        write_json(new / "thresholds.json", _thresholds(results, config))
        rows = _first_of_each(judged.splits)
        responses = [judged.splits.judged[i].response for i in rows]
        for result, grader in zip(results, judged.graders, strict=True):
            place = new / "graders" / file_name(result.name)
            place.mkdir(parents=True, exist_ok=True)
            given = result.grades.rows(rows), judged.splits.propositions, grader.template
            write_grades(place / "grades.jsonl", result.name, responses, *given)
            if grader.save is not None:
                grader.save(place)


def _about(result: GoldResult) -> Mapping[str, Any]:
    gap = result.against_first
    against = None if gap is None else {"value": gap.value, "low": gap.low, "high": gap.high}
    about = {"kind": result.kind, "unscored_share": result.grades.unscored_share, "against_first": against}
    if result.pace is not None and result.pace.asked:
        about["pace"] = result.pace.as_json()
    return dict(figures(about))


def _rows_of(results: Sequence[GoldResult], what: str) -> Iterator[dict[str, Any]]:
    for result in results:
        for row in getattr(result, what):
            yield {"grader": result.name} | asdict(row)


def _write_levels(path: Path, results: Sequence[GoldResult]) -> None:
    """Nothing where no proposition has levels; an earlier call's file goes."""
    rows = [row for result in results for row in result.levels]
    if rows:
        write_csv(path, rows, LEVEL_COLUMNS)
    else:
        path.unlink(missing_ok=True)


def _write_agreements(path: Path, agreements: Sequence[TeacherAgreement]) -> None:
    """Nothing where nobody was taught; an earlier call's file goes."""
    if agreements:
        write_csv(path, (row for agreement in agreements for row in agreement.rows), AGREEMENT_COLUMNS)
    else:
        path.unlink(missing_ok=True)


def _first_of_each(splits: GoldSplits) -> list[int]:
    """Rows of distinct responses: a file of grades has one grade for a response, however often it is labelled."""
    seen: dict[object, int] = {}
    for row, item in enumerate(splits.judged):
        seen.setdefault((item.response.prompt.messages, item.response.text), row)
    return list(seen.values())


def _thresholds(results: Sequence[GoldResult], config: GoldConfig) -> dict[str, Any]:
    return {
        "metric": config.metric.value,
        "tuned_on": config.gold.train,
        "thresholds": {result.name: figures(result.thresholds) for result in results},
    }


def _calibration_rows(
    results: Sequence[GoldResult], counts: Sequence[LabelCount], few: int
) -> Iterator[dict[str, Any]]:
    """At 0.5, then at tuned thresholds; `enough_...` is empty in the rows of means."""
    by_name = {count.proposition: count for count in counts}
    for result in results:
        for kind, rows in (("0.5", result.fixed), ("tuned", result.tuned)):
            for row in rows:
                count = by_name.get(str(row["proposition"]))
                enough = ("", "") if count is None else _enough(count, few)
                yield (
                    {"thresholds": kind}
                    | {c: row[c] for c in COLUMNS}
                    | dict(zip(LABEL_COLUMNS, enough, strict=True))
                )


def _enough(count: LabelCount, few: int) -> tuple[str, str]:
    return (
        str(not count.too_few_to_learn(few)).lower(),
        str(not count.too_few_to_judge(few)).lower(),
    )
