"""harness/worlds/folder.py: whatever fills a world's folder, a run finds its files by one set of names."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.rules.rulebook import load_rulebook
from evals.values.conversation import user_prompt
from evals.values.errors import InputError
from harness.keys.run import compose_run
from harness.worlds.folder import AS_JSON, WorldFolder
from harness.worlds.sandbox.generate import write_sandbox


def test_the_sandbox_fills_every_file(tmp_path: Path) -> None:
    """A writer and a reader each spelled the name of a file, in ten modules; one was renamed."""
    config = compose_run(["experiment=smoke"])
    write_sandbox(tmp_path, config.sandbox, 0, load_rulebook(config.rulebook_path), config.model.context)
    assert {path.stem for path in tmp_path.glob("*.jsonl")} == {*AS_JSON} - {"held_out_prompts"}
    folder = WorldFolder(tmp_path)
    assert folder.documents() and folder.eval_prompts() and folder.tokenizer.is_dir()
    assert folder.sandbox.is_file() and folder.knowledge("mmlu").is_file()


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    """A world of one's own wrote a form that no stage could read."""
    folder = WorldFolder(tmp_path)
    prompts = [user_prompt("a", "x"), user_prompt("b", "y\nz")]
    folder.write("prompts_helpful", prompts)
    folder.write_documents(["one", "two"])
    folder.write_summary({"suite": "mine"})
    assert folder.prompts("helpful") == prompts
    assert folder.documents() == ["one", "two"] and folder.summary() == {"suite": "mine"}


def test_other_names_are_refused(tmp_path: Path) -> None:
    """A misspelt file was written and read by nobody; a missing one ended in a traceback."""
    with pytest.raises(KeyError):
        WorldFolder(tmp_path).write("prompts_help", [])
    with pytest.raises(InputError):
        WorldFolder(tmp_path).eval_prompts()
