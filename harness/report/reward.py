"""The report's part on the reward itself: what takes the fitted weights' place, and its worst pairs. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evals.statistics import mean_estimate
from harness.findings.wording import percent, plain, type_order
from harness.record.run import JsonRow, ResultsFolder
from harness.report.document import Cell, Table, TableRow
from harness.report.plots.rule_contributions import feature_label

ABLATION_FILE, WORST_FILE = "ablations.csv", "worst_pairs.jsonl"
ABLATIONS = {
    "fitted": "as fitted",
    "rm_alone": "reward model alone",
    "rbr_alone": "rules alone, fitted without the reward model",
    "fixed_1": "every weight of size 1",
    "fixed_10": "every weight of size 10",
    "boosted": "boosted trees in place of weights",
    "hinge": "weights at the optimum",
    "sign_constraints": "weights at the optimum, signs and order by the rulebook",
}
WORST_SHOWN = 5  # of each response type
PARTS_SHOWN = 3  # of what decides a pair


def ablation_table(folder: ResultsFolder) -> Table | None:
    """Ranking error by variant and response type, the mean over seeds; None where the file is absent."""
    rows = folder.table(ABLATION_FILE, ("error",), ("response_type", "ablation"))
    kinds = sorted({row["response_type"] for row in rows}, key=type_order)
    names = [name for name in ABLATIONS if any(row["ablation"] == name for row in rows)]
    lines = [TableRow(ABLATIONS[name], tuple(_cell(rows, name, kind) for kind in kinds)) for name in names]
    columns = tuple(map(plain, kinds))
    return Table("In place of the fitted weights: ranking error, %", columns, tuple(lines)) if rows else None


def worst_table(folder: ResultsFolder) -> Table | None:
    """The worst-ranked pairs of each response type, over all seeds, and what decided them; None without the file."""
    by_type: dict[str, list[JsonRow]] = {}
    fields = {"response_type": str, "prompt_id": str, "gap": float, "other_class": str, "deciding": dict}
    for row in folder.rows(WORST_FILE, fields):
        by_type.setdefault(row["response_type"], []).append(row)
    rows = [
        _worst_row(row)
        for _, group in sorted(by_type.items(), key=lambda item: type_order(item[0]))
        for row in sorted(group, key=lambda row: row["gap"])[:WORST_SHOWN]
    ]
    words = ("prompt", "ranked above the ideal one", "decided by")
    columns = (*words[:2], "ideal's lead", words[2])
    return Table("response type", columns, tuple(rows), words) if rows else None


def _cell(rows: Sequence[JsonRow], name: str, kind: str) -> Cell:
    values = [row["error"] for row in rows if (row["ablation"], row["response_type"]) == (name, kind)]
    estimate = mean_estimate(np.array(values, dtype=float))
    stderr = f"± {100 * estimate.stderr:.1f}" if np.isfinite(estimate.stderr) else ""
    return Cell(percent(estimate.value), stderr)


def _worst_row(row: JsonRow) -> TableRow:
    parts = list(row["deciding"].items())[:PARTS_SHOWN]
    gap = f"{row['gap']:+.2f}".replace("-", "−")
    deciding = ", ".join(f"{feature_label(n)} {v:+.2f}".replace("-", "−") for n, v in parts)
    told = (row["prompt_id"], plain(row["other_class"]), gap, deciding)
    return TableRow(plain(row["response_type"]), tuple(map(Cell, told)))
