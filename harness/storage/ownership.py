"""Whose results a folder has: taken for one configuration, refused to any other's."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from evals.values.errors import InputError
from evals.values.json_text import read_json_object
from evals.values.lock import has_living_holder, look
from harness.storage.digest import digest
from harness.storage.disk import locked, write_json, writing
from harness.storage.provenance import git_commit
from harness.storage.store import MANIFEST

PLAN, JOBS = "plan.json", "jobs"  # of a sweep, in a folder of results: see `harness.record.plan`
COMPUTING = ".computing-"  # DIGEST-TOKEN, locks of those who compute: DIGEST is of their configuration
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
    with writing(folder):
        at_it = next(filter(has_living_holder, _locks(folder, config_digest, of_others=True)), None)
    if at_it is not None:
        seen = look(at_it)
        who = str(seen.holder) if seen is not None and seen.holder is not None else "another process"
        problem = f"{who} computes another configuration's results here"
        raise InputError(problem, path=folder, fix="choose another name=, or wait for it")


@contextmanager
def computing(folder: Path, config_digest: str) -> Iterator[None]:
    """Inside, commands of other configurations are refused the folder.

    Raises InputError where another's results lie, or are computed. A folder that nothing was written to is removed.
    """
    check_results(folder, config_digest)
    with ExitStack() as stack:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            stack.callback(_leave, folder)
            with locked(folder / ".lock"):
                check_results(folder, config_digest)
                for dead in _locks(folder, config_digest, of_others=True):
                    dead.unlink(missing_ok=True)
                own = folder / f"{_prefix(config_digest)}{secrets.token_hex(4)}"
                stack.enter_context(locked(own))
        yield


def is_alone(folder: Path, config_digest: str) -> bool:
    """Whether no second command of this configuration computes here. Raises InputError where the disk refuses."""
    with writing(folder):
        return sum(map(has_living_holder, _locks(folder, config_digest, of_others=False))) < 2


def _prefix(config_digest: str) -> str:
    return f"{COMPUTING}{digest(config_digest)}-"


def _locks(folder: Path, config_digest: str, *, of_others: bool) -> list[Path]:
    """Of those who compute here; not what processes made to remove theirs, which have one more dot."""
    locks = [path for path in folder.glob(f"{COMPUTING}*") if path.name.count(".") == 1]
    return [lock for lock in locks if lock.name.startswith(_prefix(config_digest)) != of_others]


def _leave(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _is_content(path: Path) -> bool:
    """Of a folder of results; a plan of a sweep that has made nothing yet is none."""
    return not path.name.startswith(".") and path.suffix != ".log" and path.name not in (PLAN, JOBS)


def claim_results(folder: Path | str, config_digest: str, waiting: Callable[[], None] | None = None) -> None:
    """Take `results/NAME` for one configuration: make it, or find that it is that configuration's.

    `waiting` is called before a wait for a command that is at it. Raises InputError when another configuration, or
    something that left no manifest, wrote there.
    """
    folder = Path(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock", waiting=waiting):
            check_results(folder, config_digest)
            if not (folder / MANIFEST).exists():
                write_json(folder / MANIFEST, {"config_digest": config_digest, "commit": git_commit()})


def _owner(manifest: Path) -> object:
    try:
        return read_json_object(manifest).get("config_digest")
    except InputError:
        return None  # nobody's digest: refused by the caller like any other configuration's
