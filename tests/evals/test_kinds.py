"""evals/values/kinds.py and the factory of graders: what is found, and what one line says where nothing is."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.graders.build import GraderSpec, build_grader
from evals.judges import build_judge
from evals.suites import load_suite, suite_source
from evals.values.errors import InputError
from evals.values.kinds import check_kind, find_kind, is_outside, kinds_known

TABLE = {"inside": "evals.values.kinds:is_outside", "itself": 3}


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kinds_broken.py").write_text("import no_such_package\n")
    (tmp_path / "kinds_wrong.py").write_text("NUMBER = 3\ndef build(spec, rulebook):\n    return NUMBER\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_kind_is_a_name_of_the_table_or_an_attribute() -> None:
    """A member of one's own needed a fork."""
    assert find_kind("thing", "inside", TABLE, "things") is is_outside
    assert find_kind("thing", "itself", TABLE, "things") == 3
    assert find_kind("thing", "evals.values.kinds:is_outside", TABLE, "things") is is_outside
    assert kinds_known(TABLE) == "inside, itself, or your own as MODULE:ATTRIBUTE"
    check_kind(
        "thing", "not.there:yet", TABLE, "things"
    )  # checked without import: keys are read before models


@pytest.mark.parametrize("kind", ["other", "a:b:c", "a b:c", ":c", "a:", "../a:b", "", "os.system"])
def test_what_is_neither_is_refused(kind: str) -> None:
    """A misspelt name ended in an import of it."""
    with pytest.raises(
        InputError, match="field 'things': unknown thing .*use one of inside, itself, or your own"
    ):
        find_kind("thing", kind, TABLE, "things")


@pytest.mark.usefixtures("outside")
def test_one_line_for_each_way_of_not_being_there() -> None:
    """A traceback of importlib, from deep inside a run."""
    for kind, problem in (
        ("kinds_gone:build", "importing kinds_gone fails .ModuleNotFoundError: No module named 'kinds_gone'"),
        ("kinds_broken:build", "importing kinds_broken fails .*no_such_package"),
        ("kinds_wrong:other", "kinds_wrong has no 'other'"),
    ):
        with pytest.raises(InputError, match=problem) as caught:
            find_kind("thing", kind, TABLE, "things")
        assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("outside")
def test_what_is_found_and_is_no_member_is_said() -> None:
    """A wrong attribute of a right module failed where it was first asked, hours later."""
    with pytest.raises(InputError, match="'kinds_wrong:NUMBER' cannot be called"):
        build_grader(GraderSpec("kinds_wrong:NUMBER"))
    with pytest.raises(InputError, match="'kinds_wrong:build' gave a int, which is no grader"):
        build_grader(GraderSpec("kinds_wrong:build"))
    with pytest.raises(InputError, match="'kinds_wrong:NUMBER' is no SuiteSource"):
        suite_source("kinds_wrong:NUMBER")
    with pytest.raises(InputError, match="field 'judges': 'kinds_wrong:NUMBER' cannot be called"):
        build_judge("mine", {"kind": "kinds_wrong:NUMBER"})
    with pytest.raises(InputError, match="unknown suite 'mine'.*or your own as MODULE:ATTRIBUTE"):
        load_suite("mine")
