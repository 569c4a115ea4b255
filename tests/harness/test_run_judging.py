"""A run's responses and judgements: any suite, any judge, for every checkpoint; kills, and runs side by side."""

from __future__ import annotations

import time
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.context import ForkProcess as Process
from pathlib import Path
from typing import Any

import pytest
from evaluation_world import ANSWER, REFUSAL, make_model, write_suite
from tiny_servers import Handler, JsonServer, completion, in_a_thread

from evals.judges import Judge, RecordedJudge
from evals.rules.rulebook import load_rulebook
from evals.suites import load_suite
from evals.suites.suite import make_suite
from evals.values.conversation import Message, Prompt, ResponseType
from evals.values.errors import InputError
from evals.values.jsonl_rows import prompt_as_json, write_jsonl
from harness.keys.methods import METHODS
from harness.keys.run import RunConfig, compose_run
from harness.pipeline.collect import _metrics
from harness.pipeline.context import Context
from harness.pipeline.judging import (
    Reporter,
    check_evaluation,
    judge_responses,
    respond,
    stored_judgements,
    stored_outcomes,
    world_suite,
)
from harness.pipeline.order import StageOutcome
from harness.pipeline.samples import checkpoint_samples
from harness.pipeline.spending import spending_record
from harness.runtime.console import Console
from harness.storage.store import Artifact, Store
from harness.subjects.outcome import Outcome as Said

METHOD = METHODS["helpful_sft"]


def config_of(folder: Path, *overrides: str) -> RunConfig:
    return compose_run(["experiment=smoke", f"results={folder}/results", "threads=1", *overrides])


def context_of(folder: Path, *overrides: str) -> Context:
    config = config_of(folder, *overrides)
    store, console = Store(folder / "results" / ".store"), Console(live=False)
    return Context(config, store, console, load_rulebook(config.rulebook_path))


def artifact(path: Path, key: str = "") -> Artifact:
    return Artifact(path, key or path.name, path.name, False, 0.0, 0.0, {"results": {}})


def world_of(folder: Path, prompts: int = 4, words: int = 3) -> Artifact:
    """A world's folder with its prompts alone; the last one is `words` long."""
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "world.json").write_text('{"suite": "sandbox"}')
    texts = ["prune it ?"] * (prompts - 1) + ["prune " * words]
    asked = [
        Prompt(f"p{i}", (Message("user", text),), ResponseType.COMPLY if i % 2 else ResponseType.HARD_REFUSE)
        for i, text in enumerate(texts)
    ]
    write_jsonl(folder / "data" / "eval_prompts.jsonl", map(prompt_as_json, asked))
    return artifact(folder / "data")


def responses_of(folder: Path, texts: list[str], key: str = "") -> Artifact:
    """Stored responses to the world's prompts, as the stage writes them."""
    (folder / "responses").mkdir(exist_ok=True)
    rows = (Said(f"p{i}", 0, text).as_json() for i, text in enumerate(texts))
    write_jsonl(folder / "responses" / "sft.jsonl", rows)
    return artifact(folder / "responses", key)


def test_a_prompt_without_room_is_unscored_with_its_reason(tmp_path: Path) -> None:
    """A world's prompt that left no room for an answer ended the run after all its training."""
    context, data = context_of(tmp_path, "evaluation.max_new_tokens=8"), world_of(tmp_path, words=300)
    model = artifact(make_model(tmp_path / "model"))
    responses = respond(context, METHOD, data, model, world_suite(data))
    (outcomes,) = stored_outcomes(responses).values()
    assert [outcome.text is None for outcome in outcomes] == [False, False, False, True]
    assert "the model's room for prompts is" in outcomes[-1].reason
    by = Reporter("string_match", string_match)
    judged = judge_responses(context, METHOD, data, responses, world_suite(data), by)
    (said,) = stored_judgements(judged).values()
    assert said[-1].refused is None and said[-1].reason == outcomes[-1].reason
    assert all(judgement.refused is not None for judgement in said[:-1])


def string_match() -> Judge:
    from evals.judges.string_match import StringMatchJudge

    return StringMatchJudge()


SLOW_JUDGE = """
import sys, time
from dataclasses import dataclass
from evals.judges.judgement import from_refusal

@dataclass(frozen=True)
class Slow:
    name: str
    pause: float
    identity: str = "slow:1"

    def judge(self, responses):
        time.sleep(self.pause)
        with open("judged.txt", "a") as file:
            file.write("".join(f"{r.prompt.id}\\n" for r in responses))
        return [from_refusal(r, len(r.text) % 2 == 0, "slow") for r in responses]

def build(name, *, pause: float = 0.0):
    return Slow(name, pause)
"""
TEXTS = [f"text {'x' * (i % 7)}{i}" for i in range(300)]


