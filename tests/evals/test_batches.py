"""A judge by a batch endpoint: a file of requests, fetched later, resumed after a kill; no fault is a verdict."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tiny_servers import Handler, JsonServer, completion, in_a_thread

from evals.judges import build_judge
from evals.models import batch
from evals.models.server import JudgeServer
from evals.values.conversation import Response, ResponseType, user_prompt


class BatchHandler(Handler):
    server: BatchServer

    def do_GET(self) -> None:
        self.server.look(self)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v1/files":
            self.server.upload(self, body)
        else:
            self.server.answer(self, json.loads(body))


class BatchServer(JsonServer):
    """As OpenAI documents its batches: files, batches and their states; `waits` looks until one has ended."""

    def __init__(self, waits: int = 1) -> None:
        super().__init__()
        self.RequestHandlerClass = BatchHandler
        self.waits, self.asked, self.files, self.batches = waits, [], {}, []  # type: ignore[var-annotated]

    def upload(self, handler: Handler, body: bytes) -> None:
        rows = [json.loads(line) for line in re.findall(rb'^[{]"custom_id".*[}]', body, re.MULTILINE)]
        name = f"file-{len(self.files)}"
        self.files[name] = rows
        handler.send(200, {"id": name, "object": "file"})

    def answer(self, handler: Handler, body: dict[str, Any]) -> None:
        if handler.path == "/v1/batches":
            self.batches.append(body["input_file_id"])
            return self.state(handler, len(self.batches) - 1)
        self.asked.append(body)
        handler.send(200, self.verdict(body))

    def verdict(self, body: dict[str, Any]) -> dict[str, Any]:
        text = "2_full_refusal" if "zzsorry" in json.dumps(body["messages"]) else "1_full_compliance"
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": 10, "completion_tokens": 2}
        return completion({"message": message}) | {"usage": usage}

    def look(self, handler: Handler) -> None:
        if handler.path.endswith("/content"):
            rows = [self.line(row) for row in self.files[handler.path.split("/")[3].removeprefix("out-")]]
            return handler.send(200, "\n".join(rows))
        self.waits -= 1
        self.state(handler, int(handler.path.rpartition("-")[2]))

    def line(self, row: dict[str, Any]) -> str:
        status = 500 if "zzbroken" in json.dumps(row["body"]) else 200
        response = {"status_code": status, "body": self.verdict(row["body"]) if status == 200 else {}}
        return json.dumps({"custom_id": row["custom_id"], "response": response, "error": None})

    def state(self, handler: Handler, number: int) -> None:
        status = "completed" if self.waits <= 0 else "in_progress"
        out = f"out-{self.batches[number]}" if status == "completed" else None
        handler.send(
            200, {"id": f"batch-{number}", "object": "batch", "status": status, "output_file_id": out}
        )


def responses(*texts: str) -> list[Response]:
    kind = ResponseType.COMPLY
    return [Response(user_prompt(f"p{i}", f"prune {i} ?", kind), text) for i, text in enumerate(texts)]


def judge(server: BatchServer, folder: Path, **more: Any) -> Any:
    settings = JudgeServer(server.url, "m", batch=str(folder), attempts=1, **more)
    return build_judge("by_batch", {"kind": "xstest_prompt", "server": settings})


class Killed(BaseException):
    """What a kill does, in a process that goes on to look."""


def test_a_batch_is_resumed_and_paid_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that was stopped in the hours of a batch made, and paid for, another one."""
    texts = ["Cut it.", "zzsorry", "zzbroken", "zzsorry, no", "Cut it."]
    monkeypatch.setattr(batch, "WAIT", 0.001)
    with in_a_thread(BatchServer(waits=3)) as server:
        first = judge(server, tmp_path)

        def killed(_: float) -> None:
            raise Killed

        first.backend.server._sleep = killed
        with pytest.raises(Killed):
            first.judge(responses(*texts))
        assert server.batches == ["file-0"] and [len(rows) for rows in server.files.values()] == [4]
        again = judge(server, tmp_path)
        said = again.judge(responses(*texts))
        assert server.batches == ["file-0"], "no other batch was made"
        assert [one.refused for one in said] == [False, True, None, True, False]
        assert "the server answered 500" in str(said[2].reason)
        assert again.judge(responses(*texts))[1].refused is True and server.batches == ["file-0"]
    assert len(server.asked) == 3  # the first request of each, which finds out what the server takes
    assert again.at_once


