"""docs/evaluate.md: its keys; `test_guides` runs its commands."""

from __future__ import annotations

import re

from harness.storage.provenance import ROOT

PAGE = ROOT / "docs" / "evaluate.md"


def test_every_key_of_the_page_exists() -> None:
    """A key that was renamed lives on in the guide."""
    from evals.judges import judge_settings
    from harness.keys.compose import every_key
    from harness.keys.evaluate import EvaluateConfig
    from harness.keys.evaluation import EvaluationConfig
    from harness.keys.export import ExportConfig
    from harness.keys.report import ReportConfig
    from harness.keys.subject import SourceKeys

    known = {
        *every_key(EvaluateConfig),
        *every_key(ExportConfig),
        *every_key(ReportConfig),
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
