"""A server as the grader that pays: budgets, faults, kills; what was paid for is never asked, or paid, twice."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from own_world import OwnServer, gold_labels, own_world, until_completions
from tiny_runs import Done, rbrbench
from tiny_servers import in_a_thread

from evals.graders.cache import CachedGrader
from evals.models.spending import Meter, Spending
from evals.rules.propositions import Proposition
from evals.values.conversation import Response
from evals.values.errors import UndecidableError
from harness.keys.payer import PayingServer
from harness.pipeline.spending import PaidGrader
from harness.storage.provenance import ROOT


def by(server: OwnServer, *more: str) -> list[str]:
    named = ["grader.kind=server", f"grader.server.url={server.url}", "grader.server.model=m"]
    return [*named, "grader.server.attempts=1", "grader.server.first_delay=0.01", *more]


def told(done: Done) -> str:
    """The line that a run ended with."""
    assert done.returncode == 3 and "Traceback" not in done.stderr, done.stderr[-2000:]
    return next(line for line in done.stderr.splitlines() if line.startswith("rbrbench: "))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["grader.kind=server", "grader.server.url=http://127.0.0.1:9/v1"], "'grader.server.model': is empty"),
        (["grader.kind=language_model", "grader.path=/no/such"], "'grader.path': no such folder"),
        (["grader.kind=language_model", "grader.path=hub", "writer.kind=language_model", "writer.path=./no"],
         "'writer.path': no such folder"),
        (["grader.kind=language_model", "grader.path=hub", "grader.asked_by=rulebook"], "no prompt_template"),
        (["grader.kind=language_model", "grader.path=hub", "rulebook=gap.yaml"], "of comply overlap"),
    ],
)  # fmt: skip
def test_who_cannot_be_asked_is_told_before_the_first_stage(
    tmp_path: Path, more: list[str], says: str
) -> None:
    """After hours of training, or after the data at best."""
    own = own_world(tmp_path)
    gap = (tmp_path / "rules.yaml").read_text().replace("comply: {refuses: true}", "comply: {judges: true}")
    (tmp_path / "gap.yaml").write_text(gap)
    done = rbrbench("run", *own, *more, cwd=tmp_path)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


# --- budgets -------------------------------------------------------------------------------------


def test_a_spent_budget_ends_the_run_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    """A run went on with what the budget had left unscored; and the budget was one of each stage."""
    with in_a_thread(OwnServer()) as server:
        run = ["run", *own_world(tmp_path), *by(server, "grader.server.prompt_price=2")]
        line = told(rbrbench(*run, "grader.server.max_requests=20", cwd=tmp_path))
        assert "grader.server: the budget of 20 requests is spent (20 of 20 requests, 460 tokens" in line
        assert "the same command with another grader.server.max_requests= goes on" in line
        assert server.asked.total() == 20
        assert told(rbrbench(*run, "grader.server.max_requests=20", cwd=tmp_path)) == line
        assert server.asked.total() == 20, "nothing more is asked with the same budget"
        screen = io.StringIO()
        until_completions([*run[1:], "grader.server.max_requests=900"], screen)
        assert not server.twice
    spent = server.asked.total()
    assert f"grader.server: {spent} of 900 requests, {23 * spent:,} tokens (" in screen.getvalue()
    assert f"cost {20 * spent * 2 / 1e6:.4g}" in screen.getvalue()


def test_a_budget_of_tokens(tmp_path: Path) -> None:
    with in_a_thread(OwnServer()) as server:
        own = [*own_world(tmp_path), *by(server, "grader.server.concurrency=1")]
        with pytest.raises(
            UndecidableError, match=r"the budget of 200 tokens is spent \(9 requests, 207 of 200"
        ):
            until_completions([*own, "grader.server.max_tokens=200"])
        assert server.asked.total() == 9


@pytest.mark.parametrize("usage", [None, {}, "much", {"prompt_tokens": -1, "completion_tokens": 3}])
def test_a_budget_that_nobody_can_count_ends_at_the_first_answer(tmp_path: Path, usage: object) -> None:
    """Tokens that a server does not count were to be taken for none, and any budget for kept."""
    meter = Meter(PayingServer(max_tokens=100), tmp_path / "spent.jsonl")
    assert not meter.begin()
    meter.answered(usage)
    assert "a budget of tokens cannot be kept" in meter.begin() and meter.refused
    without = Meter(PayingServer(), tmp_path / "spent.jsonl")
    assert not without.begin() and without.spending == Spending(requests=2, uncounted=1)


def test_a_meter_counts_what_others_have_asked_and_no_torn_line(tmp_path: Path) -> None:
    """Each stage, and each process of a run, has a meter of its own: together they would spend a budget each."""
    one, other = (Meter(PayingServer(max_requests=3), tmp_path / "s" / "spent.jsonl") for _ in "ab")
    assert not one.begin() and not other.begin()
    other.answered({"prompt_tokens": 7, "completion_tokens": 1})
    with open(tmp_path / "s" / "spent.jsonl", "a") as file:
        file.write('nonsense\n{"requests": "many"}\n{"reque')
    assert one.spending == Spending(requests=2, prompt_tokens=7, completion_tokens=1)
    third = Meter(PayingServer(max_requests=3), tmp_path / "s" / "spent.jsonl")
    assert not third.begin()
    assert one.begin() == other.begin() == "the budget of 3 requests is spent"


# --- the measurement -----------------------------------------------------------------------------


def test_a_budget_holds_over_all_that_ask_at_once(tmp_path: Path) -> None:
    """Each of several jobs found room for one more request, and the budget was exceeded by as many as they were."""
    settings = PayingServer(max_requests=25)
    meters = [Meter(settings, tmp_path / "spent.jsonl") for _ in range(4)]
    begun: list[str] = []

    def ask(meter: Meter) -> None:
        while not (reason := meter.begin()):
            begun.append(reason)

    threads = [threading.Thread(target=ask, args=(meter,)) for meter in meters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(begun) == 25 and {meter.spending.requests for meter in meters} == {25}
    assert {meter.refused for meter in meters} == {"the budget of 25 requests is spent"}
    assert [path.name for path in tmp_path.iterdir()] == ["spent.jsonl"]


def test_a_fault_while_it_is_measured_is_no_measurement(tmp_path: Path) -> None:
    """All grades missing counted as too few labels, and the run trained on a grader that nobody had measured."""
    with in_a_thread(
        OwnServer(spoil=lambda body: 500 if "sorry" in str(body["messages"][-2]) else None)
    ) as server:
        own = [*own_world(tmp_path), *by(server), gold_labels(tmp_path, 3), "grader.few=3"]
        with pytest.raises(UndecidableError, match="grades of the gold labels are missing"):
            until_completions(own)
        answered = [body for body in server.asked if "sorry" not in body]
        server.spoil = lambda body: None
        until_completions(own)
        assert all(server.asked[body] == 1 for body in answered) and answered


def test_what_fails_and_what_is_unmeasured_is_told_by_response_type(tmp_path: Path) -> None:
    """A proposition with all its true labels in one response type counted as measured in every other."""

    def never_judged(body: dict[str, Any]) -> str | int | None:
        if "judge" in body["messages"][-1]["content"]:
            body["messages"][-2]["content"] = "sorry"
        return None

    screen = io.StringIO()
    with in_a_thread(OwnServer(spoil=never_judged)) as server:
        own = [*own_world(tmp_path), *by(server), gold_labels(tmp_path, 5)]
        with pytest.raises(UndecidableError, match=r"is 0.750, below .* first: hard_refuse judges 0.50\)"):
            until_completions([*own, "grader.least_balanced_accuracy=0.8"], screen)
        with pytest.raises(UndecidableError, match="no prompt has completions of two classes"):
            until_completions(own, screen)
    said = screen.getvalue()
    assert (
        "too few gold labels of both values to measure comply: any of its 3 propositions; hard_refuse: shouts\n"
        in said
    )
    assert "grader: below grader.least_balanced_accuracy 0.6 on gold labels: hard_refuse judges 0.50" in said


# --- a whole run ---------------------------------------------------------------------------------

KILL = 120  # the request at which PPO is under way


@pytest.mark.slow
def test_a_killed_run_goes_on_and_asks_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL in PPO; what was under way then is all that is asked again."""
    running: list[subprocess.Popen[bytes]] = []

    def kill(_: dict[str, Any]) -> str | int | None:
        if server.asked.total() == KILL:
            running[0].send_signal(signal.SIGKILL)
        return 500 if server.asked.total() % 40 == 7 else None

    with in_a_thread(OwnServer(spoil=kill)) as server:
        named = by(server, "grader.server.concurrency=1", "grader.server.attempts=3")
        run = ["run", *own_world(tmp_path), *named, "ppo.save_every=1", "ppo.updates=4"]
        command = [sys.executable, "-m", "rbrbench", *run]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        running.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL))
        assert running[0].wait(timeout=300) == -signal.SIGKILL, "the run ended before"
        expect, early = CachedGrader._expect, Counter[str]()

        def counted(
            grader: CachedGrader, responses: Sequence[Response], rules: Sequence[Proposition]
        ) -> None:
            early[f"{len(responses)} of a batch"] += 1
            expect(grader, responses, rules)

        monkeypatch.setattr(CachedGrader, "_expect", counted)
        done = rbrbench(*run, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        assert early, "no response was told of before its batch was whole"
        faults = sum(number % 40 == 7 for number in range(1, server.asked.total() + 1))
        again = Counter(server.asked) - Counter(dict.fromkeys(server.asked, 1))
        assert again.total() <= 1 + faults, "a request is asked again for a kill, or for a fault, alone"
        manifest = json.loads((tmp_path / "results" / "own" / "manifest.json").read_text())
        assert manifest["spending"]["grader.server"]["requests"] == server.asked.total()
        before = server.asked.total()
        assert rbrbench(*run, "grader.server.max_requests=5000", cwd=tmp_path).returncode == 0
        assert server.asked.total() == before
    with in_a_thread(OwnServer()) as server:
        # The same world and grader elsewhere, asked after each rollout is whole.
        monkeypatch.setattr(PaidGrader, "expect", property(lambda _: None, lambda *_: None), raising=False)
        run = [*run[: -len(named) - 2], *by(server, "grader.server.revision=r"), *run[-2:]]
        assert rbrbench(*run, f"results={tmp_path / 'later'}", cwd=tmp_path).returncode == 0
    tables = [tmp_path / name / "own" / "training.jsonl" for name in ("results", "later")]
    assert tables[0].read_bytes() == tables[1].read_bytes(), "when it is asked changes nothing"
    report = (tmp_path / "results" / "own" / "report.html").read_text()
    assert f"Asked of grader.server: {before} requests" in report
