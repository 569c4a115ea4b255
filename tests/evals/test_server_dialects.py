"""Servers' dialects: what one refuses, how fast it may be asked, who it says it is. Fakes do as providers document."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest
from tiny_servers import Handler, JsonServer, completion, in_a_thread

from evals.models.apis.rate_limits import exhausted
from evals.models.chat_server import ChatServer
from evals.models.pace import Pace, retry_after
from evals.models.server import ServerSettings
from evals.values.errors import InputError
from evals.values.grades import Unscored

TURNS = [{"role": "user", "content": "Name a river."}]
KEY = "sk-very-secret"


def refused(param: str, code: str, said: str) -> dict[str, Any]:
    return {"error": {"message": said, "type": "invalid_request_error", "param": param, "code": code}}


class Reasoning(JsonServer):
    """As OpenAI documents its reasoning models: another name of the limit, and no temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[dict[str, Any]] = []
        self.headers_sent: list[dict[str, str]] = []
        self.named = ("river-2026-01-01", "fp_1")

    def answer(self, handler: Handler, body: dict[str, Any]) -> None:
        with self.lock:
            self.bodies.append(body)
            self.headers_sent.append({name.lower(): value for name, value in handler.headers.items()})
        if "max_tokens" in body:
            said = f"Unsupported parameter: 'max_tokens' is not supported with {KEY}. Use 'max_completion_tokens'."
            return handler.send(400, refused("max_tokens", "unsupported_parameter", said))
        if "temperature" in body:
            said = "Unsupported value: 'temperature' does not support 0 with this model."
            return handler.send(400, refused("temperature", "unsupported_value", said))
        whole = completion({"message": {"role": "assistant", "content": "The Loire."}})
        whole |= {"model": self.named[0], "system_fingerprint": self.named[1]}
        handler.send(200, whole)


def chat(server: JsonServer, **settings: Any) -> ChatServer:
    quick = {"first_delay": 0.001, "longest_delay": 0.2, "attempts": 2, "timeout": 10.0}
    return ChatServer(ServerSettings(server.url, "river", **(quick | settings)))


def test_a_dialect_is_found_out_before_a_thousand_requests(caplog: pytest.LogCaptureFixture) -> None:
    """Every request of a suite was refused for `max_tokens`, and then for its temperature, and all was unscored."""
    with in_a_thread(Reasoning()) as server, caplog.at_level(logging.INFO):
        asked = chat(server, concurrency=8)
        answers = list(
            asked.map(lambda turns: asked.complete(turns, max_tokens=9, temperature=0), [TURNS] * 12)
        )
    assert [answer.choices[0].message.content for answer in answers] == ["The Loire."] * 12
    assert len(server.bodies) == 12 + 2 == asked.requests
    assert server.bodies[-1]["max_completion_tokens"] == 9 and "temperature" not in server.bodies[-1]
    told = " ".join(asked.notes)
    assert "calls the limit of tokens max_completion_tokens" in told and "answers are not greedy" in told
    assert "river-2026-01-01 (fingerprint fp_1)" in told
    assert KEY not in caplog.text + told


@pytest.mark.parametrize(
    "said",
    [
        "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) is supported.",
        "`temperature` is deprecated for this model.",
        'Unknown name "temperature": Cannot find field.',
        "Input validation error: `temperature` must be strictly positive",
        "invalid temperature: only 1 is allowed for this model",
    ],
)
def test_a_temperature_is_refused_in_many_words(said: str) -> None:
    """A provider's own words for it left everything unscored."""

    class NoTemperature(JsonServer):
        def answer(self, handler: Handler, body: dict[str, Any]) -> None:
            if "temperature" in body:
                return handler.send(
                    400, {"error": {"message": said, "type": "invalid_request_error", "param": None}}
                )
            return handler.send(200, completion({"message": {"role": "assistant", "content": "The Loire."}}))

    with in_a_thread(NoTemperature()) as server:
        asked = chat(server)
        answer = asked.complete(TURNS, max_tokens=9, temperature=0)
    assert answer.choices[0].message.content == "The Loire." and "not greedy" in " ".join(asked.notes)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"message": "Unrecognized request arguments supplied: min_p, top_k"}}),
        (
            422,
            {"detail": [{"type": "extra_forbidden", "loc": ["body", name]} for name in ("min_p", "top_k")]},
        ),
    ],
)
def test_several_fields_that_may_go_are_left_out_at_once(status: int, body: dict[str, Any]) -> None:
    """Two unknown fields in one refusal, and every request after it was refused too."""

    class Plain(JsonServer):
        count = 0

        def answer(self, handler: Handler, asked: dict[str, Any]) -> None:
            self.count += 1
            if "top_k" in asked or "min_p" in asked:
                return handler.send(status, body)
            handler.send(200, completion({"message": {"role": "assistant", "content": "The Loire."}}))

    with in_a_thread(Plain()) as server:
        asked = ChatServer(
            ServerSettings(server.url, "river", attempts=2), spared=("min_p", "top_k", "top_p")
        )
        found = asked.complete(TURNS, max_tokens=9, temperature=1, top_p=1.0, min_p=0.0, top_k=7)
    assert found.choices[0].message.content == "The Loire." and server.count == 2
    assert {"the server knows no top_k", "the server knows no min_p"} <= set(asked.notes)


