"""The workflow and the hooks of docs/gate.md: their commands run; and the project's own gate."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from gate_world import read_json
from tiny_runs import Checkout

from harness.storage.digest import digest_files
from harness.storage.provenance import ROOT
from harness.subjects.completions import SETS, find_completions, read_completions, set_rulebook
from rbrbench.cli import main

PAGE = ROOT / "docs" / "gate.md"
WORKFLOW = ROOT / ".github" / "workflows" / "reward-gate.yml"
SANDBOX = SETS / "sandbox"
FROZEN = ("completions.jsonl.gz", "fitting.jsonl.gz", "recorded.jsonl.gz", "rulebook.yaml")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("checkout"))


def test_the_workflow_runs_the_gate(checkout: Checkout) -> None:
    """A workflow that was never run: a wrong path in it is found on the first pull request."""
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    steps = workflow["jobs"]["gate"]["steps"]
    commands = [step["run"] for step in steps if step.get("run", "").startswith("rbrbench")]
    assert len(commands) == 1 and commands[0] in PAGE.read_text(encoding="utf-8")
    assert workflow["permissions"] == {"contents": "read"}
    summary = next(step["run"] for step in steps if "GITHUB_STEP_SUMMARY" in step.get("run", ""))
    done = checkout.line(commands[0])
    assert done.returncode == 0, done.stderr
    assert checkout.shell(f"GITHUB_STEP_SUMMARY=summary.md bash -c '{summary}'").returncode == 0
    assert (checkout.folder / "summary.md").read_text(encoding="utf-8").startswith("## Reward gate: no worse")


def test_the_hooks_name_commands_that_exist(checkout: Checkout) -> None:
    hooks = {hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
    page = PAGE.read_text(encoding="utf-8")
    (example,) = re.findall(r"^```yaml\n(repos:.*?)^```", page, re.MULTILINE | re.DOTALL)
    used = yaml.safe_load(example)["repos"][0]["hooks"]
    assert {hook["id"] for hook in used} == set(hooks)
    for hook in hooks.values():
        assert checkout.line(f"{hook['entry']} --help").returncode == 0


def test_a_set_is_made_of_a_finished_run_and_never_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second set under the first one's name would void every gate that named it."""
    (tmp_path / "run").mkdir()
    assert main(["freeze", str(tmp_path / "run"), str(tmp_path / "set"), "mine-1"]) == 2
    assert "run: no finished run lies here; name one" in capsys.readouterr().err
    (tmp_path / "run" / "stages.jsonl").write_text("{}\n")
    name = str(read_json(SANDBOX / "manifest.json")["set"])
    assert main(["freeze", str(tmp_path / "run"), str(SANDBOX), name]) == 2
    assert f"sandbox: holds the set '{name}', and a set is never changed" in capsys.readouterr().err
    assert main(["freeze", str(tmp_path / "run"), str(tmp_path / "set"), "a/b"]) == 2
    assert "field 'SET': is 'a/b'" in capsys.readouterr().err
    assert main(["freeze", str(tmp_path / "run")]) == 2 and not (tmp_path / "set").exists()


def test_the_default_rulebook_passes_its_gate(tmp_path: Path) -> None:
    """The project's own gate: an edit of conf/rulebooks/sandbox.yaml that makes the reward worse stops here."""
    sides = [f"baseline={SANDBOX / 'baseline.yaml'}", f"candidate={SANDBOX / 'reward.yaml'}"]
    assert main(["regress", *sides, f"results={tmp_path}"]) == 0
    report = read_json(tmp_path / "gate" / "gate.json")
    tested = {check["label"] for check in report["checks"] if check["p_adjusted"] is not None}
    assert {"overall", "comply", "hard_refuse", "safe_refuse_1", "safe_refuse_2"} <= tested


def test_the_recorded_rewards_are_those_of_the_baseline(tmp_path: Path) -> None:
    """A frozen record that no longer says what the reward pays would pass any edit, or none."""
    sides = [f"baseline={SANDBOX / 'recorded.jsonl.gz'}", f"candidate={SANDBOX / 'baseline.yaml'}"]
    assert main(["regress", *sides, f"results={tmp_path}"]) == 0
    report = read_json(tmp_path / "gate" / "gate.json")
    assert all(abs(shift["shift"]) < 0.01 for shift in report["shifts"])
    assert all(shift["scale"] is None or 0.99 < shift["scale"] < 1.01 for shift in report["shifts"])
    assert sum(flip["turned_wrong"] + flip["turned_right"] for flip in report["flips"]) <= 2


def test_the_frozen_set_is_frozen() -> None:
    """Completions that change under a baseline: every comparison with an earlier gate is void."""
    manifest = read_json(SANDBOX / "manifest.json")
    assert manifest["digest"] == digest_files([SANDBOX / name for name in FROZEN])
    file = find_completions("sandbox")
    rulebook = set_rulebook(file)
    assert rulebook is not None and rulebook.digest == manifest["rulebook"]
    completions = read_completions(file, rulebook)
    assert completions.name == manifest["set"] and len(completions) == manifest["completions"]
    assert len(set(completions.prompts)) == manifest["prompts"] >= 500
    for response_type in completions.response_types:
        ideal = [completions.rank[i] == 0 for i in completions.rows(response_type)]
        assert sum(ideal) >= 30, response_type
