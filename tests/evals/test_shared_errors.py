"""What two graders get wrong together, against counts made by hand."""

from __future__ import annotations

import math

import pytest

from evals.graders.shared_errors import SharedErrors, shared_errors

TRUTH = [{"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 0.0}, {"a": 1.0}, {"a": 1.0}]
FIRST = [{"a": 0.2, "b": 0.9}, {"a": 0.7, "b": None}, {"a": 0.9}, {"a": 0.5}]
SECOND = [{"a": 0.4, "b": 0.8}, {"a": 0.1, "b": 0.3}, {"a": 0.2}, {}]


def test_errors_are_counted_by_kind_and_proposition() -> None:
    """Both grade, or neither counts: an unscored grade is no error, and no right answer."""
    found = shared_errors(["x", "x", "x", "y"], TRUTH, FIRST, SECOND)
    assert found == {("x", "a"): SharedErrors(3, 2, 2, 1), ("x", "b"): SharedErrors(1, 1, 1, 1)}
    assert found["x", "a"].expected == pytest.approx(4 / 3)
    assert math.isnan(SharedErrors(0, 0, 0, 0).expected)
    with pytest.raises(ValueError, match="argument"):
        shared_errors(["x"], TRUTH, FIRST, SECOND)


def test_a_half_is_no_as_for_a_judge() -> None:
    """Beside the judge's verdicts stood errors that it did not make."""
    found = shared_errors(["x"], [{"a": 0.0}], [{"a": 0.5}], [{"a": 0.51}])
    assert found["x", "a"] == SharedErrors(1, 0, 1, 0)


def test_a_level_holds_above_its_cut_as_everywhere() -> None:
    """A grade nearest to the level `some`, which does not hold, was held for a mistake of both."""
    found = shared_errors(["x"], [{"a": 0.5}], [{"a": 0.6}], [{"a": 0.9}], {"a": 0.75})
    assert found["x", "a"] == SharedErrors(1, 0, 1, 0)
