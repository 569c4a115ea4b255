"""evals/models/apis: each API that a server may speak. Fakes do as providers document."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tiny_servers import Handler, JsonServer, completion, in_a_thread

from evals.graders.server import answer as grade_of
from evals.models.apis import APIS, find_api
from evals.models.chat_server import ChatServer
from evals.models.server import GraderServerSettings, JudgeServer, ServerSettings
from evals.values.errors import InputError
from evals.values.grades import Unscored
from harness.keys.help import meanings
from harness.storage.provenance import ROOT
from harness.subjects.server_model import read_answer

TURNS = [{"role": "user", "content": "Name a river."}]
KEY = "sk-very-secret"


class Plain(JsonServer):
    """Answers as chat completions, whatever the path."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []

    def answer(self, handler: Handler, body: dict[str, Any]) -> None:
        with self.lock:
            self.bodies.append(body)
            self.paths.append(handler.path)
        handler.send(200, self.said(body))

    def said(self, body: dict[str, Any]) -> dict[str, Any]:
        return completion({"message": {"role": "assistant", "content": "The Loire."}})


class Responses(Plain):
    def said(self, body: dict[str, Any]) -> dict[str, Any]:
        return responses_answer(body)


def responses_answer(body: dict[str, Any]) -> dict[str, Any]:
    """As the Responses endpoint documents it; the turn "cut" is ended by the limit while it thinks."""
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}
    listed = [{"token": "yes", "logprob": -0.1, "top_logprobs": [{"token": "yes", "logprob": -0.1}]}]
    part: dict[str, Any] = {"type": "output_text", "text": "yes", "logprobs": listed}
    if body["input"][-1]["content"] == "refuse":
        part = {"type": "refusal", "refusal": "No."}
    cut = body["input"][-1]["content"] == "cut"
    items = [thought] if cut else [thought, {"type": "message", "role": "assistant", "content": [part]}]
    details = {"reasoning_tokens": 5}
    return {
        "id": "r",
        "object": "response",
        "model": "m",
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": items,
        "usage": {"input_tokens": 2, "output_tokens": 9, "output_tokens_details": details},
    }


def chat(server: JsonServer, **settings: Any) -> ChatServer:
    quick = {"first_delay": 0.001, "longest_delay": 0.2, "attempts": 2, "timeout": 10.0}
    return ChatServer(ServerSettings(server.url, "river", **(quick | settings)))


def test_the_responses_endpoint() -> None:
    """Models that answer there alone could not be asked."""
    with in_a_thread(Responses()) as server:
        asked = chat(server, api="responses")
        found = asked.complete(TURNS, max_tokens=9, temperature=0, logprobs=True, top_logprobs=2)
        cut, no = (
            asked.complete([{"role": "user", "content": word}], max_tokens=9) for word in ("cut", "refuse")
        )
        body = server.bodies[0]
    assert server.paths == ["/v1/responses"] * 3
    assert body["max_output_tokens"] == 9 and body["store"] is False and body["top_logprobs"] == 2
    assert body["include"] == ["message.output_text.logprobs"] and body["input"] == TURNS
    assert grade_of(found, 0.5) == 1.0
    read = read_answer(found, 9)
    assert (read.text, read.thought, read.thought_tokens, read.finished) == ("yes", "Hm.", 5, True)  # type: ignore[union-attr]
    assert read_answer(cut, 9).unanswered == "the thought never ended"  # type: ignore[union-attr]
    assert read_answer(no, 9).refused  # type: ignore[union-attr]


class Messages(JsonServer):
    """As Anthropic documents its endpoint; turns of one word have it think, be cut, refuse or fail."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []

    def answer(self, handler: Handler, body: dict[str, Any]) -> None:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self.lock:
            self.asked.append((handler.path, headers, body))
        word = body["messages"][-1]["content"]
        thinks = body.get("thinking") is not None
        if thinks and "temperature" in body:
            return handler.send(
                400, anthropic_error("`temperature` may only be set to 1 when thinking is enabled.")
            )
        if word == "spent":
            soon = (datetime.now(UTC) + timedelta(seconds=50)).strftime("%Y-%m-%dT%H:%M:%SZ")
            left = {"requests": "12", "tokens": "0", "output-tokens": "0"}
            limits = {f"anthropic-ratelimit-{what}-remaining": count for what, count in left.items()}
            limits |= {f"anthropic-ratelimit-{what}-reset": soon for what in ("requests", "tokens")}
            return handler.send(429, anthropic_error("Too fast", "rate_limit_error"), headers=limits)
        if word == "busy":
            return handler.send(529, anthropic_error("Overloaded", "overloaded_error"))
        text = {"type": "text", "text": "The Loire."}
        thought = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
        content = {"cut": [thought], "refuse": []}.get(word, [thought, text] if thinks else [text])
        ended = {"cut": "max_tokens", "refuse": "refusal"}.get(word, "end_turn")
        usage = {"input_tokens": 2, "cache_creation_input_tokens": None, "cache_read_input_tokens": 40}
        usage |= {"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 5 * thinks}}  # type: ignore[dict-item]
        whole = {"id": "m", "type": "message", "role": "assistant", "model": "river-5-20260101"}
        handler.send(200, {**whole, "content": content, "stop_reason": ended, "usage": usage})


def anthropic_error(said: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": said}, "request_id": "r"}


def test_the_messages_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anthropic's models could be asked through another's translation alone, which loses thoughts and refusals."""
    monkeypatch.setenv("RIVER_KEY", KEY)
    turns = [{"role": "system", "content": "Be brief."}, *TURNS]
    with in_a_thread(Messages()) as server:
        asked = chat(server, api="messages", key_variable="RIVER_KEY")
        found = asked.complete(turns, max_tokens=9, temperature=0, seed=3)
        cut, no, busy = (
            asked.complete([{"role": "user", "content": word}], max_tokens=9)
            for word in ("cut", "refuse", "busy")
        )
        thinking = chat(server, api="messages", body={"thinking": {"type": "adaptive"}})
        thought = thinking.complete(turns, max_tokens=9, temperature=0)
    path, headers, body = server.asked[0]
    assert path == "/v1/messages" and "authorization" not in headers
    assert (headers["x-api-key"], headers["anthropic-version"]) == (KEY, "2023-06-01")
    wanted = {"model": "river", "system": "Be brief.", "messages": TURNS, "max_tokens": 9, "temperature": 0}
    assert body == wanted
    assert read_answer(found, 9).text == "The Loire."  # type: ignore[union-attr]
    assert read_answer(cut, 9).unanswered == "the thought never ended"  # type: ignore[union-attr]
    assert read_answer(no, 9).refused  # type: ignore[union-attr]
    assert busy == Unscored("the server answered 529 (code overloaded_error), 2 times")
    read = read_answer(thought, 9)
    assert (read.text, read.thought, read.thought_tokens) == ("The Loire.", "Hm.", 5)  # type: ignore[union-attr]
    assert asked.spending.prompt_tokens == 3 * 42 and asked.spending.completion_tokens == 27
    told = " ".join(asked.notes)
    assert "takes no seed" in told and "answered as river-5-20260101" in told and KEY not in told
    assert "answers are not greedy" in " ".join(thinking.notes)


