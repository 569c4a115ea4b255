"""Grades by content: what this grader said of this text and this rule is not asked again.

The key is a digest of the grader's identity (weights, template), the conversation, its response type,
the response and the proposition's own text, so editing one rule regrades that rule only. The file is appended to and
flushed after every batch: a kill costs the batch in hand, and a torn last line is cut off.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from evals.graders import Grader
from evals.models.spending import Meter, Spending
from evals.rules.propositions import Proposition
from evals.values.conversation import Response, messages_as_json
from evals.values.errors import InputError
from evals.values.grades import Grades, Unscored
from evals.values.json_text import CHECK, DamagedLine, checked_line, read_checked
from evals.values.lock import Lock, held

log = logging.getLogger(__name__)


class GradeCache:
    """Probabilities by key, in memory and in an append-only file of `{"key", "p"}` lines.

    Several processes, and several caches of one process, may share the file: each takes in what the others
    have added. Unscored grades are not kept: the next run tries them again.
    Raises InputError for a file that cannot be read or written, or holds something else.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._grades: dict[str, float] = {}
        self._end = self._lines = 0  # of the file as far as it is known
        self._one = threading.RLock()  # threads of this process take turns
        with self._locked() as (file, _):
            self._take_in(file)

    def __len__(self) -> int:
        return len(self._grades)

    def get(self, key: str) -> float:
        """NaN for what is not there."""
        return self._grades.get(key, np.nan)

    def add(self, grades: Mapping[str, float]) -> None:
        """Keep grades; they are on disk when this returns."""
        with self._one:
            self._add(grades)

    def _add(self, grades: Mapping[str, float]) -> None:
        if grades.keys() <= self._grades.keys():
            return
        with self._locked() as (file, lock):
            self._take_in(file)
            lock.check()
            new = {key: float(p) for key, p in grades.items() if key not in self._grades}
            file.write("".join(checked_line({"key": k, "p": p}) + "\n" for k, p in new.items()).encode())
            file.flush()
            os.fsync(file.fileno())
            self._end, self._lines = file.tell(), self._lines + len(new)
        self._grades |= new

    def refresh(self) -> None:
        """Take in what others have added since."""
        with self._one:
            if self._size() != self._end:
                with self._locked() as (file, _):
                    self._take_in(file)

    def _size(self) -> int | None:
        """In bytes; None where it is gone. Opened, since a network file system asks its server only then."""
        try:
            with open(self.path, "rb") as file:
                return os.fstat(file.fileno()).st_size
        except OSError:  # said by who takes in
            return None

    def _take_in(self, file: BinaryIO) -> None:
        """Read on from where the file ended; a torn last line is cut off. The file stands at its end then."""
        if file.seek(0, os.SEEK_END) < self._end:  # another file by now
            self._end = self._lines = 0
        file.seek(self._end)
        content = file.read()
        complete = content.rfind(b"\n") + 1
        lines = content[:complete].decode("utf-8", errors="replace").splitlines()
        parsed = [self._parse(self._lines + n, line) for n, line in enumerate(lines, start=1)]
        self._grades |= dict(grade for grade in parsed if grade is not None)
        self._end, self._lines = self._end + complete, self._lines + len(lines)
        file.truncate(self._end)
        file.seek(self._end)

    def _parse(self, number: int, line: str) -> tuple[str, float] | None:
        """None for a line that was one and is damaged: it is graded again."""
        try:
            row, _ = read_checked(line)
            key, p = row["key"], row["p"]
            if isinstance(key, str) and 0 <= p <= 1:
                return key, float(p)
        except (DamagedLine, KeyError, TypeError):
            if f'"{CHECK}": "' in line:
                log.warning("%s: line %d is damaged; it is graded again", self.path, number)
                return None
        raise InputError(
            "is no line of a grade cache",
            path=self.path,
            line=number,
            fix="remove the line, or name another file",
        )

    @contextmanager
    def _locked(self) -> Iterator[tuple[BinaryIO, Lock]]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with held(self.path.with_name(f".{self.path.name}.lock")) as lock:
                assert lock is not None  # since it was waited for
                with open(self.path, "r+b" if self.path.exists() else "w+b") as file:
                    yield file, lock
        except OSError as error:
            raise InputError(
                f"the grade cache cannot be read or written ({error.strerror})",
                path=self.path,
                fix="check the path and the room on the disk, or name another file",
            ) from None


