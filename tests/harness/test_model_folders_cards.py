"""harness/report/exports/trained.py: what a handed-out model says of itself, and what stands beside it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from evals.models.folder import BESIDE
from harness.keys.methods import METHODS
from harness.record.run import ResultsFolder
from harness.report.exports.trained import _name_base, _training, adapted, claims_about
from harness.storage.digest import ADAPTER
from harness.storage.provenance import ROOT


def test_a_card_has_the_claims_about_its_method() -> None:
    """It said which model is best, and none of the claims that the run was made to test."""
    told = claims_about(ResultsFolder(ROOT / "results" / "reference"), "rbr_ppo")
    assert told.startswith("\n## The paper's claims\n\nBy the oracle")
    assert "- 2. RBR-PPO is safer than Helpful-PPO. Held.\n" in told and "- 9." in told
    assert "- 9." not in claims_about(ResultsFolder(ROOT / "results" / "reference"), "human_ppo")
    smollm = claims_about(ResultsFolder(ROOT / "results" / "reference_smollm"), "rbr_ppo")
    assert "Undecided." in smollm


def test_an_adapter_names_the_model_beneath_it(tmp_path: Path) -> None:
    """Peft asked the hub for a model of no name."""
    models = {
        f"{name} {seed}": {"method": name, "seed": seed} for seed in (0, 1) for name in ("rbr_ppo", "rbr_sft")
    }
    record: Any = SimpleNamespace(
        record={"models": models}, folder=SimpleNamespace(methods=METHODS, path=tmp_path / "own")
    )
    config = {"model": {"path": "given"}}
    assert adapted(record, config, "rbr_ppo 1") == str(tmp_path / "own" / "models" / "rbr_sft 1")
    assert adapted(record, config, "rbr_sft 0") == "given"
    models["rbr_grpo 1"] = {"method": "rbr_grpo", "seed": 1}
    assert adapted(record, config, "rbr_grpo 1") == adapted(record, config, "rbr_ppo 1")
    (tmp_path / BESIDE).mkdir()
    kept, file = tmp_path / "kept.json", tmp_path / BESIDE / ADAPTER
    kept.write_text('{"r": 2, "base_model_name_or_path": null}')
    file.hardlink_to(kept)
    _name_base(file, "given")
    assert json.loads(file.read_text()) == {"r": 2, "base_model_name_or_path": "given"}
    assert "null" in kept.read_text(), "the store's own file was changed"


def test_a_policy_of_another_algorithm_is_no_sft_model() -> None:
    """Cards of GRPO's models said supervised fine-tuning, on no demonstrations."""
    config = {
        "model": {"path": "given"},
        "algorithm": "grpo",
        "rulebook": "short",
        "grader": {"kind": "server"},
    }
    told = _training(config, {"method": "rbr_grpo[ppo.kl_coef=0.1]", "seed": 0, "checkpoint": 2})
    assert ": GRPO on helpful and safety prompts, from the rbr SFT model" in told
    assert told.endswith("rulebook short, graded by server.")
    told = _training(config, {"method": "rbr_sft", "seed": 0, "checkpoint": "sft"})
    assert told.endswith("supervised fine-tuning on rbr demonstrations.")
