"""The gate's checks as tables: on the page, in a comment and on the screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.findings.wording import percent, plain, points
from harness.keys.gate import GateVerdict
from harness.record.run import JsonRow, number
from harness.report.document import NOTHING, Cell, Screen, Strip, Table, Where
from harness.report.gate_lines import CHIPS, SIDES, Line, lines_table


def check_lines(checks: Sequence[JsonRow], margin: float) -> Iterator[Line]:
    """All strips share one scale."""
    limits = [abs(number(check["change"], end)) for check in checks for end in ("low", "high")]
    reach = max([margin, *(limit for limit in limits if limit == limit)]) * 1.05
    for check in checks:
        c, p = check["change"], number(check, "p_adjusted")
        known = bool(c["prompts"])
        low, high = (points(number(c, end)) for end in ("low", "high"))
        interval = f"{low} to {high}" if known else NOTHING
        change, verdict = points(number(c, "change")), GateVerdict(check["verdict"])
        counts = {"prompts": c["prompts"], "trials": c["trials"], "unscored": check["unscored"]}
        yield Line(
            plain(check["label"].split("/")[-1]),
            {name: Cell(str(count)) for name, count in counts.items()}
            | {name: Cell(percent(number(c, name))) for name in SIDES}
            | {
                "change": Cell(change),
                "interval": Cell(interval),
                "change and interval": Cell(change, interval=interval),
                "strip": Cell(interval, strip=_strip(check, reach)) if known else Cell(""),
                "p": Cell(NOTHING if p != p else "<0.001" if p < 0.001 else f"{p:.3f}"),
                "verdict": Cell(
                    verdict.value,
                    best=verdict is GateVerdict.WORSE,
                    chip=CHIPS[verdict],
                    hint=check["reason"],
                ),
            },
            check["label"].count("/"),
        )


def _strip(check: JsonRow, reach: float) -> Strip:
    c = check["change"]
    values = (number(c, "low"), number(c, "high"), number(c, "change"), check["tolerance"] or 0.0)
    low, high, value, limit = (round(50.0 + 50.0 * value / reach, 2) for value in values)
    return Strip(low, high, value, limit, CHIPS[GateVerdict(check["verdict"])])


def checks_on_page(lines: Sequence[Line], units: str) -> Table:
    columns = {"prompts": units} | {name: name for name in ("trials", "unscored", *SIDES)}
    columns |= {"change and interval": "change, points", "strip": "", "p": "adjusted p", "verdict": "verdict"}
    return lines_table("group", columns, lines, Where.PAGE, ("strip", "verdict"))


def checks_in_comment(lines: Sequence[Line], level: str, units: str) -> Table:
    columns = {"prompts": units} | {name: name for name in ("trials", *SIDES)} | {"change": "change, points"}
    columns |= {"interval": f"{level} % interval", "p": "adjusted p", "verdict": "verdict"}
    return lines_table("group", columns, lines, Where.SUMMARY, ("interval", "verdict"))


def checks_on_screen(measure: str, lines: Sequence[Line], units: str) -> Table:
    """A terminal is narrow: classes stand only where they are worse."""
    columns = {"prompts": units, "baseline": "before", "candidate": "after"}
    columns |= {"change and interval": "change", "verdict": "verdict"}
    table = lines_table(measure, columns, lines, Where.SCREEN, ("verdict",))
    return replace(table, screen=Screen(beside=True))
