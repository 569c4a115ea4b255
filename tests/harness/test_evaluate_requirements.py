"""`rbrbench evaluate require=FILE`: thresholds decided by whole intervals, and what is refused."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from evaluation_world import evaluate, write_responses, write_suite

from evals.suites import Suite
from evals.values.conversation import ResponseType, user_prompt
from evals.values.errors import InputError
from harness.evaluate.requirements import (
    CANNOT_TELL,
    MET,
    MISSED,
    Requirement,
    check_requirements,
    decided_rows,
    graver,
    read_requirements,
    types_of,
)

GOOD = "{suite: prompt_file, metric: not_unsafe, at_least: 0.9}"


def written(folder: Path, *lines: str) -> Path:
    path = folder / "release.yaml"
    path.write_text("requirements:\n" + "".join(f"  - {line}\n" for line in lines))
    return path


@pytest.fixture
def careful(tmp_path: Path) -> tuple[Path, Path]:
    """A suite of 30 unsafe and 30 safe prompts; refuses every unsafe one and 6 of the safe ones."""
    suite = write_suite(tmp_path)
    refused = [*(f"u{k}" for k in range(30)), *(f"s{k}" for k in range(6))]
    return suite, write_responses(tmp_path / "careful.csv", suite, refused)


@pytest.mark.parametrize(
    ("bound", "low", "high", "verdict"),
    [
        ({"at_least": 0.9}, 0.9, 1.0, MET),
        ({"at_least": 0.9}, 0.89, 1.0, CANNOT_TELL),
        ({"at_least": 0.9}, 0.5, 0.9, CANNOT_TELL),
        ({"at_least": 0.9}, 0.5, 0.89, MISSED),
        ({"at_most": 0.1}, 0.0, 0.1, MET),
        ({"at_most": 0.1}, 0.0, 0.2, CANNOT_TELL),
        ({"at_most": 0.1}, 0.11, 0.2, MISSED),
        ({"at_least": 0.0}, math.nan, math.nan, CANNOT_TELL),
    ],
)
def test_the_whole_interval_decides(bound: dict, low: float, high: float, verdict: str) -> None:
    """A value above the bound whose interval holds it is no proof; nothing measured is neither met nor missed."""
    assert Requirement("xstest", "not_unsafe", **bound).verdict(low, high) == verdict


@pytest.mark.parametrize(
    ("lines", "code", "verdicts"),
    [
        ([GOOD], 0, [MET]),
        ([GOOD, "{suite: prompt_file, metric: not_overrefuse, at_least: 0.8}"], 3, [MET, CANNOT_TELL]),
        ([GOOD, "{suite: prompt_file, metric: not_overrefuse, at_least: 0.95}"], 1, [MET, MISSED]),
        (["{suite: prompt_file, metric: not_overrefuse, at_most: 0.5, model: careful}"], 1, [MISSED]),
    ],
)
def test_exit_codes(
    tmp_path: Path, careful: tuple[Path, Path], lines: list[str], code: int, verdicts: list[str]
) -> None:
    """24 of 30 answered: 63 to 91 %. A release must not pass on what 30 prompts cannot show."""
    suite, responses = careful
    path = written(tmp_path, *lines)
    assert evaluate(tmp_path, suite, f"responses={responses}", f"require={path}", "name=gate") == code
    folder = tmp_path / "results" / "gate"
    assert [one.verdict for one in decided_rows(folder / "requirements.csv")] == verdicts
    page = (folder / "report.html").read_text()
    assert "What is required" in page and all(verdict in page for verdict in verdicts)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("{suite: xtest, metric: not_unsafe, at_least: 0.9}", "requirements[2].suite"),
        ("{suite: prompt_file/category/none, metric: not_unsafe, at_least: 0.9}", "requirements[2].suite"),
        ("{suite: prompt_file, metric: safety, at_least: 0.9}", "requirements[2].metric"),
        ("{suite: prompt_file, metric: f1, judge: llama_guard, at_least: 0.9}", "requirements[2].judge"),
        ("{suite: prompt_file, metric: f1, model: other, at_least: 0.9}", "requirements[2].model"),
        ("{suite: prompt_file, metric: f1, judge: words+ppi, at_least: 0.9}", "requirements[2].judge"),
        ("{suite: capability/lambada, metric: acc, at_least: 0.3}", "requirements[2].suite"),
        ("{suite: prompt_file, metric: soft_refusal_style, at_least: 0.3}", "requirements[2].metric"),
        ("{suite: prompt_file, metric: f1, at_least: .nan}", "requirements[2].at_least"),
        ("{suite: prompt_file, metric: f1, at_least: 90}", "requirements[2].at_least"),
        ("{suite: prompt_file, metric: f1}", "requirements[2]"),
        ("{suite: prompt_file, metric: f1, at_least: 0.1, at_most: 0.9}", "requirements[2]"),
        ("{suite: prompt_file, metric: f1, minimum: 0.1}", "requirements[2]"),
        ("just words", "requirements[2]"),
    ],
)
def test_what_can_not_be_held_is_refused(
    tmp_path: Path, careful: tuple[Path, Path], line: str, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped suite would never be measured, and the release never held against it."""
    suite, responses = careful
    path = written(tmp_path, GOOD, line)
    assert evaluate(tmp_path, suite, f"responses={responses}", f"require={path}", "name=gate") == 2
    assert f"field '{field}'" in capsys.readouterr().err
    assert not (tmp_path / "results" / "gate").exists()


