"""evals/values/kinds.py and the factory of graders: what is found, and what one line says where nothing is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from evals.graders import GraderSpec, build_grader
from evals.judges import RulebookJudge, build_judge
from evals.rules.rulebook import load_rulebook
from evals.suites import load_suite, suite_source
from evals.values.errors import InputError
from evals.values.kinds import FromOutside, check_kind, code_of, find_kind, found_in, is_outside, kinds_known

ROOT = Path(__file__).parents[2]
RULES = load_rulebook(ROOT / "conf" / "rulebooks" / "sandbox.yaml")
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


NEW_FILES = {
    "evals/graders/new_one.py": "def build(spec, rulebook): ...\n",
    "evals/judges/a_new_one.py": 'KIND = "new_one"\n\n\ndef build(name): ...\n',
    "evals/judges/no_judge.py": "def of(name): ...\n",
    "evals/suites/new_one.py": (
        "from evals.suites.suite import SuiteSource\n"
        "ONE = SuiteSource('new_one', 'new', ('a.csv',), print, 'a page', 'CC0')\n"
    ),
    "evals/models/apis/new_one.py": "from evals.models.apis import chat\n\nAPI = chat.API\n",
    "evals/models/given_texts/new_one.py": "class New: ...\n\n\nDIALECT = New\n",
    "harness/report/exports/new_one.py": "def files(results): ...\n",
}
FOUND = """
from evals.graders import GRADERS
from evals.judges import JUDGES
from evals.models.apis import APIS
from evals.models.given_texts import dialects
from evals.suites import SUITES
from harness.report.exports import EXPORTS, find_export
print(["new_one" in family for family in (GRADERS, JUDGES, APIS, SUITES, EXPORTS)], "no_judge" in JUDGES)
print([dialect.__name__ for dialect in dialects()], find_export("new_one").__module__)
"""


def test_a_new_file_in_a_familys_folder_is_found(tmp_path: Path) -> None:
    """A judge, dialect, suite or format was one file, and a line in a list that somebody had to know of."""
    for floor in ("evals", "harness"):
        shutil.copytree(ROOT / floor, tmp_path / floor, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in NEW_FILES.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", FOUND], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    found, tried = done.stdout.splitlines()
    assert found == "[True, True, True, True, True] False"
    assert tried.endswith("'LlamaCompletion', 'New'] harness.report.exports.new_one")


def test_two_files_of_one_kind_are_told(tmp_path: Path) -> None:
    """The later file silently took the earlier one's place."""
    (tmp_path / "one.py").write_text('KIND = "same"\nbuild = partial(print)\n')
    (tmp_path / "two.py").write_text('KIND = "same"\n\n\ndef build(name): ...\n')
    with pytest.raises(ValueError, match=r"here.one:build and here.two are both of the kind 'same'"):
        found_in("here", [str(tmp_path)], "build")
