"""What the commands that ask a grader's server spend: shown while they ask, in their record, and on their page."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from gate_world import labelled
from own_world import RULES, OwnServer, gold_labels, own_world
from tiny_servers import in_a_thread

from evals.models.server import GraderServerSettings
from evals.rules.rulebook import load_rulebook
from evals.values.conversation import LabelledResponse, Response, ResponseType, user_prompt
from evals.values.errors import UndecidableError
from evals.values.jsonl_rows import labelled_as_json, prompt_as_json, write_jsonl
from harness.ceiling.engine import run_ceiling
from harness.ceiling.files import write_ceiling
from harness.fit.engine import run_fit
from harness.gate.files import write_record
from harness.gate.gate import run_gate
from harness.keys.ceiling import CeilingConfig
from harness.keys.fit import FitConfig
from harness.keys.gate import RegressConfig
from harness.keys.graders import GraderKeys
from harness.keys.rank import RankConfig
from harness.keys.run import compose_run
from harness.keys.serve import ServeConfig
from harness.pipeline.context import Context
from harness.pipeline.grader_renewal import grader_labels
from harness.pipeline.spending import judge_asked, spending_record
from harness.rank.engine import run_rank
from harness.rank.files import write_rank
from harness.report.of_ceiling import write_ceiling_report
from harness.report.of_fit import write_fit_report
from harness.report.of_gate import write_gate_report
from harness.report.of_rank import write_rank_report
from harness.runtime.console import Console
from harness.serve.server import RewardServer, load_served
from harness.storage.store import Store

JUDGE, TEACHER = "evaluation.judges.guard.server", "renewal.grader.teacher.server"
Command = Callable[[dict[str, Any], Console], Path]


def fit(keys: dict[str, Any], console: Console) -> Path:
    server = GraderServerSettings(**keys["server"])
    config = FitConfig(
        on="gate.jsonl",
        rulebook="rules.yaml",
        grader=GraderKeys("server"),
        server=server,
        orders=0,
        refit=False,
        draws=100,
        max_unscored=0.1,
    )
    folder = run_fit(config, console)
    write_fit_report(folder)
    return folder


def regress(keys: dict[str, Any], console: Console) -> Path:
    config = RegressConfig(
        baseline="reward.yaml", candidate="reward.yaml", on="gate.jsonl", draws=100, sign_flips=1000
    )
    folder = write_record(run_gate(config, console), ["regress"])
    write_gate_report(folder)
    return folder


def rank(keys: dict[str, Any], console: Console) -> Path:
    folder = write_rank(
        run_rank(RankConfig(rewards=["reward.yaml"], on="pairs.jsonl", draws=100), console), ["rank"]
    )
    write_rank_report(folder)
    return folder


def ceiling(keys: dict[str, Any], console: Console) -> Path:
    config = CeilingConfig(reward="reward.yaml", on="samples.jsonl", beta=1.0, draws=100, leave_out=False)
    folder = write_ceiling(run_ceiling(config, console), ["ceiling"])
    write_ceiling_report(folder)
    return folder


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Completions, pairs, samples and rules of one's own; nothing has graded them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.yaml").write_text(RULES)
    rows = labelled("gate", 4, load_rulebook(tmp_path / "rules.yaml"))
    bare = (labelled_as_json(LabelledResponse(row.response, row.propositions)) for row in rows)
    write_jsonl(tmp_path / "gate.jsonl", bare)
    write_jsonl(tmp_path / "pairs.jsonl", pairs(rows))
    write_jsonl(tmp_path / "samples.jsonl", (sample(row, place) for place, row in enumerate(rows)))
    return tmp_path


def pairs(rows: list[LabelledResponse]) -> list[dict[str, Any]]:
    by_prompt: dict[str, list[LabelledResponse]] = {}
    for row in rows:
        by_prompt.setdefault(row.response.prompt.id, []).append(row)
    return [
        {
            "id": str(number),
            "prompt": of[0].response.prompt.text,
            "chosen": of[0].response.text,
            "rejected": [one.response.text for one in of[1:]],
            "subset": "Safety",
            "response_type": of[0].response.prompt.response_type,
        }
        for number, of in enumerate(by_prompt.values())
    ]


def sample(row: LabelledResponse, place: int) -> dict[str, Any]:
    said = {"disallowed": False, "refused": bool(place % 2), "ideal_style": None}
    about = {"sample": place % 3, "response": row.response.text, "finished": True}
    return {**prompt_as_json(row.response.prompt), **about, "judgements": {"people": said}}


def reward_file(server: dict[str, Any]) -> None:
    described = {
        "rulebook": "rules.yaml",
        "grader": {"kind": "server", "server": server},
        "weights": {"data": "gate.jsonl", "method": "fixed", "fixed": -1},
    }
    Path("reward.yaml").write_text(yaml.safe_dump(described))


@pytest.mark.parametrize("command", [fit, regress, rank, ceiling])
def test_what_a_command_asks_of_a_server_is_shown_and_recorded(world: Path, command: Command) -> None:
    """Its budget held, and nobody saw what of it was spent."""
    screen = io.StringIO()
    with in_a_thread(OwnServer()) as server:
        keys = {"url": server.url, "model": "m", "prompt_price": 2.0, "max_requests": 999}
        reward_file(keys)
        folder = command({"server": keys}, Console(screen))
        asked = server.asked.total()
    spent = json.loads((folder / "manifest.json").read_text())["spending"]
    assert sum(one["requests"] for one in spent.values()) == asked > 0 and not server.twice
    told = next(iter(spent.values()))
    assert told["prompt_tokens"] == 20 * asked and told["cost"] == pytest.approx(20 * asked * 2 / 1e6)
    line = (
        f"{asked} of 999 requests, {23 * asked:,} tokens ({20 * asked:,} asked, {3 * asked:,} answered), cost"
    )
    assert line in screen.getvalue()
    page = next(path for path in folder.glob("*.html")).read_text()
    assert f"Asked of {next(iter(spent))}: {asked} of 999 requests" in page


def test_a_budget_counts_what_the_same_command_has_asked_before(world: Path) -> None:
    """A fit that a budget ended had the whole budget again when it was given once more."""
    with in_a_thread(OwnServer()) as server:
        keys = {"url": server.url, "model": "m", "max_requests": 20, "attempts": 1}
        for _ in range(2):
            with pytest.raises(UndecidableError, match="the budget of 20 requests is spent"):
                fit({"server": keys}, Console(io.StringIO()))
        assert server.asked.total() == 20


def test_a_served_reward_says_what_it_has_asked(world: Path) -> None:
    screen = io.StringIO()
    with in_a_thread(OwnServer()) as server:
        reward_file({"url": server.url, "model": "m"})
        config = ServeConfig(reward="reward.yaml", port=0, store="store")
        with RewardServer(config, load_served(config), Console(screen)) as served:
            before = server.asked.total()
            body = {"prompts": ["Hi?"], "completions": ["sorry"], "response_type": ["comply"]}
            served.pay("/reward", body)
            assert served.served.spent.startswith(f"{server.asked.total()} requests, ")
        assert server.asked.total() > before
    assert f"grader: {server.asked.total()} requests" in screen.getvalue().replace("server:", "grader:")
    assert [path.name.startswith("serve.") for path in Path("store", ".spent").glob("*.jsonl")] == [True]


def test_a_run_counts_who_watches_the_training_and_who_teaches(tmp_path: Path) -> None:
    """The judge of held-out looks, and another grader that labels for a renewal, cost what no record said."""
    with in_a_thread(OwnServer()) as server:
        asked = [f"{key}.url={server.url}" for key in (JUDGE, TEACHER)] + [f"{JUDGE}.model=m"]
        config = compose_run(
            [
                *own_world(tmp_path),
                *(
                    "evaluation.judges=[guard]",
                    "evaluation.judges.guard.kind=llama_guard",
                    "grader.kind=encoder",
                ),
                *("evaluation.monitored_by=guard", "grader.path=hub/name", gold_labels(tmp_path, 2)),
                *(
                    "renewal.grader.every=1",
                    "renewal.grader.teacher.kind=server",
                    "renewal.grader.teacher.path=m",
                ),
                *asked,
            ]
        )
        said = io.StringIO()
        context = Context(
            config, Store(tmp_path / "store"), Console(said), load_rulebook(tmp_path / "rules.yaml")
        )
        response = Response(user_prompt("p", "Hi?", ResponseType.COMPLY), "sorry")
        judge_asked(config, "guard").judge([response])
        teach = grader_labels(context, None, tmp_path, lambda labels, _: labels)  # type: ignore[arg-type]
        (labelled_one,) = teach(1, [response])
        context.spender.tell()
    assert labelled_one.propositions == {"refuses": True, "judges": False, "shouts": False}
    spent = spending_record(config)
    assert {place: one["requests"] for place, one in spent.items()} == {TEACHER: 3, JUDGE: 1}
    assert f"{TEACHER}: 3 requests" in said.getvalue() and f"{JUDGE}: 1 requests" in said.getvalue()
