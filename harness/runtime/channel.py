"""A connection between two processes of a run: messages as lines, and signs of life between."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from typing import Any

from evals.values.json_text import parse_json

BEAT = 5.0  # seconds between two signs of life
SILENCE = 30.0  # seconds without one, after which a process is lost
LONGEST = 1 << 24  # bytes of a message


class Channel:
    """A connection between two processes of a run: messages `[kind, value]` as lines, and signs of life between."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(SILENCE)
        self._connection, self._file = connection, connection.makefile("rb")
        self._turn, self._closed = threading.Lock(), threading.Event()

    @classmethod
    def to(cls, address: str, port: int) -> Channel:
        """A connection to who listens there. Raises OSError."""
        return cls(socket.create_connection((address, port), timeout=SILENCE))

    def send(self, kind: str, value: Any) -> None:
        self._send(json.dumps([kind, value]).encode() + b"\n")

    def _send(self, content: bytes) -> None:
        with suppress(OSError), self._turn:  # who listens will find that it is silent
            self._connection.sendall(content)

    def beat(self) -> None:
        """Give signs of life from now on."""

        def beat() -> None:
            while not self._closed.wait(BEAT):
                self._send(b"\n")

        threading.Thread(target=beat, name="signs of life", daemon=True).start()

    def hear(self) -> tuple[str, Any] | None:
        """The next message; None once the other is silent, or gone."""
        try:
            while line := self._file.readline(LONGEST):
                if line.strip():
                    kind, value = parse_json(line)
                    return str(kind), value
        except (OSError, ValueError, TypeError):
            return None
        return None

    def close(self) -> None:
        self._closed.set()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
