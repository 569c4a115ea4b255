"""The gate's report as a page (HTML), a comment on a pull request (Markdown) and figures (JSON).

Text of prompts and completions stands in the page alone, behind a warning; a comment names prompts by id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.findings.wording import percent, plain, points
from harness.gate.flips import Flip
from harness.gate.gate import GateReport
from harness.gate.rewards import Side
from harness.gate.shifts import Shift
from harness.gate.verdict import Check, GateVerdict
from harness.report.page import render
from harness.storage.digest import figures

SENTENCES = {
    GateVerdict.NO_WORSE: "The candidate is no worse.",
    GateVerdict.WORSE: "The candidate is worse.",
    GateVerdict.CANNOT_TELL: "The gate cannot tell.",
}
CHIPS = {
    GateVerdict.NO_WORSE: "held",
    GateVerdict.WORSE: "not-held",
    GateVerdict.CANNOT_TELL: "overrefused",
    GateVerdict.NOT_TESTED: "undecided",
}
FILTERS: dict[str, Callable[..., Any]] = {"percent": percent, "plain": plain}
MOST_DISAGREEMENTS = 12  # propositions listed; the JSON has all


@dataclass(frozen=True)
class CheckLine:
    """One row of the table as text, and its interval as places on a strip, 0 to 100."""

    label: str
    depth: int
    prompts: int
    trials: int
    unscored: int
    baseline: str
    candidate: str
    change: str
    interval: str
    p: str
    verdict: str
    chip: str
    reason: str
    strip: Mapping[str, float] | None


@dataclass(frozen=True)
class FlipCard:
    """A flipped pair, side by side."""

    prompt_id: str
    prompt: str
    completions: tuple[Mapping[str, str], Mapping[str, str]]  # better, worse
    gaps: str
    deciding: str


def html_page(report: GateReport) -> bytes:
    return render("gate.html.j2", _context(report), html=True, filters=FILTERS)


def markdown_comment(report: GateReport) -> bytes:
    return render("gate.md.j2", _context(report), html=False, filters=FILTERS)


def json_figures(report: GateReport) -> dict[str, Any]:
    """Everything as figures, without the text of prompts and completions; NaN is null."""
    completions = report.completions
    return {
        "verdict": report.outcome.verdict.value,
        "exit_code": report.outcome.verdict.exit_code,
        "reasons": list(report.outcome.reasons),
        "config": figures(asdict(report.config)),
        "completions": {
            "name": completions.name,
            "digest": completions.digest,
            "completions": len(completions),
            "prompts": len(set(completions.prompts)),
            "left_out": completions.left_out,
            "truth": report.truth,
        },
        "baseline": _about(report.baseline),
        "candidate": _about(report.candidate),
        "checks": [
            figures({**asdict(t), "change": {**asdict(t.change), "change": t.change.change}})
            for t in report.outcome.checks
        ],
        "flips": [
            figures({**asdict(f), "worst": [_flip_figures(report, flip) for flip in f.worst]})
            for f in report.flips
        ],
        "class_moves": [figures(asdict(move)) for move in report.moves],
        "shifts": [figures(asdict(shift)) for shift in report.shifts],
        "disagreements": [figures(asdict(d)) for d in report.disagreements],
        "unscored": [figures(asdict(u)) for u in report.unscored],
        "rule_changes": [figures(asdict(change)) for change in report.rule_changes],
        "notes": list(report.notes),
    }


def check_lines(checks: Sequence[Check], margin: float) -> list[CheckLine]:
    """The table's rows; all strips share one scale."""
    limits = [abs(v) for t in checks for v in (t.change.low, t.change.high) if v == v]
    reach = max([margin, *limits]) * 1.05
    return [_line(check, reach) for check in checks]


def _line(check: Check, reach: float) -> CheckLine:
    c = check.change
    place = lambda value: round(50.0 + 50.0 * value / reach, 2)  # noqa: E731
    tolerance = check.tolerance or 0.0
    return CheckLine(
        plain(check.label.split("/")[-1]),
        check.label.count("/"),
        c.prompts,
        c.trials,
        check.unscored,
        percent(c.baseline),
        percent(c.candidate),
        points(c.change),
        f"{points(c.low)} to {points(c.high)}" if c.prompts else "–",
        _p(check.p_adjusted),
        check.verdict.value,
        CHIPS[check.verdict],
        check.reason,
        {"low": place(c.low), "high": place(c.high), "value": place(c.change), "tolerance": place(tolerance)}
        if c.prompts
        else None,
    )


