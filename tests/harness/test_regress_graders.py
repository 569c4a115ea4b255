"""Rewards whose grader must be asked, in the gate: a server process, a fitted encoder, the sandbox's oracle."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from gate_world import SANDBOX, edited_rules, read_json, write_description

from evals.graders.calibration import gold_labels
from evals.rules.rulebook import load_rulebook
from evals.values.conversation import LabelledResponse, Response, ResponseType, user_prompt
from evals.values.jsonl_rows import labelled_as_json, read_labelled, write_jsonl
from harness.worlds.sandbox.generate import synthetic
from harness.worlds.sandbox.source import RequestSource
from harness.worlds.sandbox.world import make_world
from rbrbench.cli import main
from trainers.supervised.encoder_config import EncoderFitConfig
from trainers.supervised.encoder_grader import EncodedResponses, fit_head

SERVER = Path(__file__).parents[1] / "tiny" / "grader_server_process.py"
RULES = """
simple_propositions:
  apology: {prompt: "is it sorry ?", polarity: bad}
  cake: {prompt: "is it cake ?"}
derived_propositions:
  good: {apology: false, cake: true}
completion_class_order: [ideal, bad]
completion_classes:
  ideal: {comply: {good: true}}
  bad: {comply: {good: false}}
"""
TEXTS = {"the cake today": (False, True), "sorry the cake": (True, True), "the soup please": (False, False)}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """rules.yaml, fitting.jsonl and completions.jsonl: 40 prompts, three completions each."""
    (tmp_path / "rules.yaml").write_text(RULES, encoding="utf-8")
    for name, first in (("completions", 0), ("fitting", 100)):
        rows = [
            LabelledResponse(
                Response(user_prompt(f"p{n}", f"the boat number {n}", ResponseType.COMPLY), f"{text} {n}"),
                {"apology": apology, "cake": cake},
            )
            for n in range(first, first + 40)
            for text, (apology, cake) in TEXTS.items()
        ]
        write_jsonl(tmp_path / f"{name}.jsonl", map(labelled_as_json, rows))
    return tmp_path


def gate(world: Path, baseline: Path, candidate: Path, name: str, *more: str) -> int:
    given = {
        "baseline": baseline,
        "candidate": candidate,
        "on": world / "completions.jsonl",
        "results": world / "results",
        "name": name,
    }
    return main(
        [
            "regress",
            *(f"{k}={v}" for k, v in given.items()),
            "draws=200",
            "sign_flips=2000",
            "margin=0.1",
            *more,
        ]
    )


@contextmanager
def grader_server(log: Path) -> Iterator[str]:
    """The address of a server in a process of its own."""
    log.touch()
    process = subprocess.Popen(
        [sys.executable, str(SERVER), str(log)], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.communicate()


def asked(log: Path) -> list[str]:
    """The questions that the server was asked so far."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return [str(row["messages"][-1]["content"]) for row in rows]


def test_a_server_is_asked_once_and_an_edited_rule_alone_is_asked_again(world: Path, tmp_path: Path) -> None:
    """Guards: a description that no server was ever asked by, and a gate that pays for every grade twice."""
    log = tmp_path / "requests.jsonl"
    with grader_server(log) as address:
        server = {"kind": "server", "server": {"url": address, "model": "m", "attempts": 1}}
        reward = write_description(world / "reward.yaml", "rules.yaml", grader=server)
        assert gate(world, reward, reward, "same") == 0
        assert (
            len(asked(log)) == 2 * 2 * len(TEXTS) * 40
        )  # both sets, both questions; one side's grades serve both
        edited_rules(world, "edited", "is it cake ?", "is there cake ?")
        edited = write_description(world / "edited_reward.yaml", "edited.yaml", grader=server)
        before = len(asked(log))
        assert gate(world, reward, edited, "edited") == 0
        new = asked(log)[before:]
        assert len(new) == 2 * len(TEXTS) * 40 and all("is there cake ?" in question for question in new)
    assert gate(world, reward, edited, "gone") == 0  # the server is: its grades are kept
    report = read_json(world / "results/edited/gate.json")
    assert all(d["turned"] == 0 for d in report["disagreements"])


