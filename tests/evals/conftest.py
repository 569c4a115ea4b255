"""A grader's server that misbehaves by the text of a response, for the tests of graders."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tiny_servers import Handler, JsonServer, graded, in_a_thread

MASSES = {"neither": {"maybe": 0.8, "yes": 0.1}, "nan": {"yes": math.nan}, "none": {}}
SAID = {"message": {"content": "yes"}, "logprobs": None}


class Endpoint(JsonServer):
    """Remembers requests and keys, and how many requests it served at once."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.busy = self.most_busy = 0

    def answer(self, handler: Handler, body: dict[str, Any]) -> None:
        with self.lock:
            self.requests.append(body)
            self.keys.add(handler.key)
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
            tries = sum(r["messages"] == body["messages"] for r in self.requests)
        text = body["messages"][1]["content"]
        time.sleep({"slow": 0.1, "hang": 1.0}.get(text, 0.0))
        with self.lock:  # before the answer goes, after which its asker may ask again
            self.busy -= 1
        self.reply(handler, text, tries)

    def reply(self, handler: Handler, text: str, tries: int) -> None:
        if text in ("429", "500", "503", "401") or (text == "recovers" and tries < 3):
            said = {"error": {"message": f"no, {handler.key}"}}
            handler.send(int(text) if text.isdigit() else 429, said)
        elif text == "413":
            handler.send(413, {"error": {"message": "too long", "code": "context_length_exceeded"}})
        elif text == "malformed":
            handler.send(200, '{"choices": [{')
        elif text == "other":
            handler.send(200, {"detail": "hello"})
        elif text == "silent":
            handler.send(200, {"choices": [SAID]})
        else:
            handler.send(200, graded(MASSES.get(text, {"Yes": 0.5, " yes": 0.1, "no": 0.2, "I": 0.1})))


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with in_a_thread(Endpoint()) as server:
        yield server