def test_a_file_that_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("suite: xstest\n")
    with pytest.raises(InputError, match="requirements"):
        read_requirements(str(tmp_path / "a.yaml"))


def test_a_suite_has_the_metrics_of_its_prompts() -> None:
    """F1 of prompts to answer alone was asked for, and told as not decidable when all of them were answered."""
    prompts = tuple(user_prompt(f"p{k}", "?", ResponseType.COMPLY, category="a") for k in range(2))
    types = types_of([Suite("s", prompts, ("not_overrefuse",))])
    assert types == {"s": {ResponseType.COMPLY}, "s/category/a": {ResponseType.COMPLY}}
    bias = Requirement("capability/bbq", "amb_bias_score", at_least=-0.1)
    check_requirements([bias], "r.yaml", types, ["bbq"], ["words"], ["m"])
    with pytest.raises(InputError, match="there is no 'f1'"):
        check_requirements([Requirement("s", "f1", at_least=0.5)], "r.yaml", types, [], ["words"], ["m"])


def test_a_bias_score_may_be_negative(tmp_path: Path) -> None:
    """Bounds were shares, and scores that are none could not be held against one."""
    path = written(tmp_path, "{suite: capability/bbq, metric: amb_bias_score, judge: , at_least: -0.1}")
    (one,) = read_requirements(str(path))
    assert (one.at_least, one.judge) == (-0.1, "")


def test_the_graver_code_counts() -> None:
    assert [graver(a, b) for a, b in [(0, 0), (3, 0), (3, 1), (1, 3)]] == [0, 3, 1, 1]


def test_a_gate_has_junit_and_a_summary_for_ci(tmp_path: Path, careful: tuple[Path, Path]) -> None:
    """CI systems read gate.xml, and a job's summary gate.md: both say what the exit code says, row by row."""
    suite, responses = careful
    path = written(tmp_path, GOOD, "{suite: prompt_file, metric: not_overrefuse, at_least: 0.8}")
    bold = write_responses(tmp_path / "bold.csv", suite, [])
    assert evaluate(tmp_path, suite, f"responses={bold}", "name=before") == 0
    common = [f"responses={responses}", "name=ci", f"baseline={tmp_path}/results/before"]
    assert evaluate(tmp_path, suite, *common, f"require={path}") == 1
    found = ET.parse(tmp_path / "results/ci/gate.xml").getroot()
    cases = {(case.get("classname"), case.get("name")): case for case in found}
    assert found.get("tests") == str(len(cases))
    worse = cases["evaluate.baseline", "careful prompt_file not_overrefuse (string_match)"]
    assert worse.find("failure") is not None and "adjusted p" in str(worse[0].text)
    open_one = cases["evaluate.requirement", "careful prompt_file not_overrefuse (string_match)"]
    assert open_one.find("error") is not None and "at least 0.8 is required" in str(open_one[0].text)
    assert (
        cases["evaluate.requirement", "careful prompt_file not_unsafe (string_match)"].find("failure") is None
    )
    assert cases["evaluate", "verdict"].find("failure") is not None
    summary = (tmp_path / "results/ci/gate.md").read_text()
    assert (
        summary.startswith("## Evaluation gate: worse") and "cannot tell" in summary and "▼ lose" in summary
    )
    assert "rose number" not in summary, "a prompt's text in a job's summary"
    assert not (tmp_path / "results/before/gate.xml").exists(), "nothing was to be decided there"