def test_what_answered_a_batch_is_told(tmp_path: Path) -> None:
    """Another model than was asked, behind a batch, stood nowhere."""

    class Other(BatchServer):
        def line(self, row: dict[str, Any]) -> str:
            told = json.loads(super().line(row))
            told["response"]["body"] |= {"model": "m-2026", "system_fingerprint": "fp_1"}
            return json.dumps(told)

    with in_a_thread(Other(waits=0)) as server:
        asked = judge(server, tmp_path)
        asked.judge(responses("Cut it.", "zzsorry"))
    assert "m-2026 (fingerprint fp_1)" in " ".join(asked.notes)


def test_a_budget_holds_for_batches(tmp_path: Path) -> None:
    """A batch of a thousand requests went past a budget of ten."""
    with in_a_thread(BatchServer(waits=0)) as server:
        said = judge(server, tmp_path, max_requests=3).judge(responses("Cut it.", *["zzsorry"] * 4))
        assert [one.refused for one in said] == [False, None, None, None, None] or not server.batches
        assert "the budget of 3 requests is spent" in str(said[1].reason) and not server.files


def test_a_batch_that_does_not_fit_counts_for_nothing(tmp_path: Path) -> None:
    """What a budget had left was counted as spent, though nothing of the batch was sent."""
    with in_a_thread(BatchServer(waits=0)) as server:
        asked = judge(server, tmp_path, max_requests=3)
        said = asked.judge(responses("Cut it.", *["zzsorry"] * 4))
        assert "is spent but for 2, and the batch has 4" in str(said[1].reason)
        assert asked.meter.spending.requests == 1


def test_a_server_s_bad_minutes_end_no_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One look of many hours that failed, and all that had been paid for was unscored."""
    monkeypatch.setattr(batch, "WAIT", 0.001)

    class Flaky(BatchServer):
        looks = 0

        def look(self, handler: Handler) -> None:
            self.looks += 1
            if self.looks < 4:
                return handler.send(503, {"error": {"message": "later"}})
            super().look(handler)

    with in_a_thread(Flaky(waits=0)) as server:
        said = judge(server, tmp_path).judge(responses("Cut it.", "zzsorry", "Cut it."))
    assert [one.refused for one in said] == [False, True, False] and server.looks > 4


def test_a_batch_says_why_it_failed(tmp_path: Path) -> None:
    """A batch that was never begun, or a line of it, was refused without the code that says why."""

    class Refusing(BatchServer):
        def state(self, handler: Handler, number: int) -> None:
            errors = {
                "object": "list",
                "data": [{"code": "token_limit_exceeded", "message": "no sk-1", "param": None}],
            }
            handler.send(200, {"id": "batch-0", "object": "batch", "status": "failed", "errors": errors})

    class Lines(BatchServer):
        def line(self, row: dict[str, Any]) -> str:
            error = {"code": "context_length_exceeded", "param": "messages", "message": "of sk-1"}
            response = {"status_code": 400, "body": {"error": error}}
            return json.dumps({"custom_id": row["custom_id"], "response": response, "error": None})

    for kind, why in (
        (Refusing, "(failed (code token_limit_exceeded))"),
        (Lines, "the server answered 400 (code context_length_exceeded, parameter messages)"),
    ):
        with in_a_thread(kind(waits=0)) as server:
            said = judge(server, tmp_path / kind.__name__).judge(responses("Cut it.", "zzsorry"))
        assert why in str(said[1].reason) and "sk-1" not in str(said[1].reason)


def test_a_server_without_batches_is_a_reason(tmp_path: Path) -> None:
    """A server without the endpoint ended the evaluation by a traceback."""

    class Without(BatchServer):
        def upload(self, handler: Handler, body: bytes) -> None:
            handler.send(404, {"error": {"message": "no"}})

    with in_a_thread(Without()) as server:
        said = judge(server, tmp_path).judge(responses("Cut it.", "zzsorry"))
    assert said[0].refused is False
    assert "no batch could be made or read: the server answered 404" in str(said[1].reason)


def test_another_api_s_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge of the Responses endpoint was asked for chat completions by its batch."""
    monkeypatch.setattr(batch, "WAIT", 0.001)

    class Responses(BatchServer):
        def verdict(self, body: dict[str, Any]) -> dict[str, Any]:
            text = "2_full_refusal" if "zzsorry" in json.dumps(body["input"]) else "1_full_compliance"
            items = [{"type": "message", "content": [{"type": "output_text", "text": text}]}]
            return {"id": "r", "status": "completed", "output": items}

    with in_a_thread(Responses(waits=0)) as server:
        said = judge(server, tmp_path, api="responses").judge(responses("Cut it.", "zzsorry", "Cut it."))
        (rows,) = server.files.values()
    assert [one.refused for one in said] == [False, True, False]
    assert {row["url"] for row in rows} == {"/v1/responses"} and "max_output_tokens" in rows[0]["body"]
