"""harness/storage/provenance.py: an edit invalidates the stages that use the edited code, and no others."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from harness.storage import provenance
from harness.storage.provenance import git_commit, module_versions

SOURCES = {
    "evals/__init__.py": "",
    "evals/rules.py": '"""Rules."""\n\ndef weight(x):\n    """Twice."""\n    return 2 * x\n',
    "evals/text.py": "LIMIT = 40\n",
    "trainers/__init__.py": "",
    "trainers/reward.py": "def reward(x):\n    from evals import rules\n    return rules.weight(x)\n",
    "trainers/sft.py": "from evals.text import LIMIT\n",
}


def tree(root: Path, **changed: str) -> Path:
    for name, source in SOURCES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(changed.get(name.split("/")[1].removesuffix(".py"), source))
    return root


def digests(root: Path) -> dict[str, str]:
    return module_versions([], ["trainers.reward", "trainers.sft"], root=root)


def changed(tmp_path: Path, **sources: str) -> set[str]:
    before, after = digests(tree(tmp_path / "before")), digests(tree(tmp_path / "after", **sources))
    return {name for name in before if before[name] != after[name]}


def test_an_edit_counts_where_it_is_used(tmp_path: Path) -> None:
    """A formula was edited two imports away and the old weights were served from the store."""
    assert changed(tmp_path, rules="def weight(x):\n    return 3 * x\n") == {"trainers.reward"}


def test_an_edit_elsewhere_does_not_count(tmp_path: Path) -> None:
    """Every commit made every stage run again."""
    assert changed(tmp_path, text="LIMIT = 41\n") == {"trainers.sft"}


def test_comments_docstrings_and_layout_do_not_count(tmp_path: Path) -> None:
    """A spelling correction cost an hour of training."""
    same = '"""The rules."""\n# as in the paper\ndef weight(x):\n    """Doubled."""\n    return (2*x)\n'
    assert changed(tmp_path, rules=same) == set()


def test_glue_counts_by_its_own_code_alone(tmp_path: Path) -> None:
    """An edit to how a stage reads its data was ignored; or an edit to any stage counted for all."""

    def version(name: str, **sources: str) -> str:
        return module_versions([], [], ["trainers.reward"], tree(tmp_path / name, **sources))[
            "trainers.reward"
        ]

    assert version("as it is") == version("another rule", rules="def weight(x):\n    return 3 * x\n")
    assert version("as it is") != version("another reward", reward="def reward(x):\n    return 0\n")


def test_packages_give_their_versions() -> None:
    """A result could not be traced to the torch that made it."""
    assert module_versions(["numpy"], []) == {"numpy": metadata.version("numpy")}
    with pytest.raises(metadata.PackageNotFoundError):
        module_versions(["no-such-distribution"], [])


def test_unknown_modules_are_refused() -> None:
    """A renamed module silently stopped counting."""
    with pytest.raises(ModuleNotFoundError, match=r"evals\.gone"):
        module_versions([], ["evals.gone"])


def test_real_modules_have_digests() -> None:
    """The closure of a real module, with its packages' own files, can be read."""
    (value,) = module_versions([], ["harness.storage.store"]).values()
    assert len(value) == 12


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_commit_of_the_checkout_and_its_changes(tmp_path: Path) -> None:
    """A result named a commit that could not have produced it."""

    def git(*arguments: str) -> str:
        names = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", *names, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(folder: Path = tmp_path) -> str | None:
        git_commit.cache_clear()
        return git_commit(folder)

    assert commit() is None
    git("init", "--quiet")
    assert commit() is None  # a repository without a commit
    (tmp_path / "code.py").write_text("1\n")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "metrics.csv").write_text("1\n")
    git("add", ".")
    git("commit", "--quiet", "--message", "one")
    head = git("rev-parse", "HEAD")
    assert commit() == head
    (tmp_path / "results" / "metrics.csv").write_text("2\n")
    assert commit() == head  # made anew by the same code
    (tmp_path / "code.py").write_text("2\n")
    assert commit() == f"{head}+changes"
    (tmp_path / "site-packages").mkdir()
    assert commit(tmp_path / "site-packages") is None  # an installed copy inside someone's repository


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where what was read from sources is kept; this process has read none."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forget()
    yield tmp_path / "cache/rbrbench/sources.json"
    monkeypatch.undo()
    forget()


def forget() -> None:
    """As in a new process."""
    provenance._read_module.cache_clear()
    provenance._parsed.cache_clear()


def test_sources_are_parsed_once_for_all_processes(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run began with two seconds in which the same three hundred files were parsed."""
    root = tree(tmp_path / "code")
    before = digests(root)
    forget()
    with monkeypatch.context() as patch:
        patch.delattr("ast.parse")
        assert digests(root) == before and kept.is_file()
    source = root / "evals/rules.py"
    was = source.stat()
    source.write_text(source.read_text().replace("2 * x", "3 * x"))
    os.utime(source, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert source.stat().st_size == was.st_size
    forget()
    assert digests(root)["trainers.reward"] != before["trainers.reward"], (
        "an edit within the clock's tick was missed"
    )


def test_what_is_kept_of_sources_is_believed_whole_or_not_at_all(tmp_path: Path, kept: Path) -> None:
    """A flipped bit in the cache took an import away, and edits to it no longer counted."""
    root = tree(tmp_path / "code")
    before = digests(root)
    whole = kept.read_bytes()
    for place in range(0, len(whole), 37):
        kept.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        forget()
        assert digests(root) == before
    for content in (b"", whole[: len(whole) // 2], whole + b" "):
        kept.write_bytes(content)
        forget()
        assert digests(root) == before
    shutil.rmtree(kept.parent)
    kept.parent.write_text("no folder")
    forget()
    assert digests(root) == before
