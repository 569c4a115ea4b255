"""results/NAME of `rbrbench gold`: figures, thresholds, plots, page, grades, and what was fitted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import matplotlib.style

from evals.graders.calibration import COLUMNS
from evals.graders.hostile import Movement
from evals.graders.recorded import write_grades
from evals.values.csv_rows import write_csv
from harness.gold.agreement import COLUMNS as AGREEMENT_COLUMNS
from harness.gold.agreement import Agreement
from harness.gold.graders import JudgedGrader
from harness.gold.labels import GoldSplits, LabelCount
from harness.gold.measure import GoldResult
from harness.gold.tables import GoldTables
from harness.keys.gold import GoldConfig
from harness.keys.shared import file_name
from harness.report.page import render, svg_source
from harness.report.plots import drawn_files
from harness.report.plots.reliability import reliability_figure
from harness.report.plots.style import RC
from harness.storage.digest import figures
from harness.storage.disk import write_json, writing
from harness.storage.store import claim_results, command_digest

OWNER = command_digest("gold")  # gold may overwrite gold, and nothing else
HOSTILE_COLUMNS = ("grader", *(f.name for f in fields(Movement)))
LABEL_COLUMNS = ("enough_to_learn", "enough_to_judge")


def claim(config: GoldConfig) -> Path:
    """The results folder. Raises InputError where another command's results lie."""
    folder = Path(config.results) / config.name
    claim_results(folder, OWNER)
    return folder


def write_results(
    folder: Path,
    results: Sequence[GoldResult],
    graders: Sequence[JudgedGrader],
    splits: GoldSplits,
    counts: Sequence[LabelCount],
    tables: GoldTables,
    config: GoldConfig,
    agreements: Sequence[Agreement] = (),
) -> Path:
    """Write everything; returns the page's path. The same results give the same bytes."""
    pictures = _pictures(results)
    context = {"name": config.name, "tables": tables}
    pages = {
        "summary.md": render("gold.md.j2", context, html=False),
        "gold.html": render(
            "gold.html.j2", context | {"picture": svg_source(pictures["reliability.svg"])}, html=True
        ),
    }
    rows = _first_of_each(splits)
    responses = [splits.judged[i].response for i in rows]
    with writing(folder):
        (folder / "plots").mkdir(exist_ok=True)
        for name, content in (
            pages | {f"plots/{name}": picture for name, picture in pictures.items()}
        ).items():
            (folder / name).write_bytes(content)
        write_csv(folder / "calibration.csv", _calibration_rows(results, counts, config.few))
        write_csv(folder / "hostile.csv", _hostile_rows(results), HOSTILE_COLUMNS)
        _write_agreements(folder / "teacher.csv", agreements)
        write_json(folder / "thresholds.json", _thresholds(results, config))
        for result, grader in zip(results, graders, strict=True):
            place = folder / "graders" / file_name(result.name)
            place.mkdir(parents=True, exist_ok=True)
            given = result.grades.rows(rows), splits.propositions, grader.template
            write_grades(place / "grades.jsonl", result.name, responses, *given)
            if grader.save is not None:
                grader.save(place)
    return folder / "gold.html"


def _write_agreements(path: Path, agreements: Sequence[Agreement]) -> None:
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


def _pictures(results: Sequence[GoldResult]) -> dict[str, bytes]:
    with matplotlib.style.context(["default", RC]):
        figure = reliability_figure(
            {result.name: result.curve for result in results},
            {result.name: result.calibration_error for result in results},
        )
        return {f"reliability.{kind}": content for kind, content in drawn_files(figure)}


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


def _hostile_rows(results: Sequence[GoldResult]) -> Iterator[dict[str, Any]]:
    for result in results:
        for movement in result.movements:
            yield {"grader": result.name} | asdict(movement)
