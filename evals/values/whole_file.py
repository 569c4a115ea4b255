"""A file that appears whole or not at all, also where several processes write it at once."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """A file beside `path` to be written, which takes its place at the end; afterwards it is gone in any case.

    Its name is of this writer alone: of two at once the later one's content stays. With one name for both, the first
    takes away what the second still writes.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