def test_a_server_that_fails_leaves_it_open_and_keeps_its_grades(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards: a failure that becomes a number, or a class."""
    rows = [json.loads(line) for line in (world / "completions.jsonl").read_text().splitlines()]
    for row in rows[::9]:
        row["completion"] = f"broken {row['completion']}"
    write_jsonl(world / "completions.jsonl", rows)
    with grader_server(tmp_path / "requests.jsonl") as address:
        server = {"kind": "server", "server": {"url": address, "model": "m", "attempts": 1}}
        reward = write_description(world / "reward.yaml", "rules.yaml", grader=server)
        assert gate(world, reward, reward, "broken") == 3
    said = " ".join(capsys.readouterr().out.split())
    assert "14 of 120 completions are unscored" in said and "the server answered 500" in said
    kept = len((world / "results/.grades.jsonl").read_text().splitlines())
    assert kept == 2 * (120 - 14) + 2 * 120


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"base_ur": "http://x"}, "reward.yaml:4: field 'grader.server.base_ur': no such key"),
        ({"base_url": "http://x"}, "field 'grader.server.base_url': has a new name; write grader.server.url"),
        ({"model": ""}, "reward.yaml:4: field 'grader.server.model': is empty; say which server"),
        (
            {"concurrency": "eight"},
            "field 'grader.server.concurrency': is 'eight'; write a value of type int",
        ),
        (
            {"timeout": 0},
            "reward.yaml:5: field 'grader.server.timeout': is 0.0; give a finite number above 0",
        ),
    ],
)
def test_a_bad_description_of_a_server_is_one_line(
    world: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], expected: str
) -> None:
    """Guards: a traceback from the client's thread instead of the place in the file."""
    server = {"kind": "server", "server": {"url": "http://127.0.0.1:9/v1", "model": "m"} | change}
    reward = write_description(world / "reward.yaml", "rules.yaml", grader=server)
    assert gate(world, reward, reward, "bad") == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("rbrbench: ") and "\n" not in error and expected in error


def test_an_encoder_grades_in_the_gate_and_an_edited_question_is_unscored(
    world: Path, save_random_encoder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards: an encoder reads labels, not questions, so an edited question once changed nothing and passed."""
    save_random_encoder(world / "plain", "sorry cake the a today please well then soup boat".split())
    rules, labelled = load_rulebook(world / "rules.yaml"), read_labelled(world / "fitting.jsonl")
    names = list(rules.propositions)
    encoded = EncodedResponses.by(str(world / "plain"), [item.response for item in labelled], 64)
    fitted = fit_head(encoded, gold_labels(labelled, names), names, EncoderFitConfig())
    fitted.answering(list(rules.propositions.values())).save(world / "encoder")
    encoder = {"kind": "encoder", "path": "encoder"}
    reward = write_description(world / "reward.yaml", "rules.yaml", grader=encoder)
    assert gate(world, reward, reward, "encoder") == 0
    report = read_json(world / "results/encoder/gate.json")
    assert next(c["change"]["candidate"] for c in report["checks"] if c["label"] == "overall") < 0.02
    edited_rules(world, "edited", "is it cake ?", "is there cake ?")
    edited = write_description(world / "edited_reward.yaml", "edited.yaml", grader=encoder)
    capsys.readouterr()
    assert gate(world, reward, edited, "edited") == 3
    assert "cake: recorded for another wording of the question" in capsys.readouterr().err
    text = (world / "rules.yaml").read_text().replace("  cake:", '  soup: {prompt: "is it soup ?"}\n  cake:')
    (world / "more.yaml").write_text(text.replace("good: {apology", "good: {soup: false, apology"))
    more = write_description(world / "more_reward.yaml", "more.yaml", grader=encoder)
    assert gate(world, reward, more, "more") == 2
    assert "no output for proposition 'soup'" in capsys.readouterr().err


def test_the_oracle_grades_in_the_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards: the one grader that never errs, and a lax rulebook that it must show to be worse."""
    world = make_world(seed=0, topics_per_area=12, difficulty=0.375)
    world.save(tmp_path / "sandbox.json")
    (tmp_path / "rules.yaml").write_text(SANDBOX.read_text(encoding="utf-8"), encoding="utf-8")
    rules = load_rulebook(SANDBOX)
    for seed, (name, split) in enumerate((("completions", "held_out"), ("fitting", "train"))):
        source = RequestSource(world, rules, np.random.default_rng(seed), world.of(split=split), split)
        rows = synthetic(source, 120, name)
        write_jsonl(tmp_path / f"{name}.jsonl", map(labelled_as_json, rows))
    oracle = {"kind": "oracle", "path": "sandbox.json"}
    reward = write_description(tmp_path / "reward.yaml", "rules.yaml", grader=oracle)
    few = ("min_prompts=20", "cluster=prompt")  # of a world with few topics
    keys = ("response_types=[comply,hard_refuse]", *few, f"rulebook={tmp_path / 'rules.yaml'}")
    assert gate(tmp_path, reward, reward, "oracle", *keys) == 0
    report = read_json(tmp_path / "results/oracle/gate.json")
    assert report["checks"][0]["change"]["baseline"] < 0.01
    write_description(tmp_path / "gone.yaml", "rules.yaml", grader=oracle | {"path": "gone.json"})
    capsys.readouterr()
    assert gate(tmp_path, reward, tmp_path / "gone.yaml", "gone", *keys) == 2
    assert "gone.json: not a sandbox world" in capsys.readouterr().err
