"""Fetches the real data's files from where they were published, and makes the one that is derived.

`conf/data_files.yaml` says what a file's source and digest are; what lies there already, whole, is not fetched again.
"""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from evals.values.errors import InputError
from evals.values.located_yaml import load_located_yaml
from harness.storage.disk import write_whole
from harness.storage.provenance import ROOT
from harness.worlds.sources import hh_rlhf

TABLE = ROOT / "conf" / "data_files.yaml"
GITHUB, HUB = "github", "hub"  # the hosts of a row; the first where it names none
PUBLISHED = {
    GITHUB: "https://raw.githubusercontent.com/{repository}/{commit}/{path}",
    HUB: "https://huggingface.co/datasets/{repository}/resolve/{commit}/{path}",
}
LARGEST, SECONDS = 64 << 20, 60.0  # bytes of one file; of silence


def fetch_data(root: Path, say: Callable[[str], None], table: Path = TABLE, elsewhere: str = "") -> None:
    """Put every file of `table` below `root`, and HH-RLHF's helpful half in the annotators' order; from its host, or
    from the address `elsewhere` with the same files as REPOSITORY/COMMIT/PATH.

    Raises InputError, after which what has come stays, for a file that cannot be had or is another.
    """
    for name, source, digest in _rows(table, elsewhere):
        path = root / name
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest:
            continue
        content = _content(source, path)
        if hashlib.sha256(content).hexdigest() != digest:
            fix = "fetch it by hand, or say where an unchanged copy lies: from=ADDRESS"
            raise InputError(f"what lies at {source} is another file than was read here", path=path, fix=fix)
        write_whole(path, content)
        say(f"{path}  {len(content):,} bytes")
    made = root / hh_rlhf.FILES["helpful"]
    if not made.is_file() and all((root / file).is_file() for file in hh_rlhf.RELABELLED):
        write_whole(made, hh_rlhf.in_the_annotators_order(root))
        say(f"{made}  made from {', '.join(hh_rlhf.RELABELLED)}")


def _rows(table: Path, elsewhere: str = "") -> Iterator[tuple[str, str, str]]:
    """(file, address, SHA-256) of each row."""
    for name, row in load_located_yaml(table).items():
        repository, _, rest = str(row["source"]).partition("@")
        commit, _, path = rest.partition(":")
        parts = {"repository": repository, "commit": commit, "path": quote(path)}
        address = (
            "/".join([elsewhere, *parts.values()])
            if elsewhere
            else PUBLISHED[row.get("host", GITHUB)].format(**parts)
        )
        yield str(name), address, str(row["sha256"])


def _content(address: str, path: Path) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=SECONDS) as answer:
            content: bytes = answer.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # the client's own errors are OSErrors
        raise InputError(
            f"cannot be fetched ({error})", path=path, fix=f"get it by hand from {address}"
        ) from None
    return content
