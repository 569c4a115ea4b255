"""`import rbrbench`: what a program is given, what it costs, its page, and other packages of our packages' names."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import rbrbench
from harness.storage.provenance import ROOT
from rbrbench.neighbours import NEIGHBOURS

NAMES = {name: module for names in rbrbench.CHAPTERS.values() for name, module in names.items()}


def python(
    *arguments: str, path: str = str(ROOT), cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def api_page() -> ModuleType:
    """docs/api.py, which is a program and no package."""
    spec = importlib.util.spec_from_file_location("api", ROOT / "docs" / "api.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there_and_documented(name: str) -> None:
    """A name stayed in the list after what it named had moved."""
    assert getattr(rbrbench, name).__doc__
    assert name in dir(rbrbench)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """`hasattr` raised, or a private name was handed on."""
    assert not hasattr(rbrbench, "Learner")


def test_type_checkers_see_the_same_names() -> None:
    """A name was handed on whose type no checker knew."""
    (block,) = (
        node for node in ast.parse(Path(rbrbench.__file__).read_text()).body if isinstance(node, ast.If)
        and ast.unparse(node.test) == "TYPE_CHECKING"
    )  # fmt: skip
    seen = {a.name: i.module for i in block.body if isinstance(i, ast.ImportFrom) for a in i.names}
    assert seen == NAMES


def test_importing_loads_nothing() -> None:
    """A program that only reads results waited seconds for torch."""
    program = (
        "import sys, rbrbench; print(sorted({'torch', 'numpy', 'harness', 'evals'} & set(sys.modules)));"
        "rbrbench.load_rulebook; print('torch' in sys.modules)"
    )
    done = python("-c", program)
    assert (done.returncode, done.stdout.split("\n")[:2]) == (0, ["[]", "False"]), done.stderr


def test_page_is_that_of_the_docstrings() -> None:
    """The page described arguments that a function no longer had, or left out all that stood behind a name that its
    module only imported. `python docs/api.py` writes it anew.
    """
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert api_page().page() == page
    assert re.findall(r"^### (\w+)$", page, re.M) == rbrbench.__all__


def test_program_on_the_page_runs() -> None:
    """An example that its reader copies and that fails."""
    (program,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/api.md").read_text(), re.M | re.S)
    done = python("-c", program, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "0.5" in done.stdout


def test_a_program_evaluates_and_reads_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Only the command line could evaluate; a program had to start a process and find the folder."""
    monkeypatch.chdir(tmp_path)
    row = '{"id": "p1", "prompt": "prune roses ?", "response_type": "comply", "category": "garden"}\n'
    Path("prompts.jsonl").write_text(row)
    Path("responses.csv").write_text("id,response\np1,Cut it above a bud.\n")
    keys = ["suites=[prompt_file]", "suites.prompt_file.path=prompts.jsonl", "responses=responses.csv"]
    results = rbrbench.evaluate(*keys, "name=mine")
    again = rbrbench.read_results("results/mine")
    assert results.path == again.path and results.metrics == again.metrics
    values = {row.metric: row.value for row in again.metrics if row.suite == "prompt_file"}
    assert values["not_overrefuse"] == 100.0 or values["not_overrefuse"] == 1.0
    with pytest.raises(rbrbench.InputError, match="there is no metrics.csv here"):
        rbrbench.read_results(tmp_path)


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """`rbrbench` as pip writes it into bin/."""
    script = tmp_path / "bin" / "rbrbench"
    script.parent.mkdir()
    script.write_text("import sys\nfrom rbrbench.cli import main\nsys.exit(main())\n")
    return script


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_another_package_of_the_same_name_is_named(tmp_path: Path, command: Path, name: str) -> None:
    """PyPI's `evals` stood in for ours: a traceback about a module that nobody had written."""
    other = tmp_path / "other" / name
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise SystemExit('the other package ran')\n")
    path = os.pathsep.join([str(other.parent), str(ROOT)])
    line = f"the package '{name}' of {other.parent} is imported in place of rbrbench's own"
    for entry in ([str(command)], ["-m", "rbrbench"]):
        done = python(*entry, "--help", path=path, cwd=tmp_path)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.count("\n") == 1 and done.stderr.startswith(f"rbrbench: {line}"), done.stderr
        assert "; uninstall the other or take its folder off PYTHONPATH" in done.stderr
    others = ["rbrbench.worker", *(["harness.commands.main"] if name != "harness" else [])]
    for module in others:  # a process of a training printed the other's traceback, once for each process
        done = python("-m", module, "training.json", path=path, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith(f"rbrbench: {line}")
        assert done.stderr.count("\n") == 1
    done = python("-c", "import rbrbench", path=path, cwd=tmp_path)
    assert done.returncode == 1 and f"ImportError: {line}" in done.stderr.splitlines()[-1]


def test_a_plain_module_of_the_same_name_is_named(tmp_path: Path) -> None:
    """A user's own evals.py in the working folder is as foreign as a package."""
    (tmp_path / "evals.py").write_text("")
    done = python("-m", "rbrbench", "--help", cwd=tmp_path)
    assert done.returncode == 2 and "the package 'evals' of" in done.stderr


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    """A copy without one of its packages ended in a traceback."""
    shutil.copytree(ROOT / "rbrbench", tmp_path / "rbrbench")
    done = python("-S", "-m", "rbrbench", "--help", path=str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2 and "rbrbench's own package 'conf' is not installed" in done.stderr


@pytest.mark.parametrize("module", ["rbrbench", "harness.commands.main"])
def test_both_modules_are_the_command(module: str) -> None:
    """The entry moved, and scripts that name the old module stopped."""
    done = python("-m", module, "--help")
    assert done.returncode == 0 and "usage: rbrbench COMMAND" in done.stdout