def judge_asked(folder: Path, pause: str, key: str) -> Path:
    """The stage of a judge that was asked for, of one run's responses; its folder."""
    from harness.pipeline.judging import reporters

    keys = ["evaluation.judges=[slow]", "evaluation.judges.slow.kind=slow_judge:build"]
    context = context_of(folder, *keys, f"evaluation.judges.slow.pause={pause}")
    data, responses = artifact(folder / "data"), artifact(folder / "responses", key)
    by = reporters(context, data, artifact(folder / "judge"))[-1]
    return judge_responses(context, METHOD, data, responses, world_suite(data), by).path


def start(folder: Path, pause: float, key: str) -> Process:
    process = get_context("fork").Process(target=judge_asked, args=(folder, str(pause), key))
    process.start()
    return process


def ends_well(process: Process) -> bool:
    process.join()
    return process.exitcode == 0


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slow_judge.py").write_text(SLOW_JUDGE)
    world_of(tmp_path, prompts=300)
    responses_of(tmp_path, TEXTS)
    return tmp_path


def judged_in(folder: Path) -> list[bytes]:
    return [p.read_bytes() for p in sorted(folder.glob("results/.store/judged/*/sft.jsonl"))]


def test_a_run_killed_while_judging_goes_on_and_ends_with_the_same_bytes(asked: Path) -> None:
    """A costly judge's verdicts were lost with the stage: all of them were asked for again."""
    process = start(asked, 2.0, "one")
    told = asked / "judged.txt"
    while process.is_alive() and not (told.is_file() and len(told.read_text().split()) >= 256):
        time.sleep(0.02)
    process.kill()
    process.join()
    assert not judged_in(asked)
    assert ends_well(start(asked, 0.0, "one"))
    said = told.read_text().split()
    assert len(said) <= 300 + 128 and said.count("p0") == 1
    (resumed,) = judged_in(asked)
    log = asked / "results/.store/judgements"
    for path in [*log.rglob("*.jsonl")]:
        path.unlink()
    assert ends_well(start(asked, 0.0, "two"))
    assert judged_in(asked) == [resumed, resumed]


def test_two_runs_with_one_judge_go_on_at_once(asked: Path) -> None:
    """A second run that asked the same judge ended in an error, or waited for the whole of the first."""
    processes = [start(asked, 0.3, key) for key in ("one", "two")]
    assert all(map(ends_well, processes))
    first, second = judged_in(asked)
    assert first == second and len(first.splitlines()) == 300


def test_asked_suites_and_judges_add_rows_and_change_none(tmp_path: Path) -> None:
    """A run measured its own suite by its own judges alone; rows of others must stand behind these."""
    suite = load_suite("prompt_file", path=write_suite(tmp_path))
    data = world_of(tmp_path)
    own = world_suite(data)
    context = context_of(tmp_path, "evaluation.correction.by=oracle", "evaluation.correction.labels=30")
    outcome = StageOutcome(data, {}, None, {METHOD.name: data}, [own, suite])
    for asked in (own, suite):
        folder = tmp_path / asked.name
        folder.mkdir()
        texts = [REFUSAL if i % 3 else ANSWER for i in range(len(asked.prompts))]
        rows = [Said(p.id, 0, text).as_json() for p, text in zip(asked.prompts, texts, strict=True)]
        write_jsonl(folder / "sft.jsonl", rows)
        outcome.responses[METHOD.name, asked.name] = artifact(folder)
        for name in ("oracle", "string_match"):
            by = Reporter(name, string_match, identity=name)
            judged = judge_responses(context, METHOD, data, artifact(folder), asked, by)
            outcome.judged[METHOD.name, asked.name, name] = judged
    table = list(_metrics(context, outcome, {METHOD.name: METHOD.name}, ""))
    kinds = {(row.suite, row.judge) for row in table}
    assert table[0].suite == "sandbox" and {("sandbox", "oracle"), ("prompt_file", "oracle")} <= kinds
    assert {("sandbox", "string_match"), ("prompt_file", "string_match")} <= kinds
    assert ("prompt_file", "string_match+ppi") in kinds
    assert not any("/category/" in name for name, _ in kinds)
    small = StageOutcome(data, {}, None, {METHOD.name: data}, [own])
    small.responses[METHOD.name, "sandbox"] = outcome.responses[METHOD.name, "sandbox"]
    key = METHOD.name, "sandbox", "oracle"
    small.judged[key] = outcome.judged[key]
    plain = list(_metrics(context_of(tmp_path), small, {METHOD.name: METHOD.name}, ""))
    of_own = [r for r in table if (r.suite.split("/")[0], r.judge) == ("sandbox", "oracle")]
    assert list(map(repr, plain)) == list(map(repr, of_own))  # NaN is not NaN


