"""One response that was asked for, or the reason why there is none; the log that keeps it at once."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from evals.values.conversation import Prompt, Response
from evals.values.errors import InputError
from evals.values.json_text import DamagedLine, checked_line, parse_json, read_checked
from evals.values.lock import Holder, Lock, held
from harness.storage.disk import write_whole, writing

log = logging.getLogger(__name__)
RARE = ("refused", "thought", "thought_tokens", "log_prob", "hotter")


@dataclass(frozen=True)
class Outcome:
    """`text` is None where the model gave no response, and `reason` says why.

    `refused`: a server's API says itself that the response, which may be without words, is a refusal. `thought` is
    what the model wrote before its answer, of `thought_tokens` tokens where they were counted. `log_prob` of the
    text, in nats, is there where it was asked for and the server tells it; so is `hotter`, the same at other
    temperatures by their text, None where no such sample can be this one.
    """

    prompt_id: str
    sample: int = 0
    text: str | None = None
    finished: bool = True
    reason: str = ""
    refused: bool = False
    thought: str = ""
    thought_tokens: int = 0
    log_prob: float | None = None
    hotter: Mapping[str, float | None] | None = None

    @classmethod
    def of(cls, response: Response) -> Outcome:
        told = None if response.unanswered else response.text
        said = response.prompt.id, response.sample, told, response.finished, response.unanswered
        return cls(*said, thought=response.thought, thought_tokens=response.thought_tokens)

    @property
    def key(self) -> tuple[str, int]:
        return self.prompt_id, self.sample

    def response(self, prompt: Prompt) -> Response | None:
        if self.text is None:
            return None
        thought = {"thought": self.thought, "thought_tokens": self.thought_tokens}
        return Response(prompt, self.text, self.sample, self.finished, **thought)  # type: ignore[arg-type]

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Outcome | None:
        """None for a row, of before rows had digests, that is damaged."""
        known = {field.name for field in fields(cls)}
        return cls(**row) if "prompt_id" in row and row.keys() <= known else None

    def as_json(self) -> dict[str, Any]:
        """Without what few outcomes have, where this one has it not."""
        kept = asdict(self).items()
        return {name: value for name, value in kept if name not in RARE or value != _DEFAULTS[name]}


_DEFAULTS = {field.name: field.default for field in fields(Outcome)}


class AppendLog:
    """Rows of JSON in one file, each on the disk before `append` returns; use it as a context.

    The first line says what the rows belong to. A line that a kill cut in two is dropped when the log is
    opened or written again; so is one that is not what was written, with a warning. Another process that opens it
    waits until this one is done; with `shared`, both have it open, and each writes while it holds `alone`. Raises
    InputError where the disk refuses, and for a log that belongs to something else.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], *, shared: bool = False) -> None:
        self.path, self.header, self.shared = path, dict(header), shared
        self.rows: list[dict[str, Any]] = []  # those found when it was opened, or last read
        self._stack = ExitStack()
        self._lock: Lock | None = None

    def __enter__(self) -> AppendLog:
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as until_read:
            (until_read if self.shared else self._stack).enter_context(self.alone())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other process writes meanwhile, and `rows` are all that were written; waits for its turn."""
        with held(self.path.with_suffix(".lock"), waiting=self._say_waiting) as self._lock:
            try:
                self.rows = self._read()
                yield
            finally:
                self._lock = None

    def _say_waiting(self, holder: Holder | None) -> None:
        if not self.shared:  # of a shared one, turns last an instant
            by = f" ({holder})" if holder is not None else ""
            log.warning("another process is writing %s%s; waiting for it", self.path, by)

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write whole lines in one call, then bring them to the disk. Raises RuntimeError outside `alone`."""
        text = "".join(checked_line(row) + "\n" for row in rows)
        if not text:
            return
        if self._lock is None:
            raise RuntimeError("the log is not held")
        with writing(self.path):
            self._lock.check()
        self._write(text)

    def _write(self, text: str) -> None:
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
            self._write(json.dumps(self.header) + "\n")
            return []
        self._check_header(whole[0])
        rows, kept, checked = [], whole[:1], False
        for line in whole[1:]:
            try:
                row, has_check = read_checked(line)
            except DamagedLine:
                continue
            if checked and not has_check:
                continue  # its digest's name is what was damaged: lines of before digests stand first
            checked |= has_check
            rows.append(row)
            kept.append(line)
        if len(kept) < len(whole):
            log.warning("%s: %d damaged rows; they are made again", self.path, len(whole) - len(kept))
            write_whole(self.path, b"".join(line + b"\n" for line in kept))
        return rows

    def _check_header(self, line: bytes) -> None:
        try:
            header = parse_json(line)
        except ValueError as error:
            raise InputError(
                f"malformed JSON ({error})", path=self.path, fix="remove the file; its rows are made again"
            ) from None
        if header != json.loads(json.dumps(self.header)):
            raise InputError("belongs to another evaluation", path=self.path, line=1, fix="remove the file")

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
