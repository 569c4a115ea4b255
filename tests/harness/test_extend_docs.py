"""docs/extend.md: its file stands outside the tree, and every command that names a member of it runs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import Checkout

from evals.values.csv_rows import read_csv
from harness.storage.provenance import ROOT

METHODS = ["brief_ppo", "helpful_ppo", "helpful_sft"]
PAGE = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, smoke_run: Path) -> Checkout:
    """The page's file will lie here; the store has what the page's run does not change."""
    folder = tmp_path_factory.mktemp("outside")
    shutil.copytree(smoke_run / "results" / ".store", folder / "results" / ".store")
    return Checkout(folder, [folder])


def metrics(folder: Path) -> dict[tuple[str, str], tuple[str, str]]:
    rows = read_csv(folder / "metrics.csv", ["suite", "metric", "value", "n_unscored"])
    return {
        (r.values["suite"], r.values["metric"]): (r.values["value"], r.values["n_unscored"]) for r in rows
    }


def training(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_every_member_of_the_page_is_used(checkout: Checkout) -> None:
    """A grader registered as its docstring said ended in KeyError; a judge or suite of one's own needed a fork."""
    files, *commands = re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)
    assert checkout.shell(files).returncode == 0
    lines = [line for block in commands for line in block.splitlines()]
    assert len(lines) == 6
    for line in lines:
        done = checkout.shell(line)
        assert done.returncode == 0, f"{line}\n{done.stdout[-1000:]}\n{done.stderr[-1500:]}"
    results = checkout.folder / "results"
    found = metrics(results / "garden")
    assert float(found["my_members:GARDEN", "not_overrefuse"][0]) in (0.5, 50.0)
    assert (results / "length" / "weights.json").is_file()
    assert "garden" in (results / "garden" / "report.html").read_text()
    assert (results / "short" / "weights.json").is_file()
    assert ("my_members:GARDEN", "not_overrefuse") in metrics(results / "rules")
    brief = [row for row in training(results / "brief") if row["method"] == "brief_ppo"]
    assert all(row["score/brevity"] < 0 and "score/reward_model" in row for row in brief) and len(brief) == 6
    page = (results / "brief" / "report.html").read_text()
    assert "Brief-PPO" in page and "Brief-PPO" in (results / "brief" / "summary.md").read_text()
    assert "<h2>Other figures</h2>" in page and 'alt="Words of each method&#39;s sampled responses."' in page
    assert (results / "brief" / "methods.txt").read_text().split() == METHODS
    assert (results / "brief" / "plots" / "lengths.png").is_file()
    wrong = checkout.shell(lines[0].replace("my_members:judge", "my_members:jugde"))
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1
    assert "my_members has no 'jugde'" in wrong.stderr
