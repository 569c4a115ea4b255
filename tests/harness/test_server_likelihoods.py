"""Servers that say how likely given texts are: samples of several proposals reweighted, and capability measured."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_world import write_suite
from scoring_server import ECHO, LLAMA, PROMPT_LOGPROBS, ScoringServer
from tiny_servers import in_a_thread
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.models.likelihood import response_log_probs
from evals.values.conversation import Response
from evals.values.errors import InputError, UndecidableError
from evals.values.jsonl_rows import read_jsonl
from harness.ceiling.drawing import draw_samples
from harness.keys.compose import compose_command
from harness.keys.samples import SamplesConfig
from harness.runtime.console import Console
from harness.subjects.sample_set import SampleSet, read_samples
from harness.worlds.sandbox.generate import word_tokenizer
from rbrbench.cli import main
from trainers.models.model_config import ModelConfig
from trainers.models.sizes import new_causal_lm

WORDS = "Thursday one two three four I'm sorry cannot cake soup boat the days of week. well then please today bake can"
Local = tuple[PreTrainedModel, PreTrainedTokenizerBase]


def made(seed: int, says_marks: bool = False) -> Local:
    """Unless it `says_marks` it writes no special token but its end, whose word is another text when it is given."""
    tokenizer = word_tokenizer([WORDS], 64)
    model = new_causal_lm(ModelConfig(width=32, layers=2, heads=2, context=64), tokenizer, seed=seed)
    for weight in model.parameters():
        weight.data.mul_(2.0)
    if not says_marks:
        bias = torch.zeros(len(tokenizer))
        bias[tokenizer.all_special_ids] = -30.0
        bias[tokenizer.eos_token_id] = 0.0
        model.lm_head.register_forward_hook(lambda module, given, logits: logits + bias)
    return model.eval(), tokenizer


@pytest.fixture(scope="module")
def reference() -> Local:
    return made(0)


@pytest.fixture(scope="module")
def other() -> Local:
    return made(1)


def draw(folder: Path, server: ScoringServer, *more: str) -> tuple[SampleSet, list[dict[str, Any]]]:
    """A set that the server wrote, and its rows."""
    rows = [
        {"id": word, "prompt": f"{word} cake", "response_type": "comply"} for word in ("one", "two", "three")
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    keys = [f"server.url={server.url}", "server.model=m", "server.attempts=2", "server.concurrency=2"]
    keys += [
        f"prompts={folder / 'prompts.jsonl'}",
        "judges=[string_match]",
        f"out={folder / 'set'}",
        "set=one",
    ]
    keys += [f"results={folder / 'results'}", "decoding.samples=6", "decoding.max_new_tokens=4", *more]
    draw_samples(compose_command("samples", SamplesConfig, keys), ["samples"], Console())
    path = folder / "set/samples.jsonl.gz"
    written = [row for row in read_jsonl(path, lambda row: dict(row.values)) if row["response"] is not None]
    return read_samples(path), written


def at_hand(of: Local, responses: list[Response]) -> list[float]:
    """Log-probabilities by the model itself."""
    return [row[0] or 0.0 for row in response_log_probs(*of, responses)]


def test_hotter_samples_of_a_server_are_weighed_by_what_it_lists(reference: Local, tmp_path: Path) -> None:
    """They were refused; and by the model's own probabilities, which a hotter server does not draw by, all would be
    weighed wrongly."""
    with in_a_thread(ScoringServer(*reference, [])) as server:
        samples, rows = draw(tmp_path, server, "temperatures=[1.6]")
    asked = [body for body in server.bodies if body.get("top_logprobs")]
    assert {(body["temperature"], body["top_k"]) for body in asked} == {(1.0, 1_000_000), (1.6, 20)}
    assert all(body["top_p"] == 1.0 and body["min_p"] == 0.0 for body in asked)
    assert len(samples) == len(rows) > 30 and 15 <= samples.own.sum() <= 18
    assert [row["log_prob"] for row in rows] == pytest.approx(at_hand(reference, samples.responses), abs=1e-3)
    # Of the mixture no sample is less likely than half of what the reference makes it.
    assert samples.log_ratio.max() <= math.log(2) + 1e-4 and samples.log_ratio.min() < 0
    by_prompt = np.exp(samples.log_ratio)
    assert by_prompt.mean() == pytest.approx(1.0, abs=0.35)  # E over the mixture of reference / mixture


def test_samples_of_two_servers_are_weighed_by_prompt_log_probabilities(
    reference: Local, other: Local, tmp_path: Path
) -> None:
    """No server says how likely it is to write another's response, unless it is asked."""
    with (
        in_a_thread(ScoringServer(*reference)) as first,
        in_a_thread(ScoringServer(*other, [LLAMA])) as second,
    ):
        samples, rows = draw(tmp_path, first, f"others=[m2@{second.url}]")
        own, theirs = at_hand(reference, samples.responses), at_hand(other, samples.responses)
        mixture = [float(np.logaddexp(a, b) - math.log(2)) for a, b in zip(own, theirs, strict=True)]
        assert [row["log_prob"] for row in rows] == pytest.approx(own, abs=1e-3)
        assert [row["proposal_log_prob"] for row in rows] == pytest.approx(mixture, abs=1e-3)
        assert {row.get("proposal") for row in rows} == {None, f"m2@{second.url}"}
        scored = [len(server.bodies) for server in (first, second)]
        (tmp_path / "set" / "manifest.json").unlink()
        draw(tmp_path, first, f"others=[m2@{second.url}]")
        again = [len(server.bodies) - before for server, before in zip((first, second), scored, strict=True)]
        assert max(again) < 12 < min(scored) / 4, "what is answered and weighed is not asked again"


