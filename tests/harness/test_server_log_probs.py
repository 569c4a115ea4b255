"""evals/models/answer.py, harness/subjects/server_model.py: how likely a server was to write what it wrote."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_servers import Handler, JsonServer, completion, in_a_thread

from evals.models.answer import log_prob_of
from evals.values.jsonl_rows import read_jsonl
from harness.ceiling.drawing import draw_samples
from harness.keys.compose import compose_command
from harness.keys.samples import SamplesConfig
from harness.runtime.console import Console
from harness.subjects.sample_set import read_samples

# As https://platform.openai.com/docs/api-reference/chat/object has it: a character may be cut between two tokens.
TOKENS = [
    {"token": "Voil", "logprob": -0.5, "bytes": [86, 111, 105, 108], "top_logprobs": []},
    {"token": "\\xc3", "logprob": -0.25, "bytes": [0xC3], "top_logprobs": []},
    {"token": "\\xa0", "logprob": 0.0, "bytes": [0xA0], "top_logprobs": []},
    {"token": ".", "logprob": -2.0, "bytes": [46], "top_logprobs": []},
]
END = {"token": "<|im_end|>", "logprob": -0.125, "bytes": None, "top_logprobs": []}


class Telling(JsonServer):
    """Gives log-probabilities as OpenAI documents them, without them by a prompt's word, or refuses to.

    As llama-cpp-python does it lists none where `top_logprobs` is not asked for, unless it knows no such field.
    """

    def __init__(self, refuses: int = 0, field: str = "logprobs") -> None:
        super().__init__()
        self.refuses, self.field = refuses, field
        self.bodies: list[dict[str, Any]] = []

    def answer(self, handler: Handler, body: dict[str, Any]) -> None:
        with self.lock:
            self.bodies.append(body)
        if self.field in body and self.refuses:
            said = f"{self.field} is not supported for models created with logits_all=False"
            return handler.send(self.refuses, {"error": {"message": said, "type": "invalid_request_error"}})
        choice: dict[str, Any] = {"message": {"role": "assistant", "content": "Voilà."}}
        lists = body.get("logprobs") and (body.get("top_logprobs") or self.refuses)
        if lists and "silent" not in body["messages"][-1]["content"]:
            choice["logprobs"] = {"content": TOKENS, "refusal": None}
        handler.send(200, completion(choice))


def drawn(server: Telling, folder: Path, *more: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows and the manifest of a set that the server wrote."""
    prompts = [
        {"id": str(i), "prompt": text, "response_type": "comply"}
        for i, text in enumerate(("one", "two", "be silent"))
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    keys = [
        f"server.url={server.url}",
        "server.model=m",
        "server.attempts=2",
        f"prompts={folder / 'prompts.jsonl'}",
    ]
    keys += ["judges=[string_match]", f"out={folder / 'set'}", "set=one", f"results={folder / 'results'}"]
    manifest = draw_samples(
        compose_command("samples", SamplesConfig, [*keys, "decoding.samples=2", *more]),
        ["samples"],
        Console(),
    )
    return read_jsonl(folder / "set/samples.jsonl.gz", lambda row: dict(row.values)), manifest


def test_samples_of_a_server_keep_their_log_probabilities(tmp_path: Path) -> None:
    """They were thrown away, and only a model at hand told how likely its samples were."""
    with in_a_thread(Telling()) as server:
        rows, manifest = drawn(server, tmp_path)
    assert [row.get("log_prob") for row in rows] == [-2.75] * 4 + [None] * 2
    assert manifest["log_probs"] == 4 and manifest["missing"] == 0
    assert manifest["spending"]["reference"]["requests"] == len(server.bodies)
    samples = read_samples(tmp_path / "set/samples.jsonl.gz")
    assert len(samples) == 6 and samples.own.all() and not samples.log_ratio.any()


def test_they_are_asked_for_where_they_are_of_what_was_drawn(tmp_path: Path) -> None:
    """Servers tell those of temperature 1; at another they would be of another distribution than the samples are."""
    with in_a_thread(Telling()) as server:
        rows, manifest = drawn(server, tmp_path, "decoding.temperature=0.7")
    assert not any("logprobs" in body for body in server.bodies)
    assert not any("log_prob" in row for row in rows) and manifest["log_probs"] == 0


@pytest.mark.parametrize("status", [400, 500])
def test_a_server_that_gives_none_is_asked_without(tmp_path: Path, status: int) -> None:
    """A server that refuses the field, or fails at it, gave no response at all."""
    with in_a_thread(Telling(status)) as server:
        rows, manifest = drawn(server, tmp_path)
    assert all(row["response"] == "Voilà." for row in rows) and manifest["log_probs"] == 0
    assert sum("logprobs" in body for body in server.bodies) == 1
    assert sum("top_logprobs" in body for body in server.bodies) == 1, (
        "a server refuses it where it stands alone"
    )


def test_a_server_that_lists_no_others_tells_those_of_its_own(tmp_path: Path) -> None:
    """`top_logprobs` is said for servers that list nothing without it; one that does not take it lists its own."""
    with in_a_thread(Telling(400, "top_logprobs")) as server:
        _, manifest = drawn(server, tmp_path)
    assert manifest["log_probs"] == 4
    assert sum("top_logprobs" in body for body in server.bodies) == 1


def choice(content: object, text: object = "Voilà.", ended: str = "stop") -> Any:
    message = SimpleNamespace(content=text)
    return SimpleNamespace(logprobs={"content": content}, message=message, finish_reason=ended)


def test_what_the_listed_tokens_must_be() -> None:
    """A sum over other tokens than the response's, a thought's say, would weigh it by another text's likelihood."""
    assert log_prob_of(choice(TOKENS)) == -2.75
    assert log_prob_of(choice([*TOKENS, END])) == -2.875
    assert log_prob_of(choice([*TOKENS, {**END, "token": ""}])) == -2.875
    whole = [
        {**token, "bytes": None, "token": t} for token, t in zip(TOKENS, ("Vo", "il", "à", "."), strict=True)
    ]
    assert log_prob_of(choice(whole)) == -2.75
    for value in (-9999.0, math.nan, 0.5, -math.inf, "-1", None):
        assert log_prob_of(choice([*TOKENS[:3], {**TOKENS[3], "logprob": value}])) is None
    for listed in ([], None, "x", TOKENS[:2], [*TOKENS, TOKENS[0], END], [1, 2]):
        assert log_prob_of(choice(listed)) is None
    assert (
        log_prob_of(choice(TOKENS, "")) is None
        and log_prob_of(SimpleNamespace(message=choice([]).message)) is None
    )


def test_a_token_that_the_text_does_not_show() -> None:
    """llama.cpp's servers list a mark of the template within an answer as "", and the text goes on without it: what
    was drawn is another text, whose likelihood was kept as that of the shown one."""
    mark = {"token": "", "logprob": -3.0, "bytes": [], "top_logprobs": []}
    for place in range(len(TOKENS)):
        found = log_prob_of(choice([*TOKENS[:place], mark, *TOKENS[place:]]))
        # Before what is not ASCII it may be the first piece of a character, as vLLM lists these.
        assert found == (-5.75 if place in (1, 2) else None), place
    assert log_prob_of(choice([*TOKENS, mark, END])) is None
    # One that ended was ended by the last token; one that was cut was not.
    assert log_prob_of(choice([*TOKENS, mark])) == -5.75
    assert log_prob_of(choice([*TOKENS, mark], ended="length")) is None
    assert log_prob_of(choice(TOKENS, ended="length")) == -2.75
