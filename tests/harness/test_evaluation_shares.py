"""One evaluation by several processes that a launcher started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from evaluation_world import evaluate, make_model, metrics_of, write_responses, write_suite

from evals.models.server import ServerSettings
from evals.models.spending import Meter
from evals.suites import Suite
from harness.evaluate.measuring import Judged
from harness.evaluate.shares import Shares
from harness.evaluate.spending import keep_spending
from harness.runtime.place import Place
from harness.storage.provenance import ROOT
from harness.subjects.recorded_model import RecordedModel


@pytest.mark.slow
def test_processes_share_models_and_suites_and_the_first_joins_them(tmp_path: Path) -> None:
    """Under srun or torchrun each process made the whole evaluation, one after another."""
    suite = write_suite(tmp_path, 4, 4)
    recorded = write_responses(tmp_path / "responses.csv", suite, ["u0", "u1", "s0"])
    asked = [
        f"models.{name}.subject.path={make_model(tmp_path / name, seed)}" for seed, name in enumerate("ab")
    ]
    asked += [f"models.c.responses={recorded}", "decoding.max_new_tokens=6", "name=shared"]
    asked += ["suites=[prompt_file]", f"suites.prompt_file.path={suite}", "judges=[string_match]"]
    started = []
    for rank in range(2):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | {name: str(n) for name, n in place.items()}
        command = [sys.executable, "-m", "rbrbench", "evaluate", *asked, "draws=200", "threads=1"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes))
    (page, first), (nothing, second) = (process.communicate(timeout=600) for process in started)
    assert [process.returncode for process in started] == [0, 0], first + second
    assert "report.html" in page and nothing == "", "the first alone writes the record"
    logs = list((tmp_path / "results/.store/responses").rglob("outcomes.jsonl"))
    assert [len(log.read_text().splitlines()) for log in logs] == [9, 9], "nothing was asked twice"
    shared = metrics_of(tmp_path, "shared")
    assert evaluate(tmp_path / "other", suite, *asked[:4], "name=alone") == 0
    assert metrics_of(tmp_path / "other", "alone") == shared and {method for method, *_ in shared} == {*"abc"}
    assert list((tmp_path / "results/.store/shares").iterdir()) == []


def test_a_budget_holds_over_several_processes(tmp_path: Path) -> None:
    """Each of eight processes spent the whole budget."""
    meters = [Meter(ServerSettings(max_requests=3)) for _ in range(4)]
    for one in meters:
        keep_spending({"served": one}, tmp_path, "shared", "0" * 64)
    assert [one.begin() for one in meters] == ["", "", "", "the budget of 3 requests is spent"]
    other = Meter(ServerSettings(max_requests=3))
    keep_spending({"served": other}, tmp_path, "shared", "1" * 64)
    assert not other.begin() and other.spending.requests == 1, "another evaluation by this name"


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_pair_is_somebodys_part(tmp_path: Path, count: int) -> None:
    """Of three pairs and two processes, one was nobody's."""
    models = [RecordedModel(name, {"recorded": name}, {}) for name in "abc"]
    done: list[str] = []
    measured: list[RecordedModel] = []

    def judge(model: RecordedModel, suite: Suite) -> Judged:
        done.append(model.name)
        return Judged(model.name, suite, (), {})

    suite = Suite("s", (), ())
    for rank in range(count):
        place = Place(rank, count, rank, count, "", "")
        shares = Shares(place, tmp_path, judge, measured.append)  # type: ignore[arg-type]
        shares.work(models, [suite])  # type: ignore[arg-type]
        shares.work(models, [suite])  # type: ignore[arg-type]
    assert sorted(done) == [*"abc"] and {model.name for model in measured} == {*"abc"}
