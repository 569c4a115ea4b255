"""What was read from the project's sources, kept from process to process: to parse them takes a second or two.

`$XDG_CACHE_HOME/rbrbench/sources.json`, else in `~/.cache`, has it by the SHA-256 of a source's text and name: an
edited source is not found, whatever its time and size. Its first line is the digest of the others. Removing it costs
time and nothing else; where it cannot be read or written, sources are parsed.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from evals.values.json_text import parse_json
from evals.values.whole_file import replacing_file

MOST = 3000  # sources; with more, those that this process did not ask for go


@dataclass(frozen=True)
class ParsedSource:
    """The digest of a module's code, and the project's names that it imports."""

    digest: str
    names: frozenset[str]


@dataclass
class ParsedSources:
    """Those of one `reader`, a text that changes with whatever reads sources."""

    path: Path
    reader: str
    asked: dict[str, ParsedSource] = field(default_factory=dict)
    unsaved: bool = False

    def find(self, key: str) -> ParsedSource | None:
        if key not in self.asked and (kept := self._kept.get(key)) is not None:
            self.asked[key] = ParsedSource(kept[0], frozenset(kept[1]))
        return self.asked.get(key)

    def add(self, key: str, source: ParsedSource) -> None:
        self.asked[key] = source
        self.unsaved = True

    def save(self) -> None:
        """Keep what has been added. Of two processes that do the last one's stays; the other's is parsed again."""
        if not self.unsaved:
            return
        self.unsaved = False
        sources = {key: [source.digest, sorted(source.names)] for key, source in self.asked.items()}
        if len(sources | self._kept) <= MOST:
            sources = self._kept | sources
        body = json.dumps({"reader": self.reader, "sources": sources}).encode()
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing_file(self.path) as part:
                part.write_bytes(_digest(body).encode() + b"\n" + body)

    @cached_property
    def _kept(self) -> dict[str, Any]:
        """{} where nothing is kept, it is not whole, or another reader's."""
        try:
            head, _, body = self.path.read_bytes().partition(b"\n")
        except OSError:
            return {}
        if head.decode(errors="replace") != _digest(body):
            return {}
        kept = parse_json(body)
        return dict(kept["sources"]) if kept["reader"] == self.reader else {}


def cache_folder() -> Path:
    """The user's, as the XDG base directory specification has it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "rbrbench"


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
