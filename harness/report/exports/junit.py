"""JUnit XML: one test case a row of the gate's table, for CI systems that show such files."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from harness.gate.gate import GateReport
from harness.gate.verdict import Check, GateVerdict

ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0


def junit_xml(report: GateReport) -> bytes:
    """A failure for worse, an error for cannot tell, skipped for what is only shown.

    The last case is the verdict itself: too much unscored fails no single row.
    """
    checks = report.outcome.checks
    suite = ET.Element("testsuite", name="rbrbench regress")
    for check in checks:
        case = ET.SubElement(
            suite, "testcase", classname=f"regress.{check.measure}", name=_legal(check.label)
        )
        _state(case, check.verdict, check.reason or _figures(check), _figures(check))
    case = ET.SubElement(suite, "testcase", classname="regress", name="verdict")
    _state(case, report.outcome.verdict, "; ".join(report.outcome.reasons), report.truth)
    for kind, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(kind, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("tests", str(len(checks) + 1))
    ET.indent(suite)
    return ET.tostring(suite, encoding="utf-8", xml_declaration=True) + b"\n"


def _state(case: ET.Element, verdict: GateVerdict, message: str, text: str) -> None:
    tags = {GateVerdict.WORSE: "failure", GateVerdict.CANNOT_TELL: "error", GateVerdict.NOT_TESTED: "skipped"}
    if verdict in tags:
        state = ET.SubElement(case, tags[verdict], message=_legal(message))
        state.text = _legal(text)
    else:
        ET.SubElement(case, "system-out").text = _legal(text)


def _figures(check: Check) -> str:
    c = check.change
    return (
        f"baseline {c.baseline:.4f}, candidate {c.candidate:.4f}, change {c.change:+.4f} "
        f"({c.low:+.4f} to {c.high:+.4f}), adjusted p {check.p_adjusted:.4g}, {c.prompts} prompts, {c.trials} trials"
    )


def _legal(text: str) -> str:
    return ILLEGAL.sub("\ufffd", text)
