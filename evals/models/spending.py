"""What a server was asked, in requests and tokens, what that cost, and the budgets at which no more is asked."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from evals.models.server import Budgeted, ServerSettings
from evals.values.errors import InputError
from evals.values.json_text import parse_json
from evals.values.lock import held

MILLION = 1_000_000
LARGEST = 10**9  # tokens of one answer that are believed


@dataclass
class Spending:
    """Counts of requests (retries included), of tokens as the server says, and of answers that say none."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    uncounted: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def cost(self, settings: ServerSettings) -> float | None:
        """In the currency of the prices, without answers whose tokens nobody counted; None where none is given."""
        if not isinstance(settings, Budgeted) or not (settings.prompt_price or settings.completion_price):
            return None
        paid = self.prompt_tokens * settings.prompt_price + self.completion_tokens * settings.completion_price
        return paid / MILLION


class Meter:
    """Counts one server's requests and tokens against its budgets; shared by threads.

    With a `file`, which is appended to at each request and each answer, also by processes and by runs one after the
    other: a run that was killed goes on with what is left. Tokens are known when the answer is there, so that a
    budget of tokens is exceeded by the requests that are under way when it is reached. `place` is the keys' group.
    """

    def __init__(self, settings: ServerSettings, file: Path | None = None, place: str = "server") -> None:
        self.settings, self.file, self.place = settings, file, place
        self.refused = ""  # why a request was not sent; "" as long as all were
        self._spending, self._lock, self._end = Spending(), threading.Lock(), 0

    def keep_in(self, file: Path) -> None:
        """From now on as one with this `file`, into which it also writes what was counted before."""
        with self._lock:
            counted = {name: count for name, count in vars(self._spending).items() if count}
            self.file, self._spending, self._end = file, Spending(), 0
        with self._turn():
            if counted:
                self._add(counted)

    @property
    def spending(self) -> Spending:
        with self._lock:
            self._catch_up()
            return Spending(**{f.name: getattr(self._spending, f.name) for f in fields(Spending)})

    def begin(self) -> str:
        """Count a request; or why it may not be sent."""
        with self._turn():
            if reason := self._over():
                self.refused = reason
                return reason
            self._add({"requests": 1})
            return ""

    def too_many(self, count: int) -> str:
        """Why so many requests at once may not be sent; none is counted."""
        with self._turn():
            most = self.settings.max_requests
            if not most or self._spending.requests + count <= most:
                return ""
            left = most - self._spending.requests
            rest = f" but for {left}, and the batch has {count}" if left > 0 else ""
            self.refused = f"the budget of {most} requests is spent{rest}"
            return self.refused

    def answered(self, usage: Any) -> None:
        """`usage` of an answer, of any shape: where it has no counts, that is counted."""
        counts = {name: _tokens(usage, name) for name in ("prompt_tokens", "completion_tokens")}
        known = {name: count for name, count in counts.items() if count is not None}
        with self._turn():
            self._add(known if len(known) == len(counts) else {"uncounted": 1})

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Nobody else counts meanwhile, of this process, of another or of another machine, and all is counted."""
        with self._lock:
            if self.file is None:
                yield
                return
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                with held(self.file.with_name(f".{self.file.name}.lock")):
                    self._catch_up()
                    yield
            except OSError as error:
                problem = f"what was asked of the server cannot be counted ({error.strerror})"
                fix = "free some space, or name another folder"
                raise InputError(problem, path=self.file, fix=fix) from None

    @property
    def spent(self) -> str:
        """As `said`; "" where nothing was asked."""
        return self.said if self.spending.requests else ""

    def as_json(self) -> dict[str, Any]:
        """Counts, cost (None without prices) and these in words, as records have them."""
        spent = self.spending
        return {"said": self.said, **vars(spent), "cost": spent.cost(self.settings)}

    @property
    def said(self) -> str:
        """`1,234 of 5,000 requests, 23,456 tokens (20,000 asked, 3,456 answered), cost 0.12`."""
        spent, settings = self.spending, self.settings
        budget = settings if isinstance(settings, Budgeted) else Budgeted()
        tokens = f"{_of(spent.tokens, budget.max_tokens)} tokens"
        parts = [f"{_of(spent.requests, settings.max_requests)} requests"]
        parts.append(f"{tokens} ({spent.prompt_tokens:,} asked, {spent.completion_tokens:,} answered)")
        if spent.uncounted:
            parts.append(f"{spent.uncounted:,} answers without a count of tokens")
        if (cost := spent.cost(settings)) is not None:
            most = f" of {budget.max_cost:g}" if budget.max_cost else ""
            parts.append(f"cost {cost:.4g}{most}")
        return ", ".join(parts)

    def _over(self) -> str:
        spent, settings = self._spending, self.settings
        if settings.max_requests and spent.requests >= settings.max_requests:
            return f"the budget of {settings.max_requests} requests is spent"
        if not isinstance(settings, Budgeted) or not (settings.max_tokens or settings.max_cost):
            return ""
        if spent.uncounted:
            return "the server does not say how many tokens an answer took, and a budget of tokens cannot be kept"
        if settings.max_tokens and spent.tokens >= settings.max_tokens:
            return f"the budget of {settings.max_tokens} tokens is spent"
        if settings.max_cost and (spent.cost(settings) or 0.0) >= settings.max_cost:
            return f"the budget of {settings.max_cost:g} is spent"
        return ""

    def _add(self, counts: Mapping[str, int]) -> None:
        if self.file is None:
            self._count(counts)
            return
        text = " ".join(f'"{name}": {count},' for name, count in counts.items()).rstrip(",")
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, f"\n{{{text}}}\n".encode())  # a torn line before it stays alone
        finally:
            os.close(descriptor)
        self._catch_up()

    def _catch_up(self) -> None:
        """Count what stands in the file since the last look, whoever wrote it; a torn line is none."""
        if self.file is None or not self.file.exists():
            return
        with open(self.file, "rb") as file:
            file.seek(self._end)
            content = file.read()
        complete = content.rfind(b"\n") + 1
        self._end += complete
        for line in content[:complete].splitlines():
            try:
                row = parse_json(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                self._count(row)

    def _count(self, counts: Mapping[str, Any]) -> None:
        for field in fields(Spending):
            count = counts.get(field.name, 0)
            if isinstance(count, int) and not isinstance(count, bool) and count >= 0:
                setattr(self._spending, field.name, getattr(self._spending, field.name) + count)


def _of(count: int, most: int) -> str:
    return f"{count:,} of {most:,}" if most else f"{count:,}"


def _tokens(usage: Any, name: str) -> int | None:
    count = usage.get(name) if isinstance(usage, dict) else getattr(usage, name, None)
    known = isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= LARGEST
    return count if known else None