def test_a_hotter_one_and_another_at_once(reference: Local, other: Local, tmp_path: Path) -> None:
    """Each response under all three, the hotter one among the tokens that are listed."""
    with in_a_thread(ScoringServer(*reference)) as first, in_a_thread(ScoringServer(*other)) as second:
        samples, _ = draw(tmp_path, first, f"others=[m2@{second.url}]", "temperatures=[1.6]")
    assert len(samples) > 45 and 15 <= samples.own.sum() <= 18
    assert samples.log_ratio.max() <= math.log(3) + 1e-4


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["temperatures=[1.5]"], "tells no log-probabilities of what it writes"),
        (["others=[m2@URL]"], "the server tells no log-probabilities of responses"),
    ],
)
def test_a_server_that_cannot_weigh_is_refused_before_it_writes(
    reference: Local, tmp_path: Path, more: list[str], said: str
) -> None:
    """A thousand responses were paid for, and none could be used."""
    with in_a_thread(ScoringServer(*reference, [], tells=False)) as server:
        with pytest.raises(InputError, match=said) as refused:
            draw(tmp_path, server, *(key.replace("URL", server.url) for key in more))
        assert "\n" not in str(refused.value) and len(server.bodies) < 10


def test_a_server_that_draws_other_tokens_than_it_is_told_to(reference: Local, tmp_path: Path) -> None:
    """Unknown fields are ignored: hotter samples of all tokens, weighed as those of twenty."""
    said = pytest.raises(UndecidableError, match=r"beyond the 20 likeliest.*top_k")
    with in_a_thread(ScoringServer(*reference, [], knows_top_k=False)) as server, said:
        draw(tmp_path, server, "temperatures=[4]")


def test_a_server_that_lists_no_ends_is_told(reference: Local, tmp_path: Path) -> None:
    """A hotter model ends sooner or later than the reference, and samples were weighed as if it did not."""
    said = pytest.raises(UndecidableError, match="does not list the token that ends a response")
    with in_a_thread(ScoringServer(*reference, [], tells_ends=False)) as server, said:
        draw(tmp_path, server, "temperatures=[1.6]")


def test_the_ceiling_uses_a_servers_proposals(reference: Local, tmp_path: Path) -> None:
    """Weighed samples that no command could read."""
    with in_a_thread(ScoringServer(*reference, [])) as server:
        _, rows = draw(tmp_path, server, "temperatures=[1.6]")
    paid = [{**row, "reward": float(len(row["response"].split()))} for row in rows]
    kept = tmp_path / "paid.jsonl"
    kept.write_text("".join(json.dumps(row) + "\n" for row in paid))
    keys = [f"reward={kept}", f"on={tmp_path / 'set'}", "beta=1", "draws=100", "leave_out=false"]
    assert main(["ceiling", *keys, f"results={tmp_path / 'results'}", "min_prompts=2"]) in (0, 3)
    found = json.loads((tmp_path / "results/ceiling/ceiling.json").read_text())
    assert 15 <= found["samples"]["samples"] <= 36 and found["rewards"]["reward"]["effective"]["mean"] > 1


# --- capability --------------------------------------------------------------------------------------


def tasks(folder: Path) -> Path:
    """LAMBADA and HellaSwag by their released forms, in words that the model knows."""
    (folder / "lambada").mkdir(parents=True)
    words = ["one two three four", "bake the cake today", "can you bake soup", "well then please boat"]
    rows = [{"text": text} for text in words]
    (folder / "lambada/lambada_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize("dialect", [PROMPT_LOGPROBS, ECHO, LLAMA])
def test_capability_of_a_server_is_that_of_its_model(tmp_path: Path, dialect: str) -> None:
    """It needed the model at hand, and a server that scores texts was refused."""
    reference = made(0, says_marks=True)
    suite, root = write_suite(tmp_path, 2, 2), tasks(tmp_path / "tasks")
    model = tmp_path / "model"
    for part in reference:
        part.save_pretrained(model)
    asked = [
        "suites=[prompt_file]",
        f"suites.prompt_file.path={suite}",
        "judges=[string_match]",
        f"capability.root={root}",
        "decoding.max_new_tokens=3",
    ]
    found = {}
    with in_a_thread(ScoringServer(*reference, [dialect])) as server:
        sources = {
            "server": [f"server.url={server.url}", "server.model=m", "server.concurrency=2"],
            "folder": [f"subject.path={model}"],
        }
        for name, source in sources.items():
            keys = [*asked, *source, f"name={name}", f"results={tmp_path / 'results'}", "draws=100"]
            assert main(["evaluate", *keys, "threads=1"]) in (0, 3)  # some of its responses may be empty
            (kept,) = (tmp_path / "results" / name / "capability").iterdir()
            found[name] = [json.loads(line) for line in kept.read_text().splitlines()]
    outcomes = {name: [(row["metric"], row["outcomes"]) for row in rows] for name, rows in found.items()}
    assert outcomes["server"] == outcomes["folder"] and outcomes["server"]


def test_a_server_without_log_probabilities_has_no_capability(
    reference: Local, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every choice of a task had the same likelihood, 0, and the first was taken."""
    suite, root = write_suite(tmp_path, 2, 2), tasks(tmp_path / "tasks")
    with in_a_thread(ScoringServer(*reference, [])) as server:
        keys = [
            "suites=[prompt_file]",
            f"suites.prompt_file.path={suite}",
            "judges=[string_match]",
            f"capability.root={root}",
        ]
        keys += [f"server.url={server.url}", "server.model=m", f"results={tmp_path / 'results'}"]
        assert main(["evaluate", *keys, "threads=1"]) == 2
        assert "needs log-probabilities of given texts" in capsys.readouterr().err
        assert not any("messages" in body for body in server.bodies)
