"""JUnit XML: one test case a row of the gate's table, for CI systems that show such files."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from harness.keys.gate import GateVerdict
from harness.record.run import JsonRow, number

ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0


def junit_xml(gate: JsonRow) -> bytes:
    """A failure for worse, an error for cannot tell, skipped for what is only shown; `gate` is gate.json.

    The last case is the verdict itself: too much unscored fails no single row.
    """
    suite = ET.Element("testsuite", name="rbrbench regress")
    for check in gate["checks"]:
        name = _legal(check["label"])
        case = ET.SubElement(suite, "testcase", classname=f"regress.{check['measure']}", name=name)
        said = _figures(check)
        _state(case, check["verdict"], check["reason"] or said, said)
    case = ET.SubElement(suite, "testcase", classname="regress", name="verdict")
    _state(case, gate["verdict"], "; ".join(gate["reasons"]), gate["completions"]["truth"])
    for kind, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(kind, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("tests", str(len(gate["checks"]) + 1))
    ET.indent(suite)
    return ET.tostring(suite, encoding="utf-8", xml_declaration=True) + b"\n"


def _state(case: ET.Element, verdict: str, message: str, text: str) -> None:
    tags = {GateVerdict.WORSE: "failure", GateVerdict.CANNOT_TELL: "error", GateVerdict.NOT_TESTED: "skipped"}
    tag = tags.get(GateVerdict(verdict))
    if tag is not None:
        state = ET.SubElement(case, tag, message=_legal(message))
        state.text = _legal(text)
    else:
        ET.SubElement(case, "system-out").text = _legal(text)


def _figures(check: JsonRow) -> str:
    c = check["change"]
    before, after, change, low, high = (
        number(c, name) for name in ("baseline", "candidate", "change", "low", "high")
    )
    return (
        f"baseline {before:.4f}, candidate {after:.4f}, change {change:+.4f} ({low:+.4f} to {high:+.4f}), adjusted p "
        f"{number(check, 'p_adjusted'):.4g}, {c['prompts']} prompts, {c['trials']} trials"
    )


def _legal(text: str) -> str:
    return ILLEGAL.sub("\ufffd", text)
