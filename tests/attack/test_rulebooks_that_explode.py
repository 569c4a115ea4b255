"""Rulebooks whose work grows out of all proportion to their file: bounded, and told in a few lines."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from evals.rules.check import check_rulebook, require_sound
from evals.rules.rulebook import load_rulebook
from evals.values.conversation import ResponseType
from evals.values.errors import InputError
from harness.report.rulebook import view_rulebook

HEAD = "completion_class_order: [%s]\ncompletion_classes:\n%s"


@pytest.fixture(autouse=True)
def soon() -> Iterator[None]:
    """Ten times what each takes on a busy machine, and a thousandth of what it took."""
    start = time.process_time()
    yield
    assert time.process_time() - start < 20


def write(folder: Path, classes: list[str], simple: int, derived: str = "") -> Path:
    path = folder / "rules.yaml"
    order = ", ".join(f"c{k}" for k in range(len(classes)))
    body = "".join(f"  c{k}: {{comply: {{{body}}}}}\n" for k, body in enumerate(classes))
    rules = "".join(f"  p{k}: {{prompt: question {k}}}\n" for k in range(simple))
    path.write_text(f"{HEAD % (order, body)}{derived}simple_propositions:\n{rules}", encoding="utf-8")
    return path


def fans(first: str, second: str) -> str:
    """Forty levels, each of two propositions that both name both of the level below."""
    levels = [
        f"  d{k}: {{{first % (k + 1, k + 1)}}}\n  e{k}: {{{second % (k + 1, k + 1)}}}\n" for k in range(40)
    ]
    return "derived_propositions:\n" + "".join([*levels, "  d40: {p0: true}\n", "  e40: {p1: true}\n"])


def test_derived_propositions_that_fan_out(tmp_path: Path) -> None:
    """Guards: two to the fortieth expansions of what forty levels say, which are two propositions."""
    path = write(tmp_path, ["d0: true", "d0: false"], 2, fans("d%d: true, e%d: true", "d%d: true, e%d: true"))
    condition = load_rulebook(path).conditions_for(ResponseType.COMPLY)["c0"]
    assert dict(condition.literals) == {"p0": True, "p1": True}
    assert [f.kind for f in check_rulebook(load_rulebook(path)) if f.is_error] == []


def test_a_condition_that_grows_without_bound_is_refused(tmp_path: Path) -> None:
    """Guards: complements of conjunctions, which share nothing, written out without end."""
    derived = fans("d%d: false, e%d: false, p0: true", "d%d: false, e%d: false, p1: true")
    with pytest.raises(InputError, match=r"rules.yaml:\d+: field '.*' grows to more than 1000 propositions"):
        load_rulebook(write(tmp_path, ["d0: true", "d0: false"], 2, derived))


def test_too_many_entries_are_refused(tmp_path: Path) -> None:
    """Guards: a hundred thousand propositions read for minutes."""
    with pytest.raises(InputError, match="'simple_propositions': has 1001 entries, and 1000 are the most"):
        load_rulebook(write(tmp_path, ["p0: true", "p0: false"], 1001))
    with pytest.raises(InputError, match="'completion_classes': has 501 entries"):
        load_rulebook(write(tmp_path, ["p0: true"] * 501, 1))
    with pytest.raises(InputError, match="more than 50000 values|larger than"):
        load_rulebook(write(tmp_path, ["p0: true"], 100_000))


def test_many_findings_are_ten_and_a_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards: 44,101 lines of errors."""
    path = write(tmp_path, [f"p{k}: true" for k in range(100)], 100)
    assert view_rulebook(path) == 2
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("error:") == 10
    assert "4951 errors, 0 warnings; 4941 of them are not shown" in shown
    with pytest.raises(InputError, match="classes 'c0' and 'c1' of comply overlap"):
        require_sound(load_rulebook(path))


def test_a_check_that_would_not_end_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: an exact search of a hard case for hours; and one given up, passed as sound."""
    monkeypatch.setattr("evals.rules.check.Steps.__init__.__defaults__", (3000,))
    draw = random.Random(0)
    names = [f"p{k}" for k in range(60)]
    classes = [
        ", ".join(f"{n}: {draw.choice(['true', 'false'])}" for n in draw.sample(names, 3)) for _ in range(200)
    ]
    rulebook = load_rulebook(write(tmp_path, classes, 60))
    (unchecked,) = [finding for finding in check_rulebook(rulebook) if finding.kind == "unchecked"]
    assert unchecked.is_error
