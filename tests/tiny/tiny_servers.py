"""Servers of chat completions for tests: in a thread of this process, or as a program of their own."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, TypeVar


class Handler(BaseHTTPRequestHandler):
    server: JsonServer

    def log_message(self, *_: object) -> None:
        """Quiet."""

    @property
    def key(self) -> str | None:
        return self.headers["authorization"]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.answer(self, body)

    def send(
        self,
        status: int,
        content: object,
        torn: bool = False,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`content` as JSON, or as it is where it is text; half of it where the connection is `torn`."""
        text = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text[: len(text) // 2] if torn else text)


class JsonServer(ThreadingHTTPServer):
    """Every POST becomes a call of `answer`, at once with others'; `lock` is for what these share."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.lock = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """Quiet: whoever asked may be gone, and another test reads the terminal."""

    def answer(self, handler: Handler, body: dict[str, Any]) -> None:
        """What one request gets: `handler.send(status, content)`, or worse."""
        raise NotImplementedError

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def serve_as_a_program(self) -> None:
        """Print the port, and serve until killed."""
        print(self.port, flush=True)
        self.serve_forever()


Server = TypeVar("Server", bound=JsonServer)


@contextmanager
def in_a_thread(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def completion(choice: Mapping[str, object], kind: str = "chat.completion") -> dict[str, Any]:
    """The API's answer with one choice."""
    whole = {"index": 0, "finish_reason": "stop", **choice}
    return {"id": "1", "object": kind, "created": 0, "model": "m", "choices": [whole]}


def graded(masses: Mapping[str, float]) -> dict[str, Any]:
    """A chat completion whose first token has these probabilities."""
    listed = [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in masses.items()]
    first = {"token": "yes", "logprob": -0.1, "bytes": None, "top_logprobs": listed}
    message = {"role": "assistant", "content": "yes"}
    return completion({"finish_reason": "length", "message": message, "logprobs": {"content": [first]}})