def test_each_apis_own_headers_say_when_its_limit_ends() -> None:
    """Anthropic's limits have other headers than OpenAI's: a spent minute was asked again at once, five times."""
    waits: list[float] = []
    with in_a_thread(Messages()) as server:
        settings = ServerSettings(server.url, "river", api="messages", attempts=2, longest_delay=99.0)
        asked = ChatServer(
            settings, sleep=lambda seconds: (waits.append(seconds), setattr(asked._pace, "_until", 0.0))
        )
        found = asked.complete([{"role": "user", "content": "spent"}], max_tokens=9)
    assert found == Unscored("the server answered 429 (code rate_limit_error), 2 times")
    (wait,) = waits
    assert 45 < wait <= 50
    read = find_api("messages").exhausted
    for nonsense in ("", "soon", "-1", "2026-13-45T00:00:00Z", "2020-01-01T00:00:00Z", "2999-01-01"):
        assert (
            read({"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": nonsense})
            == 0.0
        )


def test_what_an_api_has_no_field_for_is_told_before_it_is_asked() -> None:
    """A grader by log-probabilities of an API that has none asked for every grade, and paid for each."""
    with in_a_thread(Messages()) as server:
        found = chat(server, api="messages").complete(TURNS, max_tokens=1, logprobs=True)
    assert found == Unscored("the API messages has no logprobs") and not server.asked
    with pytest.raises(
        InputError, match=r"'server.reads': .*messages gives no log-prob.*say server.reads=text"
    ):
        GraderServerSettings("http://a/v1", "m", api="messages")
    assert GraderServerSettings("http://a/v1", "m", api="messages", reads="text").reads == "text"
    with pytest.raises(InputError, match=r"'server.batch': .*messages has no batch endpoint"):
        JudgeServer("http://a/v1", "m", api="messages", batch="folder")


@pytest.mark.parametrize("name", APIS)
def test_each_api_keeps_the_contract(name: str) -> None:
    """A hostile answer ended the thread that read it; a page or a help text did not know an API that there is."""
    api = find_api(name)
    assert api.limits and not api.path.startswith("/") and "temperature" in api.takes
    asked = api.question(TURNS, {api.limits[0]: 9, "temperature": 0})
    assert asked[api.limits[0]] == 9 and asked["temperature"] == 0 and TURNS in asked.values()
    values: list[Any] = [None, "x", 3, [], {}, [None], ["x"], [[]], [{}], {"x": 1}]
    for field in (
        "choices",
        "output",
        "content",
        "usage",
        "incomplete_details",
        "stop_reason",
        "status",
        "model",
    ):
        for value in values:
            read = api.completion({field: value})
            assert name == "chat" or all(isinstance(c["message"]["content"], str) for c in read["choices"])
    assert name in meanings(ServerSettings)["api"]
    assert f"`{name}`" in (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")


def test_an_api_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of another kind needed a fork; and answers by an API's old code were kept as its new code's."""
    (tmp_path / "own_api.py").write_text(
        "from dataclasses import replace\n"
        "from evals.models.apis.chat import API\n"
        "OTHER = replace(API, path='talk', takes=frozenset({'temperature'}))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with in_a_thread(Plain()) as server:
        asked = chat(server, api="own_api:OTHER")
        assert asked.complete(TURNS, max_tokens=9, seed=1).choices[0].message.content == "The Loire."
    assert server.paths == ["/v1/talk"] and "seed" not in server.bodies[0]
    (said,) = asked.config.said()
    assert said["api"].startswith("own_api:OTHER ") and asked.config.extra_body() == {}
    with pytest.raises(InputError, match=r"'server.api'.*is no ChatApi"):
        chat(server, api="own_api:replace")
