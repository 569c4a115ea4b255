"""Whose results a folder has: taken for one configuration, refused to any other's."""

from __future__ import annotations

from pathlib import Path

from evals.values.errors import InputError
from evals.values.json_text import read_json_object
from harness.storage.digest import digest
from harness.storage.disk import locked, write_json, writing
from harness.storage.provenance import git_commit
from harness.storage.store import MANIFEST

PLAN, JOBS = "plan.json", "jobs"  # of a sweep, in a folder of results: see `harness.record.plan`
CHOOSE = "choose another name=, or remove the folder"


def command_digest(command: str) -> str:
    """The `config_digest` of a command that may overwrite its own results, and no other's."""
    return digest({"command": command})


def check_results(folder: Path | str, config_digest: str) -> None:
    """Writes nothing; raises InputError where `claim_results` would."""
    folder = Path(folder)
    manifest = folder / MANIFEST
    if not manifest.exists():
        with writing(folder):
            if folder.exists() and any(_is_content(p) for p in folder.iterdir()):
                raise InputError(f"other files lie here, and no {MANIFEST}", path=folder, fix=CHOOSE)
    elif _owner(manifest) != config_digest:
        raise InputError("another configuration's results lie here", path=folder, fix=CHOOSE)


def _is_content(path: Path) -> bool:
    """Of a folder of results; a plan of a sweep that has made nothing yet is none."""
    return not path.name.startswith(".") and path.suffix != ".log" and path.name not in (PLAN, JOBS)


def claim_results(folder: Path | str, config_digest: str) -> None:
    """Take `results/NAME` for one configuration: make it, or find that it is that configuration's.

    Raises InputError when another configuration, or something that left no manifest, wrote there.
    """
    folder = Path(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock"):
            check_results(folder, config_digest)
            if not (folder / MANIFEST).exists():
                write_json(folder / MANIFEST, {"config_digest": config_digest, "commit": git_commit()})


def _owner(manifest: Path) -> object:
    try:
        return read_json_object(manifest).get("config_digest")
    except InputError:
        return None  # nobody's digest: refused by the caller like any other configuration's
