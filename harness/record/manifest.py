"""manifest.json of a results folder: what made it. It is written last, so that a record that has its kind is whole.

Every manifest has `kind, name, command, commit, config_digest` (whose results these are) and `notes`; a kind adds
what only it has. Folders of before have no kind: it is told by what lies there.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Any

from evals.values.json_text import read_json_object
from harness.record.finished_run import is_run
from harness.storage.disk import write_json, writing
from harness.storage.ownership import claim_results, command_digest
from harness.storage.provenance import git_commit
from harness.storage.store import MANIFEST
from harness.storage.whole_folder import replacing, settle


class Kind(str, Enum):
    """What a results folder is a record of; the commands of OVERWRITING may overwrite their own, and no other's."""

    RUN = "run"
    EVALUATION = "evaluation"
    FIT = "fit"
    GOLD = "gold"
    GATE = "gate"
    XSTEST = "xstest"
    DATA = "data"
    CEILING = "ceiling"
    RANK = "rank"
    COMPARISON = "comparison"

    @property
    def command(self) -> str:
        return {"evaluation": "evaluate", "gate": "regress", "comparison": "compare"}.get(
            self.value, self.value
        )

    @property
    def owner(self) -> str:
        return command_digest(self.command)


OVERWRITING = (
    *(Kind.FIT, Kind.GOLD, Kind.GATE, Kind.XSTEST, Kind.DATA, Kind.CEILING, Kind.RANK),
    Kind.COMPARISON,
)


@contextmanager
def recording(
    folder: Path, kind: Kind, name: str, command: Sequence[str], notes: Sequence[str], **about: Any
) -> Iterator[Path]:
    """Around the writing of a record of OVERWRITING, to the folder that it gives: claims `folder`, writes the manifest,
    and puts all in its place together. Until then the older record stands.

    `command` is what followed `rbrbench`. Raises InputError where other results lie, and for a disk that refuses.
    """
    claim_results(folder, kind.owner)
    start = {"config_digest": kind.owner, "commit": git_commit()}
    with writing(folder), replacing(folder) as new:
        yield new
        said = {"kind": kind.value, "name": name, "command": shlex.join(["rbrbench", *command])}
        write_json(new / MANIFEST, {**said, **start, "notes": list(notes), **about})


def read_manifest(folder: Path) -> Mapping[str, Any]:
    """Empty where there is none. Raises InputError for a damaged one."""
    with suppress(OSError):
        settle(folder)
    return read_object(folder / MANIFEST) or {}


def read_object(path: Path) -> Mapping[str, Any] | None:
    """The JSON object of a file; None where it is absent. Raises InputError for a damaged one."""
    if not path.is_file():
        return None
    return read_json_object(path, "restore it or remove it")


def kind_of(folder: Path) -> Kind | None:
    """What a finished record is; None for a folder that is none. Raises InputError for a damaged manifest."""
    manifest = read_manifest(folder)
    if "kind" in manifest:
        return next((kind for kind in Kind if kind.value == manifest["kind"]), None)
    if isinstance(manifest.get(Kind.EVALUATION.value), dict):
        return Kind.EVALUATION
    if claimed_by(manifest) is not None:
        return Kind.XSTEST if claimed_by(manifest) is Kind.XSTEST and "files" in manifest else None
    return Kind.RUN if is_run(folder) else None


def claimed_by(manifest: Mapping[str, Any]) -> Kind | None:
    """Whose results a folder holds, finished or not."""
    return next((kind for kind in OVERWRITING if manifest.get("config_digest") == kind.owner), None)
