"""Answers by a server's batch endpoint: a file of requests, whose answers are fetched hours later, for half.

https://platform.openai.com/docs/guides/batch: the file is uploaded, a batch made of it, its state asked for until it
has ended, and the files of answers and of errors fetched. The batch's name is kept beside the requests, by their
content, before anything is waited for: a command that was stopped goes on with the same batch, and pays nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import openai
from openai.types.chat import ChatCompletion

from evals.models.answer import LARGEST_ANSWER, field_of
from evals.models.apis import ChatApi
from evals.models.server_failure import named
from evals.models.spending import Meter
from evals.values.errors import InputError
from evals.values.grades import Unscored
from evals.values.json_text import parse_json
from evals.values.whole_file import replacing_file

WINDOW = "24h"
ENDED = ("completed", "failed", "expired", "cancelled")
WAIT = 30.0  # seconds between two looks at a batch
LOOKS = 20  # that may fail in a row: a batch of hours outlives a server's bad minutes
NO_ANSWER = "the batch ended without an answer to it"


class Batches:
    """Of one server; `folder` keeps the requests, the batches' names and, once they are there, the answers."""

    def __init__(
        self,
        client: openai.OpenAI,
        api: ChatApi,
        folder: Path,
        meter: Meter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client, self._folder, self._meter, self._sleep = client, folder, meter, sleep
        self._api, self._endpoint = api, f"/v1/{api.path}"

    def answers(self, bodies: Sequence[Mapping[str, Any]]) -> list[Any]:
        """A chat completion to each request, or Unscored with the reason, in their order. Waits for the batch.

        Raises InputError where the folder cannot be written, and openai.OpenAIError where the server takes no batch.
        """
        names = [_name(body) for body in bodies]
        lines = {name: _line(name, self._endpoint, body) for name, body in zip(names, bodies, strict=True)}
        if not lines:
            return []
        requests = "".join(lines.values())
        place = self._folder / hashlib.sha256(requests.encode()).hexdigest()[:24]
        if not place.with_suffix(".batch").is_file() and (over := self._over(len(lines))):
            return [Unscored(over)] * len(names)
        found = self._fetched(place, requests, names)
        return [found.get(name, Unscored(NO_ANSWER)) for name in names]

    def _over(self, count: int) -> str:
        """Why so many requests may not be sent; else they are counted."""
        if reason := self._meter.too_many(count):
            return reason
        return next((reason for _ in range(count) if (reason := self._meter.begin())), "")

    def _fetched(self, place: Path, requests: str, names: Sequence[str]) -> dict[str, Any]:
        kept = place.with_suffix(".answers.jsonl")
        if not kept.is_file():
            batch = self._ended(self._begun(place, requests))
            files = [file for file in (batch.output_file_id, batch.error_file_id) if file]
            text = b"\n".join(self._client.files.content(file).read() for file in files)
            found = _read(text, self._api)
            answered = [one for one in found.values() if not isinstance(one, Unscored)]
            if not answered:
                place.with_suffix(".batch").unlink()  # the next command makes it anew
                why = Unscored(f"{NO_ANSWER} ({_why(batch)})")
                return {name: found.get(name, why) for name in names}
            _write(kept, text)
            for answer in answered:
                self._meter.answered(getattr(answer, "usage", None))
        return _read(kept.read_bytes(), self._api)

    def _begun(self, place: Path, requests: str) -> str:
        """The name of the batch of these requests: the one that was made before, or a new one."""
        told = place.with_suffix(".batch")
        if told.is_file():
            return told.read_text(encoding="utf-8").strip()
        _write(place.with_suffix(".requests.jsonl"), requests.encode())
        file = self._client.files.create(file=("requests.jsonl", requests.encode()), purpose="batch")
        asked = {"input_file_id": file.id, "endpoint": self._endpoint, "completion_window": WINDOW}
        made = self._client.batches.create(**asked)  # type: ignore[arg-type]
        _write(told, made.id.encode())
        return made.id

    def _ended(self, name: str) -> Any:
        failed = 0
        while True:
            try:
                batch = self._client.batches.retrieve(name)
            except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError):
                failed += 1
                if failed >= LOOKS:
                    raise
            else:
                failed = 0
                if batch.status in ENDED:
                    return batch
            self._sleep(WAIT)


def _name(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]


def _line(name: str, endpoint: str, body: Mapping[str, Any]) -> str:
    return json.dumps({"custom_id": name, "method": "POST", "url": endpoint, "body": dict(body)}) + "\n"


def _read(text: bytes, api: ChatApi) -> dict[str, Any]:
    """{name of the request: its completion, or Unscored}; a line that is none is left out."""
    found: dict[str, Any] = {}
    for line in text[: 16 * LARGEST_ANSWER].splitlines():
        try:
            row = parse_json(line) if line.strip() else None
        except ValueError:
            continue
        if not isinstance(row, dict) or not isinstance(row.get("custom_id"), str):
            continue
        response = row.get("response")
        status = response.get("status_code") if isinstance(response, dict) else None
        body = response.get("body") if isinstance(response, dict) else None
        if status == 200 and isinstance(body, dict):
            found[row["custom_id"]] = ChatCompletion.construct(**api.completion(body))
        else:
            said = f"the server answered {status}" if isinstance(status, int) else NO_ANSWER
            told = [field_of(body, "error"), row.get("error")]
            found[row["custom_id"]] = Unscored(said + named([one for one in told if isinstance(one, dict)]))
    return found


def _why(batch: Any) -> str:
    """The state in which a batch ended, and the codes of its errors."""
    errors = field_of(field_of(batch, "errors"), "data")
    return f"{batch.status}{named(errors if isinstance(errors, list) else [])}"


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(path) as part:
            part.write_bytes(content)
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
        raise InputError(problem, path=path, fix="name another folder in server.batch") from None