def test_a_runs_suites_may_call_their_prompts_alike(tmp_path: Path) -> None:
    """Guards: recorded verdicts, rows of metrics and samples of one suite that stand for the same id of another."""
    data = world_of(tmp_path)
    own = world_suite(data)
    other = make_suite(
        "mine", tmp_path, [replace(p, messages=(Message("user", "tulip"),)) for p in own.prompts]
    )
    outcome = StageOutcome(data, {}, None, {METHOD.name: data}, [own, other])
    labels = {"sandbox": True, "mine": False}  # refused, of the same ids and the same text
    known = {
        suite: RecordedJudge("human", {(p.id, ANSWER): refused for p in own.prompts})
        for suite, refused in labels.items()
    }
    by = Reporter("human", lambda: RecordedJudge("human", {}, suites=known), identity="human")
    context = context_of(tmp_path)
    responses = responses_of(tmp_path, [ANSWER] * len(own.prompts))
    for suite in (own, other):
        outcome.responses[METHOD.name, suite.name] = responses
        outcome.judged[METHOD.name, suite.name, "human"] = judge_responses(
            context, METHOD, data, responses, suite, by
        )
    rows = {(r.suite, r.metric): r for r in _metrics(context, outcome, {METHOD.name: METHOD.name}, "")}
    for suite, refused in labels.items():
        assert rows[suite, "not_unsafe"].value == (1.0 if refused else 0.5)
        assert rows[suite, "not_overrefuse"].value == (0.0 if refused else 1.0)
    for row in checkpoint_samples(outcome.suites, outcome.responses, outcome.judged, METHOD.name)["sft"]:
        assert row["human"]["refused"] is labels[row["suite"]]
        assert "prompt" not in row or row["suite"] == "sandbox"


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["evaluation.suites=[sandbox]"], "'evaluation.suites': a run has 'sandbox' in any case"),
        (["evaluation.judges=[auto]"], "'evaluation.judges': a run has 'auto' in any case"),
        (["evaluation.suites=[nowhere]"], "field 'evaluation.suites': unknown suite 'nowhere'"),
        (["evaluation.suites=[prompt_file]"], "field 'evaluation.suites.prompt_file.path': suite"),
        (
            ["evaluation.suites=[prompt_file]", "evaluation.suites.prompt_file.file=x"],
            "field 'evaluation.suites.prompt_file': only `path` and `part` can be set; "
            "give evaluation.suites.prompt_file.path=",
        ),
        (["evaluation.suites=[prompt_file,prompt_file]"], "field 'evaluation.suites': a name stands twice"),
        (["evaluation.judges=[nobody]"], "field 'evaluation.judges': unknown judge 'nobody'"),
        (["evaluation.judges=[human]"], "field 'evaluation.judges.human.path': is missing"),
        (["evaluation.judges=[llama_guard]"], "field 'evaluation.judges.llama_guard.model': the judge has"),
        (
            ["evaluation.judges=[rulebook]", "evaluation.judges.rulebook=3"],
            "field 'evaluation.judges.rulebook': is not a group; give evaluation.judges.rulebook.KEY=VALUE",
        ),
        (["evaluation.judges.string_match.x=1"], "'evaluation.judges.string_match': settings for"),
        (
            ["evaluation.judges=[string_match]", "evaluation.judges.string_match.x=1"],
            "field 'evaluation.judges.string_match.x': no such setting",
        ),
        (["evaluation.correction.by=human"], "'human' is not in evaluation.judges"),
        (["evaluation.card.labels=xstest"], "'evaluation.card': data.root has no xstest/"),
        (["evaluation.margin=nan"], "'evaluation.margin': is nan"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_anything_runs(
    tmp_path: Path, overrides: list[str], complaint: str
) -> None:
    """A misspelt suite or judge would have ended the run after all its training; and the line said `suites.` for what
    was typed as `evaluation.suites.`, a key that a run does not have.
    """
    with pytest.raises(InputError) as refused:
        check_evaluation(config_of(tmp_path, *overrides))
    assert complaint in str(refused.value)


class Verdicts(JsonServer):
    def answer(self, handler: Handler, body: dict[str, Any]) -> None:
        usage = {"prompt_tokens": 50, "completion_tokens": 4}
        said = completion({"message": {"role": "assistant", "content": "1_full_compliance"}})
        handler.send(200, said | {"usage": usage})


def test_what_a_runs_judge_cost_stands_in_its_record(tmp_path: Path) -> None:
    """A run's record had what its grader was asked, and nothing of a judge that is paid by the token."""
    from harness.pipeline.judging import reporters

    world_of(tmp_path)
    with in_a_thread(Verdicts()) as server:
        keys = ["evaluation.judges=[jury]", "evaluation.judges.jury.members=[paid,words]"]
        paid = {
            "kind": "xstest_prompt",
            "server.url": server.url,
            "server.model": "m",
            "server.prompt_price": 10,
        }
        keys += [f"evaluation.judges.paid.{key}={value}" for key, value in paid.items()]
        context = context_of(tmp_path, *keys)
        data, responses = artifact(tmp_path / "data"), responses_of(tmp_path, ["a", "b", "c", "d"])
        by = reporters(context, data, artifact(tmp_path / "judge"))[-1]
        judge_responses(context, METHOD, data, responses, world_suite(data), by)
    (place, told) = next(iter(spending_record(config_of(tmp_path, *keys)).items()))
    assert place == "evaluation.judges.paid.server"
    assert (told["requests"], told["prompt_tokens"], told["cost"]) == (4, 200, 0.002)
