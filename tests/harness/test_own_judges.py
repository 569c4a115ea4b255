"""Judges that are no third party, and juries in an evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from evaluation_world import evaluate, metrics_of, write_responses, write_suite
from tiny_servers import Handler, JsonServer, graded, in_a_thread

from evals.models.server import ServerSettings
from evals.models.spending import Meter
from evals.values.errors import InputError
from harness.evaluate.judging import asked_judges
from harness.evaluate.own_judges import places, run_notes, source_notes
from harness.evaluate.spending_line import SpendingLine
from harness.keys.evaluate import EvaluateConfig
from harness.storage.provenance import ROOT


def test_a_jury_judges_beside_its_members(tmp_path: Path) -> None:
    """Its scores are those of its members' votes, with a row, an identity and an alpha on the page."""
    suite = write_suite(tmp_path, 4, 4)
    soft = {"s0": "Well, I won’t do that."}  # a refusal by `words` alone
    responses = write_responses(tmp_path / "one.csv", suite, [f"u{k}" for k in range(4)], soft)
    members = "judges.jury.members=[string_match,words]"
    keys = [f"responses={responses}", "judges=[jury,words,string_match]", members, "judges.jury.rule=any"]
    assert evaluate(tmp_path, suite, *keys, "name=jury") == 0
    rows = metrics_of(tmp_path, "jury")
    said = {
        j: rows["one", "prompt_file", "not_overrefuse", j]["value"] for j in ("jury", "words", "string_match")
    }
    assert said["jury"] == said["words"] == "0.750000" and said["string_match"] == "1.000000"
    page = (tmp_path / "results/jury/report.html").read_text()
    assert "among themselves" in page and "jury:" in page


def asked(**keys: Any) -> EvaluateConfig:
    return EvaluateConfig(suites=["prompt_file"], responses="responses.csv", **keys)


def test_a_jury_of_juries_is_refused() -> None:
    settings = {
        "jury": {"members": ["bench", "words"]},
        "bench": {"kind": "jury", "members": ["words", "human"]},
    }
    with pytest.raises(InputError, match="'bench' is a jury"):
        asked_judges(asked(judges=["jury"], judge_settings=settings))


def test_a_judge_that_is_the_model_or_paid_it_is_named(tmp_path: Path) -> None:
    """A model that judges itself, or is judged by what it was trained to please, under a judge's name."""
    model, run = tmp_path / "model", tmp_path / "results" / "run"
    model.mkdir()
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(f"grader:\n  path: {model}\n  server:\n    url: null\n")
    settings = {
        "same": {"kind": "wildguard", "model": f"{tmp_path}/./model"},
        "other": {"kind": "wildguard", "server": {"url": "http://h/v1", "model": "m"}},
        "jury": {"members": ["same", "other"]},
    }
    keys = asked(judges=["jury", "other"], judge_settings=settings)
    keys.subject.path, keys.responses = str(model), None
    (note,) = source_notes(keys, keys.judges, keys.sources())
    assert note.startswith("jury is the model that wrote the responses of model:")
    keys.subject.path, keys.run = None, f"{run}:rbr_ppo:0"
    (note,) = source_notes(keys, keys.judges, keys.sources())
    assert note.startswith("jury asks the grader that paid the reward of") and "results/run" in note
    paid = {"path": "m", "server": {"url": "http://h/v1/", "model": None}}
    told = run_notes(keys, ["other", "same"], str(model), paid)
    assert [one.split(" the ")[0] for one in told] == ["other asks", "same is"]


@pytest.mark.parametrize(
    ("model", "judge"),
    [
        ({"path": "COPY"}, {"model": "MODEL"}),
        ({"path": "Org/Model-7B"}, {"server": {"url": "http://h:8000/v1", "model": "org/model-7b"}}),
        (
            {"server": {"url": "http://localhost:8000/v1/", "model": "m"}},
            {"server": {"url": "http://127.0.0.1:8000", "model": "m"}},
        ),
        (
            {"server": {"url": "https://API.example.org/v1", "model": "m"}},
            {"server": {"url": "https://api.example.org:443/v1", "model": "m"}},
        ),
    ],
)
def test_a_model_under_another_name_is_known(tmp_path: Path, model: dict, judge: dict) -> None:
    """A copy of the model's folder, or another name of its server's machine, judged it unnamed."""
    for name in ("MODEL", "COPY", "OTHER"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"header" + (b"o" if name == "OTHER" else b"s"))

    def at(settings: dict[str, Any]) -> dict[str, Any]:
        return {k: str(tmp_path / v) if v in ("MODEL", "COPY") else v for k, v in settings.items()}

    assert places(at(model)) & places(at(judge))
    assert not places({"path": str(tmp_path / "MODEL")}) & places({"path": str(tmp_path / "OTHER")})
    assert not places({"server": {"url": "http://a/v1", "model": "m"}}) & places(
        {"server": {"url": "http://b/v1", "model": "m"}}
    )


def test_spending_is_told_while_a_server_is_asked() -> None:
    """A thousand paid requests, and nothing is said of their cost before the end."""
    said: list[str] = []
    times = iter([0.0, 5.0, 11.0, 11.0, 30.0])

    class Asked:
        name, meter = "m", Meter(ServerSettings())

    Asked.meter.begin()
    Asked.meter.answered({"prompt_tokens": 7, "completion_tokens": 2})

    class Silent:
        def say(self, text: str) -> None:
            said.append(text)

    line = SpendingLine(Silent(), Asked(), lambda: next(times))  # type: ignore[arg-type]
    for _ in range(3):
        line.tell()  # too soon, told, nothing new
    assert said == ["m: 1 requests, 9 tokens (7 asked, 2 answered)"]


class GraderServer(JsonServer):
    def answer(self, handler: Handler, body: dict[str, Any]) -> None:
        usage = {"prompt_tokens": 100, "completion_tokens": 1}
        handler.send(200, graded({"yes": 0.9, "no": 0.1}) | {"usage": usage})


def test_what_a_judges_grader_cost_stands_in_the_record(tmp_path: Path) -> None:
    """The server of a judge by a rulebook had no budget but of requests, and nothing said what it was asked."""
    suite = write_suite(tmp_path, 2, 2)
    responses = write_responses(tmp_path / "one.csv", suite, [f"u{k}" for k in range(2)], {})
    with in_a_thread(GraderServer()) as server:
        judge = {"kind": "rulebook", "rulebook": ROOT / "conf/rulebooks/sandbox.yaml", "grader": "server"}
        judge |= {"server.url": server.url, "server.model": "m", "server.concurrency": 1}
        judge |= {"server.prompt_price": 10, "server.max_cost": 0.005}
        keys = [f"responses={responses}", "judges=[rules]", "name=paid", "max_unscored=1"]
        assert evaluate(tmp_path, suite, *keys, *(f"judges.rules.{k}={v}" for k, v in judge.items())) == 0
        more = judge | {"server.max_cost": 0.5}
        assert evaluate(tmp_path, suite, *keys, *(f"judges.rules.{k}={v}" for k, v in more.items())) == 0
    folder = tmp_path / "results" / "paid"
    spent = json.loads((folder / "manifest.json").read_text())["spending"]["judges.rules"]
    assert spent["requests"] > 5 and spent["cost"] == spent["prompt_tokens"] / 1e5 > 0.005
    assert f"rules: asked its server {spent['said']}" in (folder / "report.html").read_text()
    assert f"cost {spent['cost']:.4g} of 0.5" in spent["said"]
