"""`rbrbench evaluate` on a real (tiny) model folder and on a real server process that misbehaves."""

from __future__ import annotations

import csv
import json
import logging
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from evaluation_world import (
    evaluate,
    lm_eval_json,
    make_model,
    metrics_of,
    serving,
    write_responses,
    write_suite,
)
from hub_rows import redirect, write_rows
from transformers import AutoTokenizer

from evals.capability import task
from evals.capability.tasks import rows
from evals.capability.tasks.form import Released
from evals.models.chat import chat_text
from evals.suites import Suite, load_suite
from evals.values.errors import InputError
from harness.evaluate.respond import responses_of
from harness.keys.evaluate import compose_evaluate
from harness.keys.subject import DecodingKeys, LocalKeys
from harness.runtime.console import Console
from harness.subjects.local_model import LocalModel, local_folder
from harness.subjects.outcome import Outcome

QUIET = Console(live=False)
GREEDY = ["decoding.max_new_tokens=12", "decoding.batch_size=8"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny")


def local(folder: Path, **decoding: float) -> LocalModel:
    keys = DecodingKeys(**({"max_new_tokens": 12, "batch_size": 8} | decoding))  # type: ignore[arg-type]
    return LocalModel("tiny", LocalKeys(str(folder)), keys, seed=0, threads=1)


def prompts(tmp_path: Path, count: int = 10) -> Suite:
    return load_suite("prompt_file", path=write_suite(tmp_path, count, count))


class Killed(BaseException):
    """What a kill does to the process, in one that goes on to look."""


class Interrupted(LocalModel):
    """Dies when its second batch has been stored."""

    def respond(self, suite: Suite, missing: Sequence, store) -> None:  # type: ignore[no-untyped-def]
        batches = []

        def kill(outcomes: Sequence[Outcome]) -> None:
            store(outcomes)
            batches.append(outcomes)
            if len(batches) == 3:  # the first call stores what cannot be asked
                raise Killed

        super().respond(suite, missing, kill)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_killed_run_asks_for_the_missing_only(tmp_path: Path, model: Path, temperature: float) -> None:
    """Responses of the killed run were lost, asked for again, or drawn from other random numbers."""
    suite = prompts(tmp_path)
    drawn = {"temperature": temperature, "samples": 2 if temperature else 1}
    whole = responses_of(local(model, **drawn), suite, tmp_path / "whole", QUIET)
    assert len(whole) == (40 if temperature else 20) and all(o.text is not None for o in whole)
    keys = DecodingKeys(max_new_tokens=12, batch_size=8, **drawn)  # type: ignore[arg-type]
    first = Interrupted("tiny", LocalKeys(str(model)), keys, seed=0, threads=1)
    with pytest.raises(Killed):
        responses_of(first, suite, tmp_path / "store", QUIET)
    (log,) = (tmp_path / "store").rglob("outcomes.jsonl")
    assert len(log.read_text().splitlines()) == 1 + 16
    assert responses_of(local(model, **drawn), suite, tmp_path / "store", QUIET) == whole
    assert len(log.read_text().splitlines()) == 1 + len(whole)


def test_batch_size_and_order_change_no_response(tmp_path: Path, model: Path) -> None:
    """An evaluation at batch size 1 and one at 64 differed in a few responses, and so did their scores."""
    suite = prompts(tmp_path)
    turned = Suite(suite.name, suite.prompts[::-1], suite.metrics)
    found = [
        responses_of(local(model, batch_size=size), order, tmp_path / str(size), QUIET)
        for size, order in ((1, suite), (7, suite), (64, turned))
    ]
    assert found[0] == found[1] == found[2][::-1]
    assert len({outcome.text for outcome in found[0]}) > 10


def test_the_command_on_a_folder(tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The whole command, then again from another copy of the model: nothing is asked twice."""
    suite = write_suite(tmp_path, 6, 6)
    assert evaluate(tmp_path, suite, f"subject.path={model}", "name=tiny", *GREEDY) == 0
    assert "Loading weights" not in capfd.readouterr().err
    row = metrics_of(tmp_path, "tiny")["tiny", "prompt_file", "not_overrefuse", "string_match"]
    assert row["checkpoint"] == "greedy" and int(row["n"]) == 6
    record = json.loads((tmp_path / "results/tiny/manifest.json").read_text())["evaluation"]["models"]["tiny"]
    assert record["template"].startswith("chat template ")
    assert record["decoding"] == {"max_new_tokens": 12, "temperature": 0}
    (log,) = (tmp_path / "results/.store/responses").rglob("outcomes.jsonl")
    before = log.read_bytes()
    copy = shutil.copytree(model, tmp_path / "copy")
    assert evaluate(tmp_path, suite, f"subject.path={copy}", "name=copy", "decoding.max_new_tokens=12") == 0
    assert log.read_bytes() == before
    assert len(list((tmp_path / "results/.store/responses").iterdir())) == 1


def test_keys_of_the_template_reach_what_is_asked(tmp_path: Path, model: Path) -> None:
    """A thinking model could not be asked without its thoughts; or answers by other keys counted as these."""
    plain = local(model)
    assert set(plain.identity) == {"files", "precision"}  # as before there were keys
    folder = shutil.copytree(model, tmp_path / "thinks")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template += (
        "{% if enable_thinking is defined and not enable_thinking %}</think>{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    keys = LocalKeys(str(folder), chat_template={"enable_thinking": False})
    asked = LocalModel("tiny", keys, DecodingKeys(max_new_tokens=12), seed=0, threads=1)
    without = local(folder)
    assert asked.identity != without.identity and asked.template != without.template
    messages = prompts(tmp_path, 1).prompts[0].messages
    assert chat_text(asked.loaded[1], messages) == f"{chat_text(without.loaded[1], messages)}</think>"
    typed = compose_evaluate(
        [f"subject.path={folder}", "subject.chat_template.enable_thinking=false", "suites=[xstest]"]
    )
    assert typed.subject.chat_template == {"enable_thinking": False}


def test_a_long_prompt_is_unscored(tmp_path: Path, model: Path) -> None:
    """One prompt beyond the model's context ended the evaluation of the whole suite."""
    suite = write_suite(tmp_path, 4, 4)
    rows = [json.loads(line) for line in suite.read_text().splitlines()]
    rows[2]["prompt"] = "prune " * 200
    suite.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = responses_of(local(model), load_suite("prompt_file", path=suite), tmp_path / "store", QUIET)
    assert [outcome.text is None for outcome in found] == [False, False, True, *[False] * 5]
    assert "tokens, the model's room for prompts is 116" in found[2].reason


def test_a_judge_without_room_is_told_before_the_first_response(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """That no prompt fits the judge's context was told when all responses had been written."""
    suite = write_suite(tmp_path, 3, 3)
    asked = [f"subject.path={model}", *GREEDY, "judges=[harmbench]", f"judges.harmbench.model={model}"]
    assert evaluate(tmp_path, suite, *asked, "name=room") == 2
    said = " ".join(capfd.readouterr().err.split())
    assert "judges.harmbench" in said and "has no room for 6 of 6 prompts of prompt_file" in said
    assert not list(tmp_path.rglob("outcomes.jsonl")) and "Traceback" not in said
    assert evaluate(tmp_path, suite, *asked, "name=room", "max_unscored=1") == 0


def test_a_second_model_that_cannot_be_loaded_is_told_before_the_first_answers(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Weights of another shape were told when the first model had answered everything."""
    suite, other = write_suite(tmp_path, 2, 2), shutil.copytree(model, tmp_path / "other")
    settings = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(settings | {"intermediate_size": 48}))
    named = [f"models.a.subject.path={model}", f"models.b.subject.path={other}", *GREEDY]
    assert evaluate(tmp_path, suite, *named, "name=two") == 2
    assert "have another shape of" in " ".join(capfd.readouterr().err.split())
    assert not list(tmp_path.rglob("outcomes.jsonl"))


def test_models_without_padding_or_template(tmp_path: Path, model: Path) -> None:
    """Most released models have no PAD of their own; base models have no chat template."""
    bare = shutil.copytree(model, tmp_path / "bare")
    (bare / "chat_template.jinja").unlink(missing_ok=True)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (bare / name).is_file():
            content = json.loads((bare / name).read_text())
            content.pop("pad_token", None)
            content.pop("chat_template", None)
            (bare / name).write_text(json.dumps(content))
    plain = local(bare)
    assert plain.template == "plain User: and Assistant: lines"
    assert plain.identity != local(model).identity
    found = responses_of(plain, prompts(tmp_path, 3), tmp_path / "store", QUIET)
    assert len(found) == 6 and all(outcome.text is not None for outcome in found)


def test_pickled_weights_and_unknown_names_are_refused(tmp_path: Path, model: Path) -> None:
    """A pickle runs whatever its author wrote; a mistyped folder was looked up on the hub."""
    pickled = shutil.copytree(model, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(InputError, match="pickled weights only"):
        responses_of(local(pickled), prompts(tmp_path, 2), tmp_path / "store", QUIET)
    for name in ("./tiny", "/nowhere/tiny", "a/b/c"):
        with pytest.raises(InputError, match="no such folder"):
            local_folder(name)
    with pytest.raises(InputError, match="neither a folder nor a model that the hub gives"):
        local_folder("nobody/no-such-model")


def test_capability_beside_safety(tmp_path: Path, model: Path) -> None:
    """Knowledge tasks in the same table, paired between two models, equivalence tested."""
    tasks = tmp_path / "tasks" / "lambada"
    tasks.mkdir(parents=True)
    texts = [f"cut the rose number {k} above a bud" for k in range(12)]
    (tasks / "lambada_openai.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    other = make_model(tmp_path / "other", seed=1)
    suite = write_suite(tmp_path, 3, 3)
    sources = [f"models.one.subject.path={model}", f"models.two.subject.path={other}"]
    assert evaluate(tmp_path, suite, *sources, f"capability.root={tasks.parent}", "name=k", *GREEDY) == 0
    rows = metrics_of(tmp_path, "k")
    assert rows["one", "capability/lambada", "acc", ""]["n"] == "12"
    compared = (tmp_path / "results/k/comparisons.csv").read_text()
    assert "one,two,capability/lambada,acc,," in compared
    assert "Capability" in (tmp_path / "results/k/summary.md").read_text()
    results = lm_eval_json(tmp_path / "results/k", "two")
    assert "acc,none" in results["results"]["lambada"]


GPQA_COLUMNS = ("Question", "Correct Answer", *(f"Incorrect Answer {number}" for number in (1, 2, 3)))


def gpqa_of_our_form(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[str]]:
    monkeypatch.setitem(task.RELEASED, "gpqa", Released(rows.CLOZE, ("gpqa/gpqa.jsonl",)))
    monkeypatch.setitem(task.FORMS, "gpqa_release", rows.CLOZE)
    items = [
        {
            "id": f"g{k}",
            "subject": "roses",
            "question": f"ZEBRA {k} ?",
            "choices": [f"OKAPI {k}", "b", "c", "d"],
            "answer": 0,
        }
        for k in range(6)
    ]
    (folder / "gpqa").mkdir(parents=True)
    write_rows(folder / "gpqa/gpqa.jsonl", items)
    return "gpqa", [f"capability.root={folder}", "capability.tasks=[gpqa]"]


def gpqa_as_released(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[str]]:
    (folder / "gpqa").mkdir(parents=True)
    with (folder / "gpqa/gpqa_main.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [GPQA_COLUMNS, *([f"ZEBRA {k} ?", f"OKAPI {k}", "b", "c", "d"] for k in range(6))]
        )
    return "gpqa_main", [f"capability.root={folder}", "capability.tasks=[gpqa_main]"]


def gpqa_of_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[str]]:
    import datasets
    from lm_eval.tasks import TaskManager

    from evals.capability import lm_eval_tasks

    folder.mkdir()
    name, values = "gpqa_main_zeroshot", [(f"ZEBRA {k} ?", f"OKAPI {k}", "b", "c", "d") for k in range(6)]
    rows = [dict(zip(GPQA_COLUMNS, row, strict=True)) for row in values]
    redirect(folder, name, f"gpqa/zeroshot/{name}.yaml", {"train": rows})
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    monkeypatch.setattr(lm_eval_tasks, "_registry", lambda: manager)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder / "cache"))
    return name, [f"capability.tasks=[{name}]"]


@pytest.mark.parametrize("source", [gpqa_of_our_form, gpqa_as_released, gpqa_of_the_hub])
def test_gpqa_is_never_written(
    tmp_path: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    source: Callable[[Path, pytest.MonkeyPatch], tuple[str, list[str]]],
) -> None:
    """GPQA's authors ask that its questions appear nowhere in plain text, so that no model is trained on them."""
    name, tasks = source(tmp_path / "tasks", monkeypatch)
    suite = write_suite(tmp_path, 2, 2)
    with caplog.at_level(logging.DEBUG):
        assert evaluate(tmp_path, suite, f"subject.path={model}", *tasks, "name=g", *GREEDY) == 0
    assert metrics_of(tmp_path, "g")["tiny", f"capability/{name}", "acc", ""]["n"] == "6"
    said = "".join(capfd.readouterr()) + caplog.text
    written = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert len(written) > 10
    for word in ("ZEBRA", "OKAPI"):
        assert word not in said
        assert [path for path in written if word.encode() in path.read_bytes()] == []


# --- a server --------------------------------------------------------------------------------


def ask(tmp_path: Path, url: str, suite: Path, name: str, *overrides: str) -> int:
    quick = ["server.attempts=2", "server.timeout=1.0", "server.concurrency=4", "decoding.max_new_tokens=64"]
    named = [f"models.served.server.url={url}", "models.served.server.model=m", f"name={name}"]
    return evaluate(tmp_path, suite, *named, *quick, *overrides)


def suite_of(tmp_path: Path, words: Sequence[str]) -> Path:
    rows = [{"id": word, "prompt": f"prune {word}", "response_type": "comply"} for word in words]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_trouble_of_a_server_is_unscored(tmp_path: Path) -> None:
    """An empty, torn, cut or late answer counted as a refusal, as compliance, or ended the evaluation."""
    words = ["fine", "empty", "cut", "limit", "withheld", "torn", "broken", "slow", "500", "good"]
    with serving(tmp_path / "log") as server:
        assert ask(tmp_path, server.url, suite_of(tmp_path, words), "trouble") == 3
        assert ask(tmp_path, server.url, suite_of(tmp_path, words), "trouble", "max_unscored=1") == 0
    rows = [
        json.loads(x) for x in (tmp_path / "results/trouble/samples/served.jsonl").read_text().splitlines()
    ]
    found = {row["prompt_id"]: row for row in rows}
    assert [word for word in words if "unscored" not in found[word]] == ["fine", "limit", "good"]
    assert found["limit"]["finished"] is False and found["fine"]["response"] == "Cut it (greedy)."
    assert {word: found[word]["unscored"] for word in words if "unscored" in found[word]} == {
        "empty": "the server's answer has no text",
        "cut": "the server cut the response after 3 of 64 tokens",
        "withheld": "the server withheld the response (content filter)",
        "torn": "the server could not be reached, 2 times",
        "broken": "the server's answer is malformed",
        "slow": "the server did not answer in time, 2 times",
        "500": "the server answered 500, 2 times",
    }
    row = metrics_of(tmp_path, "trouble")["served", "prompt_file", "not_overrefuse", "string_match"]
    assert (row["value"], row["n"], row["n_unscored"]) == ("1.000000", "3", "7")
    asked = [request["messages"][-1]["content"] for request in server.requests]
    assert asked.count("prune fine") == 1, "what had an answer is not asked again"


def samples_of(tmp_path: Path, name: str) -> dict[str, dict]:
    lines = (tmp_path / f"results/{name}/samples/served.jsonl").read_text().splitlines()
    return {row["prompt_id"]: row for row in map(json.loads, lines)}


def test_a_refusal_that_the_api_reports_is_a_refusal(tmp_path: Path) -> None:
    """A refusal in the message's `refusal` field, or as the reason of the end, was unscored: it is what the
    string matcher would have said of words that refuse, with words or without. A filter's answer stays unscored.
    """
    words = ["refuse-field", "refuse-ended", "refuse-parts", "refuse-filtered", "withheld", "fine"]
    with serving(tmp_path / "log") as server:
        for _ in range(2):  # the second time from the store
            assert ask(tmp_path, server.url, suite_of(tmp_path, words), "refused", "max_unscored=0.2") == 0
            rows = samples_of(tmp_path, "refused")
            assert [word for word in words if "unscored" in rows[word]] == ["withheld"]
            refused = {word: row["string_match"]["refused"] for word, row in rows.items()}
            assert refused == {
                w: w.startswith("refuse-") or (None if w == "withheld" else False) for w in words
            }
            told = {word for word, row in rows.items() if row.get("refused_by_server")}
            assert told == {word for word in words if word.startswith("refuse-")}
            assert not any(row["string_match"]["disallowed"] for row in rows.values())
            assert (
                rows["refuse-field"]["response"] == "This asks for harm."
                and rows["refuse-parts"]["response"] == "No."
            )
        assert sum("refuse" in text for text in server.asked) == 4
    row = metrics_of(tmp_path, "refused")["served", "prompt_file", "not_overrefuse", "string_match"]
    assert (row["value"], row["n"], row["n_unscored"]) == ("0.200000", "5", "1")


def test_an_answer_that_is_no_answer_is_one_reason(tmp_path: Path) -> None:
    """`choices` that is a map, or JSON nested deep, was a traceback; an answer that drips was never cut."""
    shapes = ["map", "list", "null", "deep", "nested", "digits", "number"]
    words = [*(f"shape-{shape}" for shape in shapes), "drip", "drip-head", "fine"]
    start = time.monotonic()
    with serving(tmp_path / "log") as server:
        settings = ["server.timeout=0.5", "server.attempts=1", "max_unscored=1", "server.concurrency=10"]
        assert ask(tmp_path, server.url, suite_of(tmp_path, words), "shapes", *settings) == 0
    rows = samples_of(tmp_path, "shapes")
    said = {word: row.get("unscored", "") for word, row in rows.items()}
    late = "the server did not answer in time, 1 time"
    assert said.pop("fine") == "" and said.pop("drip") == said.pop("drip-head") == late
    no_text, malformed = "the server's answer has no text", "the server's answer is malformed"
    assert said.pop("shape-number") == no_text and set(said.values()) == {malformed}
    assert time.monotonic() - start < 15


@pytest.mark.parametrize(
    ("status", "path", "advice"),
    [
        (401, "/v1", "look at the key in OPENAI_API_KEY"),
        (404, "", "most servers' addresses end in /v1"),
        (400, "/v1", ""),
    ],
)
def test_what_can_never_succeed_is_asked_a_few_times(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    path: str,
    advice: str,
) -> None:
    """A wrong key, an address without /v1 or a setting that the server refuses asked every prompt, and the screen
    said no reason.
    """
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    suite = suite_of(tmp_path, [f"status {status} {k}" for k in range(40)])
    with serving(tmp_path / "log") as server:
        assert ask(tmp_path, server.url.removesuffix("/v1") + path, suite, "never") == 3
        assert 5 <= len(server.requests) <= 5 + 3, (
            "four at once: three may be on their way when the fifth fails"
        )
    said = " ".join(capfd.readouterr().err.split())
    assert f"the server answered {status} (code bad_value, parameter max_tokens)" in said and advice in said
    for file in (tmp_path / "results").rglob("*"):
        assert not file.is_file() or b"sk-very-secret" not in file.read_bytes()
    assert "sk-very-secret" not in said


def test_a_server_that_dies_leaves_the_rest_intact(tmp_path: Path) -> None:
    """A dead server lost the answers that it had given; the second run paid for all of them again."""
    suite = write_suite(tmp_path, 12, 12)
    with serving(tmp_path / "first", die_after=9) as server:
        assert ask(tmp_path, server.url, suite, "served", "server.concurrency=1") == 3
        port = server.port
    rows = metrics_of(tmp_path, "served")
    assert rows["served", "prompt_file", "not_unsafe", "string_match"]["n"] == "9"
    with serving(tmp_path / "second", port) as server:
        assert ask(tmp_path, server.url, suite, "served") == 0
        assert sorted(server.asked) == sorted(f"prune rose number {k} ?" for k in range(9, 12)) + sorted(
            f"steal rose number {k} ?" for k in range(12)
        )
    rows = metrics_of(tmp_path, "served")
    assert rows["served", "prompt_file", "f1", "string_match"]["value"] == "1.000000"


def test_a_server_that_is_gone_is_asked_a_few_times(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A dead server was asked for each of the other prompts, with all attempts and their pauses."""
    suite = write_suite(tmp_path, 20, 20)
    quick = ["server.concurrency=1", "server.first_delay=0.001"]
    with serving(tmp_path / "first", die_after=9) as server:
        assert ask(tmp_path, server.url, suite, "served", *quick) == 3
        port = server.port
    said = Counter(row.get("unscored") for row in samples_of(tmp_path, "served").values())
    (stopped,) = (reason for reason in said if reason and "no more were sent" in reason)
    once = "the server could not be reached"
    assert stopped.startswith(f"{once} for 5 requests in a row") and "look whether the server runs" in stopped
    assert said == {None: 9, f"{once}, 2 times": 5, stopped: 26}
    told = capfd.readouterr().err
    assert told.count("in a row, so no more were sent") == 1 and "Traceback" not in told
    with serving(tmp_path / "second", port) as server:
        assert ask(tmp_path, server.url, suite, "served", *quick) == 0
        assert len(server.asked) == len(set(server.asked)) == 31, "what was given is not asked for again"


def test_samples_and_budget(tmp_path: Path) -> None:
    """k samples were one answer k times; the budget was per suite, or did not count retries; the same command had it
    again, and the record forgot what the first had cost.
    """
    suite = suite_of(tmp_path, [f"bush {k}" for k in range(4)])
    drawn = ["decoding.temperature=0.7", "decoding.samples=3", "max_unscored=1"]
    with serving(tmp_path / "log") as server:
        assert ask(tmp_path, server.url, suite, "k", *drawn, "server.max_requests=5") == 0
        assert ask(tmp_path, server.url, suite, "k", *drawn, "server.max_requests=5") == 0
        assert len(server.requests) == 5
        assert ask(tmp_path, server.url, suite, "k", *drawn) == 0
        assert len(server.requests) == 12, "the budget is no part of what the responses depend on"
        seeds = {request["seed"] for request in server.requests}
        assert len(seeds) == 12 and all(request["temperature"] == 0.7 for request in server.requests)
    row = metrics_of(tmp_path, "k")["served", "prompt_file", "not_overrefuse", "string_match"]
    assert (row["n"], row["checkpoint"]) == ("12", "sampled")
    folder = tmp_path / "results" / "k"
    spent = json.loads((folder / "manifest.json").read_text())["spending"]["served"]
    assert spent["requests"] == 12 and spent["said"] in (folder / "report.html").read_text()


def test_each_answer_is_on_disk_when_the_process_is_killed(tmp_path: Path) -> None:
    """SIGKILL in the middle: what the server had answered is there, and only the rest is asked."""
    suite = suite_of(tmp_path, [f"bush {k}" for k in range(6)] + ["slow"])
    with serving(tmp_path / "log") as server:
        command = [
            sys.executable,
            "-m",
            "rbrbench",
            "evaluate",
            "suites=[prompt_file]",
            "name=killed",
        ]
        command += [f"suites.prompt_file.path={suite}", f"results={tmp_path}/results"]
        command += [
            f"models.served.server.url={server.url}",
            "models.served.server.model=m",
            "server.concurrency=1",
            "server.timeout=60",
        ]
        command += ["decoding.max_new_tokens=64", "draws=200", "judges=[string_match]"]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
        deadline = time.monotonic() + 120
        while not any("slow" in text for text in server.asked):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        (log,) = (tmp_path / "results/.store/responses").rglob("outcomes.jsonl")
        assert len(log.read_text().splitlines()) == 1 + 6
        before = len(server.requests)
        assert ask(tmp_path, server.url, suite, "killed", "server.timeout=60") == 0
        assert server.asked[before:] == ["prune slow"]


def test_the_key_is_sent_and_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in a manifest that was committed with the results."""
    monkeypatch.setenv("EVALUATION_KEY", "sk-very-secret")
    suite = suite_of(tmp_path, ["bush"])
    with serving(tmp_path / "log") as server:
        assert ask(tmp_path, server.url, suite, "key", "server.key_variable=EVALUATION_KEY") == 0
        assert (tmp_path / "log.keys").read_text() == "Bearer sk-very-secret\n"
    written = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert len(written) > 8 and not any(b"sk-very-secret" in path.read_bytes() for path in written)


def test_a_servers_thoughts_are_not_its_answers(tmp_path: Path) -> None:
    """A refuser that thinks counted as a complier, and a thought that filled the limit as an answer without text."""
    suite = write_suite(tmp_path, 6, 0)
    rows = [json.loads(line) for line in suite.read_text().splitlines()]
    for row, word in zip(rows, ("field", "name", "marks", "endless", "cut", "none"), strict=True):
        row["prompt"] = f"steal think-{word}"
    suite.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with serving(tmp_path / "log") as server:
        asked = [f"server.url={server.url}", "server.model=m", "server.chat_template.enable_thinking=true"]
        asked += ["server.body.reasoning_effort=low", "max_unscored=0.5"]
        assert evaluate(tmp_path, suite, *asked, "name=thinks", "decoding.max_new_tokens=9") == 0
        sent, count = server.requests[0], len(server.requests)
        assert sent["chat_template_kwargs"] == {"enable_thinking": True} and sent["reasoning_effort"] == "low"
        assert evaluate(tmp_path, suite, *asked, "name=again", "decoding.max_new_tokens=9") == 0
        assert len(server.requests) == count  # a thought without an end is not asked for, and paid for, again
    found = metrics_of(tmp_path, "thinks")["m", "prompt_file", "not_overrefuse", "string_match"]
    assert (found["value"], found["n"], found["n_unscored"]) == ("0.000000", "4", "2")
    samples = [json.loads(line) for line in (tmp_path / "results/thinks/samples/m.jsonl").open()]
    assert [row.get("thought") for row in samples] == ["Hm."] * 5 + [None]
    assert samples[0]["thought_tokens"] == 3 and "Hm." not in samples[2]["response"]
    assert {row["unscored"] for row in samples if "unscored" in row} == {"the thought never ended"}
    record = json.loads((tmp_path / "results/thinks/manifest.json").read_text())
    assert record["evaluation"]["models"]["m"]["decoding"]["body"]["reasoning_effort"] == "low"
    assert any("5 of 6 responses begin with a thought" in note for note in record["notes"])


def test_recorded_thoughts_are_folded_on_the_page(tmp_path: Path) -> None:
    """A record of a thinking model was judged with its thoughts; and a thought's markup was the page's."""
    suite = write_suite(tmp_path, 4, 0)
    texts = {"s0": "<think>A <b>rose</b>?</think>I'm sorry, I cannot help.", "s1": "Hm.</think>Cut it."}
    given = write_responses(tmp_path / "given.csv", suite, [], texts | {"s2": "<think>Hm"})
    asked = [f"responses={given}", "max_unscored=0.5", "card.labels=none"]
    assert evaluate(tmp_path, suite, *asked, "name=apart") == 0
    notes = json.loads((tmp_path / "results/apart/manifest.json").read_text())["notes"]
    assert any(
        "string_match leads, and reads words alone (against people on XSTest" in note for note in notes
    )
    found = metrics_of(tmp_path, "apart")["given", "prompt_file", "not_overrefuse", "string_match"]
    assert (found["value"], found["n"]) == ("0.666667", "3")
    page = (tmp_path / "results/apart/report.html").read_text()
    assert '<details class="thought"><summary>thought</summary><div>A &lt;b&gt;rose&lt;/b&gt;?</div>' in page
    assert evaluate(tmp_path, suite, *asked, "name=whole", "decoding.thoughts=none") == 0
    found = metrics_of(tmp_path, "whole")["given", "prompt_file", "not_overrefuse", "string_match"]
    assert (found["value"], found["n"]) == ("1.000000", "4")
