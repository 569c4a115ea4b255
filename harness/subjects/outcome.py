"""One response that was asked for, or the reason why there is none; the log that keeps it at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from evals.values.conversation import Prompt, Response
from evals.values.errors import InputError
from harness.storage.disk import writing
from harness.storage.lock import locked


@dataclass(frozen=True)
class Outcome:
    """`text` is None where the model gave no response, and `reason` says why."""

    prompt_id: str
    sample: int = 0
    text: str | None = None
    finished: bool = True
    reason: str = ""

    @property
    def key(self) -> tuple[str, int]:
        return self.prompt_id, self.sample

    def response(self, prompt: Prompt) -> Response | None:
        return None if self.text is None else Response(prompt, self.text, self.sample, self.finished)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class AppendLog:
    """Rows of JSON in one file, each on the disk before `append` returns; use it as a context.

    The first line says what the rows belong to. A line that a kill cut in two is dropped when the log is
    opened again. Raises InputError where the disk refuses, where another process has the log open, and for
    a log that belongs to something else.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path, self.header = path, dict(header)
        self.rows: list[dict[str, Any]] = []  # those found when it was opened
        self._stack = ExitStack()

    def __enter__(self) -> AppendLog:
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self._stack.enter_context(locked(self.path.with_suffix(".lock"), wait=False)):
            raise InputError(
                "another process is writing this", path=self.path, fix="wait for it, or end it first"
            )
        try:
            self.rows = self._read()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write whole lines in one call, then bring them to the disk."""
        text = "".join(json.dumps(row) + "\n" for row in rows)
        if not text:
            return
        with writing(self.path):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            try:
                _write_all(descriptor, text.encode("ascii"))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _read(self) -> list[dict[str, Any]]:
        whole = self._whole_lines()
        if not whole:
            with writing(self.path):
                self.path.write_bytes(b"")
            self.append([self.header])
            return []
        try:
            header, *rows = [json.loads(line) for line in whole]
        except ValueError as error:
            raise InputError(
                f"malformed JSON ({error})", path=self.path, fix="remove the file; its rows are made again"
            ) from None
        if header != json.loads(json.dumps(self.header)):
            raise InputError("belongs to another evaluation", path=self.path, line=1, fix="remove the file")
        return rows

    def _whole_lines(self) -> list[bytes]:
        """The file's lines, what follows the last line break cut off the file."""
        if not self.path.is_file():
            return []
        with writing(self.path):
            raw = self.path.read_bytes()
            kept = raw[: raw.rfind(b"\n") + 1]
            if len(kept) < len(raw):
                os.truncate(self.path, len(kept))
        return kept.split(b"\n")[:-1]


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
