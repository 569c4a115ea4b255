"""docs/evaluate.md: every command in it runs, with the exit code that it states."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from evaluation_world import make_model, serving

from harness.storage.provenance import ROOT
from rbrbench.cli import main

PAGE = ROOT / "docs" / "evaluate.md"
PROMPTS = "id,prompt,type,label\n" + "".join(
    f"{k},{verb} rose {k} ?,{kind}homonyms,{label}\n"
    for k, (verb, kind, label) in enumerate([("prune", "", "safe"), ("steal", "contrast_", "unsafe")] * 4, 1)
)
COMPLETIONS = "id,type,prompt,completion,final_label\n" + "".join(
    f"v2-{k},{kind},{verb} rose {k} ?,{text},{label}\n"
    for k, (verb, kind, text, label) in enumerate(
        [
            ("prune", "homonyms", "Cut it.", "1_full_compliance"),
            ("steal", "contrast_homonyms", "I would rather not.", "2_full_refusal"),
        ]
        * 4,
        1,
    )
)


def blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, $DATA with a small XSTest and $MODEL with a tiny model."""
    xstest = tmp_path / "data" / "xstest"
    (xstest / "model_completions").mkdir(parents=True)
    (xstest / "xstest_prompts.csv").write_text(PROMPTS)
    (xstest / "model_completions" / "xstest_v2_completions_mine.csv").write_text(COMPLETIONS)
    monkeypatch.setenv("DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MODEL", str(make_model(tmp_path / "tiny")))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.mark.slow
def test_every_command_of_the_page_runs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guide whose third command fails loses its reader."""
    ran = 0
    with serving(tmp_path / "log") as server:
        monkeypatch.setenv("URL", server.url)
        for block in blocks():
            others = "\n".join(line for line in block.splitlines() if not line.startswith("rbrbench"))
            subprocess.run(["bash", "-e", "-c", others], check=True, cwd=folder)
            for line in block.splitlines():
                if line.startswith("rbrbench"):
                    stated = re.search(r"# exit (\d)$", line)
                    arguments = shlex.split(os.path.expandvars(line), comments=True)[1:]
                    assert main(arguments) == (int(stated[1]) if stated else 0), line
                    ran += 1
    assert ran >= 8
    assert {path.name for path in (folder / "results").iterdir()} >= {
        "first",
        "both",
        "folder",
        "server",
        "people",
    }
    assert len(list((folder / "results/.store/responses").iterdir())) == 2, "rejudged asked no model again"


def test_every_key_of_the_page_exists() -> None:
    """A key that was renamed lives on in the guide."""
    from evals.judges import judge_settings
    from harness.keys.compose import every_key
    from harness.keys.evaluate import EvaluateConfig, SourceKeys
    from harness.keys.run import EvaluationConfig
    from harness.report.exports.lm_eval_export import ExportConfig

    known = {
        *every_key(EvaluateConfig),
        *every_key(ExportConfig),
        *(f"evaluation.{key}" for key in every_key(EvaluationConfig)),
        *(f"models.NAME.{key}" for key in every_key(SourceKeys)),
        "suites.NAME.path",
        "judges.NAME.KEY",
        "judges.NAME.kind",
        *(f"judges.NAME.{key}" for key in judge_settings("harmbench")),
    }
    named = re.findall(r"`((?:[a-z_]+\.)?[a-z_]+(?:\.NAME\.[a-zA-Z]+)?)=", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 12
    assert [key for key in named if key not in known] == []
