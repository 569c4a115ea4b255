"""Write report.html (one self-contained file) and summary.md from a results folder.

The page has no script and may load nothing (Content-Security-Policy `default-src 'none'`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.values.errors import InputError
from harness.findings.frontier import SAFETY, USEFULNESS
from harness.findings.verdict import NO_VERDICT, verdict_sentence
from harness.findings.wording import judge_label, plain, type_order
from harness.keys.shared import file_name
from harness.record.run import ResultsFolder
from harness.report.notes import notes
from harness.report.page import UNSEEN, markdown_text, render, svg_source
from harness.report.plots import alt_text, draw_all
from harness.report.reward import ablation_table, worst_lines
from harness.report.samples import choose_cards
from harness.report.tables import (
    by_response_type,
    capability_table,
    claim_lines,
    grader_tables,
    main_tables,
    ranking_table,
    stage_lines,
)

__all__ = ["UNSEEN", "markdown_text", "write_report"]


@dataclass(frozen=True)
class Image:
    name: str
    alt: str
    source: str  # a data: URI


def write_report(results: Path, plots: Sequence[Path] | None = None) -> Path:
    """Write `report.html` and `summary.md` into the folder; returns the page's path.

    `plots` are the paths that `draw_all` returned; without them the plots are drawn first. The same
    results give the same bytes. Raises InputError for bad files, or where nothing was measured.
    """
    folder = ResultsFolder(results)
    if not folder.metrics:
        raise InputError(
            "the table has no rows", path=folder.path / "metrics.csv", fix="finish the run first"
        )
    drawn = draw_all(results) if plots is None else list(plots)
    context = _context(folder, [path for path in drawn if path.suffix == ".svg"])
    filters: dict[str, Callable[..., Any]] = {"file_name": file_name, "starting": _starting}
    folder.write("summary.md", render("summary.md.j2", context, html=False, filters=filters))
    return folder.write("report.html", render("report.html.j2", context, html=True, filters=filters))


def _context(folder: ResultsFolder, plots: Sequence[Path]) -> dict[str, Any]:
    scores = folder.scores
    suites = scores.suites(SAFETY, USEFULNESS)
    suite = suites[0] if suites else ""
    claims, other_judges = claim_lines(scores, suite)
    cards, prompts = choose_cards(folder.samples)
    kinds = sorted({card.response_type for card in cards}, key=type_order)
    return {
        "name": folder.name,
        "manifest": folder.manifest,
        "warning": folder.warning,
        "basis": _basis(folder, suite),
        "one_seed": len(scores.seeds) == 1,
        "suite": suite,
        "verdict": _verdict(folder, suite),
        "images": {image.name: image for image in map(_image, plots)},
        "tables": {name: main_tables(scores, name) for name in suites},
        "by_type": by_response_type(scores, suite),
        "claims": claims,
        "first_judge": judge_label(scores.judges(suite, SAFETY)[0]) if suite else "",
        "other_judges": [judge_label(judge) for judge in other_judges],
        "claim_counts": Counter(claim.verdict for claim in claims),
        "grader": grader_tables(folder.grader),
        "ranking": ranking_table(scores),
        "ablations": ablation_table(folder),
        "worst": worst_lines(folder),
        "capability": capability_table(scores),
        "cards": cards,
        "prompts": prompts,
        "kinds": [(str(i), kind, plain(kind) or "none") for i, kind in enumerate(kinds)],
        "stages": stage_lines(folder.stages) if folder.stages else [],
        "config": folder.config,
        "notes": notes(folder, suite),
    }


def _verdict(folder: ResultsFolder, suite: str) -> str:
    if not suite:
        return "No safety suite was measured."
    return f"{NO_VERDICT}." if folder.warning else verdict_sentence(folder.scores, suite)


def _basis(folder: ResultsFolder, suite: str) -> str:
    """What the verdict rests on: judge, suite, seeds."""
    if not suite:
        return "Only capability or rewards were measured."
    seeds = folder.scores.seeds
    count = f"{len(seeds)} seeds" if len(seeds) > 1 else f"one seed ({seeds[0]})"
    judge = judge_label(folder.scores.judges(suite, SAFETY)[0])
    return f"Judged by {judge} on the suite {suite}, {count}; intervals are 95 %."


def _image(path: Path) -> Image:
    return Image(path.stem, alt_text(path.stem), svg_source(path.read_bytes()))


def _starting(images: Iterable[Image], name: str) -> list[Image]:
    """Those of a plot: `name` itself and `name-...`."""
    return [image for image in images if image.name == name or image.name.startswith(f"{name}-")]
