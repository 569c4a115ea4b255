"""evals/values/kinds.py and the factory of graders: what is found, and what one line says where nothing is."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.graders import GraderSpec, build_grader
from evals.judges import RulebookJudge, build_judge
from evals.rules.rulebook import load_rulebook
from evals.suites import load_suite, suite_source
from evals.values.errors import InputError
from evals.values.kinds import FromOutside, check_kind, code_of, find_kind, is_outside, kinds_known

RULES = load_rulebook(Path(__file__).parents[2] / "conf" / "rulebooks" / "sandbox.yaml")
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


def test_changed_code_is_another_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdicts of a judge's old code were given as those of its new one."""
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "kinds_changed"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "words.py").write_text("SORRY = 'sorry'\n")
    (package / "judges.py").write_text(
        "class Judge:\n"
        "    name, identity = 'mine', 'mine 1'\n"
        "    def judge(self, responses):\n        return []\n"
        "class Grader:\n"
        "    name = 'mine'\n"
        "    def grade(self, responses, propositions):\n        return None\n"
        "def judge(name):\n    return Judge()\n"
        "def grader(spec, rulebook):\n    return Grader()\n"
    )
    kind, names = "kinds_changed.judges:judge", {"kind": "kinds_changed.judges:judge"}
    before, code = build_judge("mine", names), code_of("kinds_changed.judges:judge")
    grader = build_grader(GraderSpec("kinds_changed.judges:grader", "one"))
    other = build_grader(GraderSpec("kinds_changed.judges:grader", "two"))
    assert isinstance(before, FromOutside) and before.identity == f"mine 1 of code {code}"
    assert not hasattr(grader, "identity") and grader.name == "mine"
    made_of = RulebookJudge(RULES, grader).identity
    assert made_of != RulebookJudge(RULES, other).identity
    (package / "words.py").write_text("SORRY = 'cannot'\n")  # what the member's own file imports counts too
    assert code_of(kind) != code and build_judge("mine", names).identity != before.identity
    again = build_grader(GraderSpec("kinds_changed.judges:grader", "one"))
    assert RulebookJudge(RULES, again).identity != made_of