class CachedGrader:
    """Any grader behind a cache. `identity` names everything the grades depend on but their inputs.

    It defaults to the grader's own `identity` (a digest of weights and template); raises InputError
    where there is none, since grades of another model would be taken for this one's.
    """

    def __init__(
        self, grader: Grader, cache: GradeCache, identity: str | None = None, batch_size: int = 64
    ) -> None:
        known = identity or getattr(grader, "identity", None)
        if not known:
            raise InputError(
                f"grader {grader.name!r} has no identity to file its grades under",
                field="grader.identity",
                fix="name its model revision and template",
            )
        self.name = grader.name
        self.identity = str(known)
        self.prompt = getattr(grader, "prompt", None)
        self._grader = grader
        self._cache = cache
        self._batch_size = batch_size
        self._begun: dict[str, Future[float | Unscored]] = {}
        self.expect = self._expect if hasattr(grader, "begin") else None
        self.asked, self.seconds = 0, 0.0  # pairs that the cache lacked, and how long they took

    @property
    def meter(self) -> Meter | None:
        """Of the grader's server, where it has one."""
        return getattr(self._grader, "meter", None)

    @property
    def spending(self) -> Spending | None:
        """What a server was asked for them; None of other graders."""
        return getattr(self._grader, "spending", None)

    def _expect(self, responses: Sequence[Response], propositions: Sequence[Proposition]) -> None:
        """Begin to ask, in the background, for what `grade` will be asked for; each answer is kept as it comes."""
        self._begun = {key: begun for key, begun in self._begun.items() if np.isnan(self._cache.get(key))}
        for response, keys in zip(responses, self._keys(responses, propositions), strict=True):
            for proposition, key in zip(propositions, keys, strict=True):
                if np.isnan(self._cache.get(key)):
                    self._begin(key, response, proposition)

    def _begin(self, key: str, response: Response, proposition: Proposition) -> None:
        if key not in self._begun:
            keep = partial(self._keep, key)
            self._begun[key] = self._grader.begin(response, proposition, keep)  # type: ignore[attr-defined]

    def _keep(self, key: str, grade: float | Unscored) -> None:
        if not isinstance(grade, Unscored):
            self._cache.add({key: grade})

    def grade(self, responses: Sequence[Response], propositions: Sequence[Proposition]) -> Grades:
        """Grades [responses, propositions]; only what the cache lacks is graded, batch by batch.

        A grader whose answers come one by one (a server's) has each kept as it comes, and is asked once where two
        responses are alike: a kill costs what was under way.
        """
        self._cache.refresh()
        keys = self._keys(responses, propositions)
        values = np.array([[self._cache.get(key) for key in row] for row in keys]).reshape(
            len(responses), len(propositions)
        )
        self.asked += int(np.isnan(values).sum())
        start = time.perf_counter()
        try:
            return self._filled(responses, propositions, keys, values)
        finally:
            self.seconds += time.perf_counter() - start

    def _filled(
        self,
        responses: Sequence[Response],
        propositions: Sequence[Proposition],
        keys: Sequence[Sequence[str]],
        values: np.ndarray,
    ) -> Grades:
        """What is NaN in `values` [responses, propositions] is asked for."""
        if self.expect is not None:
            return self._one_by_one(responses, propositions, keys, values)
        reasons: dict[tuple[int, int], str] = {}
        for rows, columns in _missing(np.isnan(values), self._batch_size):
            grades = self._grader.grade([responses[i] for i in rows], [propositions[j] for j in columns])
            values[np.ix_(rows, columns)] = grades.probability
            reasons |= {(rows[i], columns[j]): reason for (i, j), reason in grades.reasons.items()}
            fresh = {keys[i][j]: values[i, j] for i in rows for j in columns if (i, j) not in reasons}
            self._cache.add(fresh)
        return Grades(tuple(p.name for p in propositions), values, reasons)

    def _one_by_one(
        self,
        responses: Sequence[Response],
        propositions: Sequence[Proposition],
        keys: Sequence[Sequence[str]],
        values: np.ndarray,
    ) -> Grades:
        """Fills what is NaN in `values` [responses, propositions]."""
        places: dict[str, list[tuple[int, int]]] = {}
        for i, j in np.argwhere(np.isnan(values)).tolist():
            places.setdefault(keys[i][j], []).append((i, j))
        reasons: dict[tuple[int, int], str] = {}
        for key, ((i, j), *_) in places.items():
            self._begin(key, responses[i], propositions[j])
        for key, alike in places.items():
            grade = self._begun.pop(key).result()
            for i, j in alike:
                if isinstance(grade, Unscored):
                    reasons[i, j] = grade.reason
                else:
                    values[i, j] = grade
        return Grades(tuple(p.name for p in propositions), values, reasons)

    def _keys(self, responses: Sequence[Response], propositions: Sequence[Proposition]) -> list[list[str]]:
        texts = [
            _digest([messages_as_json(r.prompt.messages), r.prompt.response_type, r.text]) for r in responses
        ]
        rules = [_digest(p.asked) for p in propositions]
        return [[_digest([self.identity, text, rule]) for rule in rules] for text in texts]


def _missing(missing: np.ndarray, size: int) -> Iterator[tuple[list[int], list[int]]]:
    """Rows that lack the same columns, together, at most `size` rows at a time."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, lacks in enumerate(missing):
        if lacks.any():
            groups.setdefault(tuple(np.flatnonzero(lacks).tolist()), []).append(row)
    for columns, rows in groups.items():
        for start in range(0, len(rows), size):
            yield rows[start : start + size], list(columns)


def _digest(parts: object) -> str:
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()[:32]