def _p(value: float) -> str:
    return "–" if value != value else "<0.001" if value < 0.001 else f"{value:.3f}"


def _context(report: GateReport) -> dict[str, Any]:
    outcome, completions = report.outcome, report.completions
    by_measure = {
        m: [t for t in outcome.checks if t.measure == m]
        for m in dict.fromkeys(t.measure for t in outcome.checks)
    }
    return {
        "report": report,
        "sentence": SENTENCES[outcome.verdict],
        "chip": CHIPS[outcome.verdict],
        "tables": {plain(m): check_lines(checks, report.config.margin) for m, checks in by_measure.items()},
        "sides": {"baseline": _about(report.baseline), "candidate": _about(report.candidate)},
        "prompts": len(set(completions.prompts)),
        "flips": [
            (plain(f.response_type.value), f, [_card(report, flip) for flip in f.worst]) for f in report.flips
        ],
        "shifts": [_shift_line(s) for s in report.shifts],
        "moves": [
            (plain(m.response_type.value), plain(m.before), plain(m.after), m.count, _counts(m.truly))
            for m in report.moves
        ],
        "disagreements": report.disagreements[:MOST_DISAGREEMENTS],
        "unscored": [(plain(u.response_type.value), u) for u in report.unscored],
    }


def _about(side: Side) -> dict[str, Any]:
    return {"source": side.source, "kind": side.kind, **side.about}


def _counts(truly: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {plain(name)}" for name, count in truly.items())


def _shift_line(shift: Shift) -> dict[str, Any]:
    return {
        "label": plain(shift.label.split("/")[-1]),
        "depth": shift.label.count("/"),
        "n": shift.n,
        "baseline": f"{shift.baseline:+.2f}",
        "candidate": f"{shift.candidate:+.2f}",
        "shift": f"{shift.shift:+.2f}",
        "interval": f"{shift.shift_low:+.2f} to {shift.shift_high:+.2f}",
        "scale": "–" if shift.scale != shift.scale else f"×{shift.scale:.2f}",
        "scale_interval": ""
        if shift.scale != shift.scale
        else f"{shift.scale_low:.2f} to {shift.scale_high:.2f}",
        "correlation": "–" if shift.correlation != shift.correlation else f"{shift.correlation:.3f}",
    }


def _card(report: GateReport, flip: Flip) -> FlipCard:
    response = report.completions.responses[flip.better]
    prompt = "\n".join(f"{m.role}: {m.content}" for m in response.prompt.messages)
    gaps = f"{flip.baseline_gap:+.2f} → {flip.candidate_gap:+.2f}"
    deciding = ", ".join(f"{plain(name)} {change:+.2f}" for name, change in flip.deciding)
    sides = _completion(report, flip.better), _completion(report, flip.worse)
    return FlipCard(response.prompt.id, prompt, sides, gaps, deciding)


def _completion(report: GateReport, row: int) -> dict[str, str]:
    sides = {"baseline": report.baseline, "candidate": report.candidate}
    shown = {name: f"{side.breakdown.total[row]:+.2f}" for name, side in sides.items()}
    graded = {
        f"{name}_class": plain(side.classes[row] or "") if side.classes is not None else ""
        for name, side in sides.items()
    }
    completions = report.completions
    return {
        "text": completions.responses[row].text,
        "class": plain(completions.classes[row]),
        **shown,
        **graded,
    }


def _flip_figures(report: GateReport, flip: Flip) -> dict[str, Any]:
    completions = report.completions
    return {
        "prompt_id": completions.prompts[flip.better],
        "rows": [flip.better, flip.worse],
        "classes": [completions.classes[flip.better], completions.classes[flip.worse]],
        "baseline_gap": flip.baseline_gap,
        "candidate_gap": flip.candidate_gap,
        "deciding": dict(flip.deciding),
    }
