"""The stage of capability tasks: what it depends on, and what it refuses before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

from harness.config import CapabilityConfig
from harness.stages.evaluate import capability_settings


def lambada(root: Path, last_word: str) -> Path:
    """A folder with LAMBADA's released file, one passage long."""
    (root / "lambada").mkdir(parents=True, exist_ok=True)
    (root / "lambada" / "lambada_test.jsonl").write_text(json.dumps({"text": f"it is {last_word}"}) + "\n")
    return root


def test_scores_belong_to_the_files_contents(tmp_path: Path) -> None:
    """Other items under the same path were given the old items' scores, as `cached`."""

    def settings(root: Path) -> dict[str, object]:
        return capability_settings(CapabilityConfig(["lambada"], str(root), limit=3))

    first, moved = settings(lambada(tmp_path / "a", "done")), settings(lambada(tmp_path / "b", "done"))
    assert first == moved and str(tmp_path) not in json.dumps(first)
    assert settings(lambada(tmp_path / "a", "over")) != first
    assert capability_settings(CapabilityConfig(["mmlu"])) == {"tasks": ["mmlu"], "root": None, "limit": 400}
