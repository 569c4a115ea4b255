"""A folder's files replaced together: a reader finds the files of before or the new ones, never some of each.

New files are written to `.new`. Once all are there, with a digest of each in the manifest, the folder is renamed to
`.ready`, in one step: from then on the new files are what the folder has, and whoever comes next, a reader too, puts
in their places those that a kill left in `.ready`. The manifest is the last, and what only the older record had goes.
What was drawn from the older record goes first: no page stands beside a record that it does not show.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from evals.values.errors import InputError
from evals.values.json_text import read_json_object
from harness.storage.digest import file_digest
from harness.storage.disk import write_json, writing
from harness.storage.store import MANIFEST

NEW, READY = ".new", ".ready"
DIGESTS = "digests"  # of the manifest: {file: SHA-256 of its bytes}

# What a command draws once its record is in place: pages, plots, exports. `rbrbench report` draws them again.
DRAWN = (
    *(
        "report.html",
        "fit.html",
        "gold.html",
        "gate.html",
        "xstest.html",
        "ceiling.html",
        "rank.html",
        "summary.md",
        "gate.md",
        "gate.xml",
    ),
    *(
        "plots/*.png",
        "plots/*.svg",
        "model_card*.md",
        "eval_results*.yaml",
        "lm_eval/*.json",
        "lm_eval/*/*.json*",
        "every_eval_ever/**/*.json*",
    ),
)

log = logging.getLogger(__name__)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder, to be filled, manifest included; afterwards its files are `folder`'s. None are after a failure.

    Raises InputError where the disk refuses.
    """
    new = folder / NEW
    with writing(folder):
        settle(folder)
        shutil.rmtree(new, ignore_errors=True)  # what a kill left
        new.mkdir()
    try:
        yield new
        with writing(folder):
            write_json(new / MANIFEST, {**_manifest(new), DIGESTS: _digests(new)})
            os.rename(new, folder / READY)
            settle(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def settle(folder: Path) -> None:
    """Finish a replacement that was cut short; several may at once. Raises OSError where the disk refuses."""
    ready = folder / READY
    if not ready.is_dir():
        return
    files = [path for path in ready.rglob("*") if path.is_file()]
    if (ready / MANIFEST).is_file():
        ours = set(_manifest(ready).get(DIGESTS, {}))
        drawn = {path.relative_to(folder).as_posix() for pattern in DRAWN for path in folder.glob(pattern)}
        for name in (drawn | set(_manifest(folder).get(DIGESTS, {}))) - ours:
            (folder / name).unlink(missing_ok=True)
    for file in sorted(files, key=lambda file: (file.name == MANIFEST, file)):
        place = folder / file.relative_to(ready)
        place.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # somebody else has put it there
            os.replace(file, place)
    shutil.rmtree(ready, ignore_errors=True)


def check_whole(folder: Path) -> None:
    """Raises InputError where a file is not of the manifest's making.

    A folder of before digests is read, with a note.
    """
    with suppress(OSError):  # a folder that cannot be written: its digests tell what it is
        settle(folder)
    manifest = _manifest(folder)
    digests = manifest.get(DIGESTS)
    if not isinstance(digests, dict):
        if folder.name != NEW:
            log.info("%s was made before records had digests: its files are read as they lie", folder)
        return
    for name, wanted in digests.items():
        _check(folder / str(name), wanted)


def check_file(path: Path | str) -> None:
    """For a file that is named by itself: raises InputError where a record has it and it is not of its making."""
    path = Path(path)
    for folder in path.parents[:2]:  # samples/MODEL.jsonl lies one below its record
        with suppress(OSError):
            settle(folder)
        digests, name = _manifest(folder).get(DIGESTS), path.relative_to(folder).as_posix()
        if isinstance(digests, dict) and name in digests:
            _check(path, digests[name])


def _check(path: Path, wanted: object) -> None:
    if not path.is_file() or file_digest(path) != wanted:
        problem = "is missing" if not path.is_file() else f"is not what {MANIFEST} was written with"
        raise InputError(problem, path=path, fix="run the command that made the folder again")


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def _manifest(folder: Path) -> dict[str, Any]:
    """Empty where there is none that can be read; who reads it for its content says what is wrong."""
    if not (folder / MANIFEST).is_file():
        return {}
    try:
        return read_json_object(folder / MANIFEST)
    except InputError:
        return {}