def test_what_is_refused_for_another_reason_stays_refused() -> None:
    """A limit beyond what the model has was asked for by another name, and the reason was lost."""

    class Strict(JsonServer):
        count = 0

        def answer(self, handler: Handler, body: dict[str, Any]) -> None:
            self.count += 1
            said = f"max_tokens is too large for {KEY}"
            handler.send(400, refused("max_tokens", "integer_above_max_value", said))

    with in_a_thread(Strict()) as server:
        found = chat(server).complete(TURNS, max_tokens=9, temperature=0)
    assert found == Unscored("the server answered 400 (code integer_above_max_value, parameter max_tokens)")
    assert server.count == 1


@pytest.mark.parametrize(
    "said",
    [
        "System role not supported",
        "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
        "Developer instruction is not enabled for models/river",
    ],
)
def test_a_server_without_system_turns(said: str) -> None:
    """A judge with a system turn judged nothing behind a server whose template refuses one."""
    bodies = []

    class Alternating(JsonServer):
        def answer(self, handler: Handler, body: dict[str, Any]) -> None:
            bodies.append(body)
            if body["messages"][0]["role"] == "system":
                return handler.send(400, refused("messages[0].role", "unsupported_value", said))
            return handler.send(200, completion({"message": {"role": "assistant", "content": "The Loire."}}))

    turns = [{"role": "system", "content": "Be brief."}, *TURNS]
    with in_a_thread(Alternating()) as server:
        asked = chat(server, concurrency=4)
        found = list(asked.map(lambda t: asked.complete(t, max_tokens=9, temperature=0), [turns] * 3))
    assert [one.choices[0].message.content for one in found] == ["The Loire."] * 3
    assert len(bodies) == 4
    assert bodies[-1]["messages"] == [{"role": "user", "content": "Be brief.\n\nName a river."}]
    assert "takes no system turn" in " ".join(asked.notes)


def test_a_prompt_that_is_refused_teaches_nothing() -> None:
    """Words of a refused prompt about temperatures took the temperature from every request after it."""

    class Filter(JsonServer):
        def answer(self, handler: Handler, body: dict[str, Any]) -> None:
            said = "The prompt was flagged: at which temperature does it melt?"
            handler.send(400, {"error": {"message": said, "code": "content_filter"}})

    with in_a_thread(Filter()) as server:
        asked = chat(server)
        assert isinstance(asked.complete(TURNS, max_tokens=9, temperature=0), Unscored)
    assert "greedy" not in " ".join(asked.notes) and asked.requests == 1


def test_keys_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway's key stood in the record, or a field that a server needs could not be sent."""
    monkeypatch.setenv("GATEWAY", KEY)
    with in_a_thread(Reasoning()) as server:
        extra = {"body": {"reasoning": {"effort": "low"}}, "chat_template": {"enable_thinking": False}}
        asked = chat(
            server,
            headers={"X-Team": "safety"},
            header_variables={"api-key": "GATEWAY"},
            limit="max_completion_tokens",
            **extra,
        )
        asked.complete(TURNS, max_tokens=9)
        (body,), (headers,) = server.bodies, server.headers_sent
    assert body["reasoning"] == {"effort": "low"} and body["max_completion_tokens"] == 9
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert (headers["x-team"], headers["api-key"]) == ("safety", KEY)
    assert KEY not in repr(asked.config)
    with pytest.raises(InputError, match=r"header_variables.api-key.*export NOT_SET"):
        chat(server, header_variables={"api-key": "NOT_SET"})
    with pytest.raises(InputError, match=r"'server.api'.*use one of chat, messages, responses, or your own"):
        ServerSettings(server.url, "m", api="completions")


def test_a_model_that_changes_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Half of a suite was answered by the model's next version, and nobody saw it."""
    with in_a_thread(Reasoning()) as server:
        asked = chat(server, limit="max_completion_tokens")
        asked.complete(TURNS, max_tokens=9)
        server.named = ("river-2026-02-02", "fp_2\n<b>")
        asked.complete(TURNS, max_tokens=9)
    (told,) = (note for note in asked.notes if "asked its server" not in note)
    assert (
        "changed while it was asked: river-2026-01-01 (fingerprint fp_1) 1 times, river-2026-02-02 1 times"
        in told
    )
    assert "answers as river-2026-02-02 now" in caplog.text


def test_limits_are_read_from_headers() -> None:
    """A 429 that says when to come back was asked again after half a second, five times, and given up."""
    assert retry_after({"retry-after-ms": "1500"}) == 1.5 and retry_after({"retry-after": "2"}) == 2.0
    soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    assert 25 < retry_after({"retry-after": soon}) <= 30
    spent = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2.5s"}
    assert exhausted(spent) == 62.5 and exhausted(spent | {"x-ratelimit-remaining-requests": "1"}) == 0.0
    for nonsense in ("", "soon", "-1", "nan", "1e99", "1x"):
        assert retry_after({"retry-after": nonsense, "x-ratelimit-reset-requests": nonsense}) == 0.0


def test_concurrency_adapts() -> None:
    """Eight at once against a limit of two: most requests were refused, over and over."""
    clock = [0.0]
    pace = Pace(8, 5.0, lambda: clock[0])
    pace.too_much({})
    pace.too_much({"retry-after": "60"})
    assert pace.allowed == 2 and pace._wait() == 5.0  # no longer than the setting
    clock[0] = 5.0
    for _ in range(2):
        pace.answered({})
    assert pace.allowed == 3 and pace._wait() == 0.0
    entered = threading.Event()
    with pace.turn(), pace.turn(), pace.turn():
        threading.Thread(target=lambda: pace.turn().__enter__() or entered.set(), daemon=True).start()
        assert not entered.wait(0.05)
    assert entered.wait(5)
