"""JUnit XML: one test case a row of a gate's table, for CI systems that show such files."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from harness.evaluate.comparing import MetricComparison, row_gate
from harness.evaluate.requirements import CANNOT_TELL, MET, MISSED, Decided
from harness.keys.gate import GateVerdict
from harness.record.run import JsonRow, number

ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0
REQUIRED = {MET: GateVerdict.NO_WORSE, MISSED: GateVerdict.WORSE, CANNOT_TELL: GateVerdict.CANNOT_TELL}


class Case(NamedTuple):
    """`message` says why it is no pass, `text` the figures."""

    place: str
    name: str
    verdict: GateVerdict
    message: str
    text: str


def junit_xml(gate: JsonRow) -> bytes:
    """Of a gate for rewards; `gate` is gate.json.

    The last case is the verdict itself: too much unscored fails no single row.
    """
    cases = [_checked(check) for check in gate["checks"]]
    reasons, truth = "; ".join(gate["reasons"]), gate["completions"]["truth"]
    verdict = Case("regress", "verdict", GateVerdict(gate["verdict"]), reasons, truth)
    return _junit("rbrbench regress", [*cases, verdict])


def evaluation_junit(
    gate: JsonRow, rows: Iterable[MetricComparison], decided: Iterable[Decided], margin: float
) -> bytes:
    """Of an evaluation with a baseline or requirements; `gate` is its manifest's. The last case is its exit code."""
    cases = [*(_compared(row, margin) for row in rows), *map(_required, decided)]
    codes = {verdict.exit_code: verdict for verdict in REQUIRED.values()}
    told = "; ".join(gate["reasons"])
    verdict = Case("evaluate", "verdict", codes[int(number(gate, "exit_code"))], told, told)
    return _junit("rbrbench evaluate", [*cases, verdict])


def _junit(name: str, cases: Sequence[Case]) -> bytes:
    """A failure for worse, an error for cannot tell, skipped for what is only shown."""
    suite = ET.Element("testsuite", name=name)
    for case in cases:
        _state(ET.SubElement(suite, "testcase", classname=_legal(case.place), name=_legal(case.name)), case)
    for kind, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(kind, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("tests", str(len(cases)))
    ET.indent(suite)
    return ET.tostring(suite, encoding="utf-8", xml_declaration=True) + b"\n"


def _state(element: ET.Element, case: Case) -> None:
    tags = {GateVerdict.WORSE: "failure", GateVerdict.CANNOT_TELL: "error", GateVerdict.NOT_TESTED: "skipped"}
    tag = tags.get(case.verdict)
    if tag is not None:
        state = ET.SubElement(element, tag, message=_legal(case.message))
        state.text = _legal(case.text)
    else:
        ET.SubElement(element, "system-out").text = _legal(case.text)


def _checked(check: JsonRow) -> Case:
    c = check["change"]
    before, after, change, low, high = (
        number(c, name) for name in ("baseline", "candidate", "change", "low", "high")
    )
    said = (
        f"baseline {before:.4f}, candidate {after:.4f}, change {change:+.4f} ({low:+.4f} to {high:+.4f}), adjusted p "
        f"{number(check, 'p_adjusted'):.4g}, {c['prompts']} prompts, {c['trials']} trials"
    )
    verdict = GateVerdict(check["verdict"])
    return Case(f"regress.{check['measure']}", str(check["label"]), verdict, check["reason"] or said, said)


def _compared(row: MetricComparison, margin: float) -> Case:
    said = (
        f"{row.first} - {row.second}: {row.difference:+.4f} ({row.ci_low:+.4f} to {row.ci_high:+.4f}), adjusted p "
        f"{row.p_adjusted:.4g}, {row.n} pairs; a loss of {margin:g} is allowed"
    )
    return Case("evaluate.baseline", _named(row, row.first), row_gate(row, margin), said, said)


def _required(one: Decided) -> Case:
    least = not math.isnan(one.at_least)
    bound = f"at least {one.at_least:g}" if least else f"at most {one.at_most:g}"
    measured = f"{one.value:.4f} ({one.ci_low:.4f} to {one.ci_high:.4f}), n {one.n}"
    said = f"{bound} is required; {'nothing was measured' if math.isnan(one.value) else measured}"
    return Case("evaluate.requirement", _named(one, one.model), REQUIRED[one.verdict], said, said)


def _named(row: MetricComparison | Decided, model: str) -> str:
    return " ".join(part for part in (model, row.suite, row.metric, row.judge and f"({row.judge})") if part)


def _legal(text: str) -> str:
    return ILLEGAL.sub("\ufffd", text)
