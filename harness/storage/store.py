"""Content-addressed artifacts: a finished stage is found again by what went into it.

`results/.store/STAGE/KEY/` holds what the stage wrote and `manifest.json`, written last, with a digest of each file
and of itself. Whoever finds a stage reads its files once for that: some .6 to 2 GB a second. What is not as it
was written is computed again. Artifacts of before digests are believed by their sizes. A stage that reads some files
of another's counts these alone in its key (`Artifact.part`). Beside it:

- `.temp-KEY`: a build in progress, or what a kill left of one; removed at that stage's next build,
  unless a live process holds its lock.
- `.partial-KEY`: the same for a resumable stage; kept, and handed to the next build of that key.
- `.lock-KEY`: held by the process that builds KEY, of any machine that shares the folder (`evals.values.lock`);
  another that needs KEY waits, then finds it.

The build after one that was cut short has a folder of its own name, `.temp-KEY.1`, `.partial-KEY.2`: whatever is left
of the other, or wakes up again on a machine that was thought dead, writes nowhere and publishes nothing.

Removing any of these folders, or all of `.store`, costs time and nothing else.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from evals.values.json_text import read_json_object
from evals.values.lock import Holder, Lock, held, machine, sweep_rights
from harness.storage.digest import canonical, digest, figures, file_digest
from harness.storage.disk import full_disk_as_input_error, locked, sync, write_json, writing
from harness.storage.provenance import git_commit
from harness.storage.usage import Usage

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
ITSELF = "digest"  # of the manifest's other keys
DIGESTS = "digests"  # {file: digest of what was written}
FORMAT = 1  # part of every key: raise it when an older artifact must not be read as a new one

Build = Callable[[Path], Mapping[str, Any] | None]


class BusyError(Exception):
    """Another process is computing the stage, and this one does not wait for it (`Store.waits`)."""


@dataclass(frozen=True)
class Artifact:
    """A finished stage: its folder, and what it cost when it was computed (seconds, 10^6 bytes).

    `names`: of a `part` of it, those of the files that are read.
    """

    path: Path
    key: str
    stage: str
    cached: bool
    seconds: float
    peak_memory_mb: float
    manifest: Mapping[str, Any] = field(repr=False, compare=False)
    names: tuple[str, ...] | None = None

    def part(self, *names: str) -> Artifact:
        """The same artifact for a stage that reads these of its files, and what lies in folders of these names, alone.

        Names that it lacks add nothing. One without digests stands for itself.
        """
        return replace(self, names=names) if DIGESTS in self.manifest else self

    @property
    def files_read(self) -> dict[str, str]:
        """{file: digest} of the files of a part."""
        names, digests = set(self.names or ()), self.manifest.get(DIGESTS, {})
        return {file: told for file, told in digests.items() if names & {file, *_folders(file)}}

    @property
    def counted(self) -> str:
        """What stands for it in the keys of stages that read it."""
        return self.key if self.names is None else digest(self.files_read)

    @property
    def results(self) -> dict[str, Any]:
        """What the stage's build returned, as JSON values: tuples are lists, NaN is None."""
        return dict(self.manifest["results"])


@dataclass
class Work:
    """A stage that is opened: where it is `missing`, write to `folder` and set `results`, figures for its manifest."""

    folder: Path
    found: Artifact | None
    results: Mapping[str, Any] = field(default_factory=dict)

    @property
    def missing(self) -> bool:
        return self.found is None

    @property
    def artifact(self) -> Artifact:
        assert self.found is not None, "asked before the stage's end"
        return self.found


class Store:
    """The finished stages under `root` (`results/.store`); safe for several processes at once.

    `waits`: for what another process is computing; else `open_stage` raises BusyError.
    """

    def __init__(self, root: Path | str) -> None:
        self.root, self.waits = Path(root), True
        self.beside: set[int] = set()  # processes of this run, whose work is waited for without a word

    def key(
        self, stage: str, config: object, inputs: Mapping[str, Artifact], versions: Mapping[str, str]
    ) -> str:
        """16 hexadecimal digits of what decides the stage's output; leave out of `config` what does not.

        Raises TypeError for a config value that has no canonical form (see `canonical`).
        """
        parts = {name: [artifact.stage, artifact.counted] for name, artifact in inputs.items()}
        what = {"stage": stage, "config": config, "inputs": parts, "versions": versions}
        return digest({"format": FORMAT, **what})

    def find(self, stage: str, key: str, *, warn: bool = True) -> Artifact | None:
        """The finished artifact, or None; a damaged one counts as absent, with a warning."""
        folder = self.root / stage / key
        if not folder.is_dir():
            return None
        manifest, problem = _read_manifest(folder, key)
        if manifest is None:
            if warn:
                log.warning("%s: %s; it is computed again", folder, problem)
            return None
        return _artifact(folder, stage, manifest, cached=True)

    @contextmanager
    def open_stage(
        self,
        stage: str,
        config: object,
        inputs: Mapping[str, Artifact],
        versions: Mapping[str, str],
        keep_partial: bool = False,
    ) -> Iterator[Work]:
        """`with store.open_stage(...) as work:` computes what is missing; `work.artifact` is there afterwards.

        Args:
            stage: the folder's name. config: a dataclass or mapping. inputs: by their role.
            versions: see `module_versions`.
            keep_partial: the stage saves its own state in its folder and goes on from it; after a
                failure or a kill the next build of the same key is handed the folder as it was.

        Raises:
            InputError: the disk is full, or the store cannot be written. BusyError. Whatever is raised inside.
        """
        key = self.key(stage, config, inputs, versions)
        shelf = self.root / stage
        work = Work(shelf / key, self.find(stage, key, warn=False))
        with ExitStack() as stack:
            if work.missing:
                with writing(self.root):
                    shelf.mkdir(parents=True, exist_ok=True)
                    _sweep(shelf)
                    waiting = partial(self._say_waiting, stage, key)
                    lock = stack.enter_context(held(shelf / f".lock-{key}", wait=self.waits, waiting=waiting))
                if lock is None:
                    raise BusyError(f"{stage} {key}")
                work.found = self.find(stage, key)  # another process may have finished it meanwhile
                if work.missing:
                    about = {"format": FORMAT, "stage": stage, "key": key, "config": canonical(config)}
                    about["inputs"] = {name: _as_input(artifact) for name, artifact in inputs.items()}
                    about |= {"versions": dict(versions), "commit": git_commit()}
                    stack.enter_context(self._built(work, about, keep_partial, lock))
            yield work

    def get(
        self,
        stage: str,
        config: object,
        inputs: Mapping[str, Artifact],
        versions: Mapping[str, str],
        build: Build,
        keep_partial: bool = False,
    ) -> Artifact:
        """`open_stage` around `build(folder)`, which returns figures for the manifest."""
        with self.open_stage(stage, config, inputs, versions, keep_partial) as work:
            if work.missing:
                work.results = build(work.folder) or {}
        return work.artifact

    def _say_waiting(self, stage: str, key: str, holder: Holder | None) -> None:
        if holder is not None and holder.machine == machine() and holder.process in self.beside:
            return
        by = f" ({holder})" if holder is not None else ""
        log.warning("another process is computing %s %s%s; waiting for it", stage, key, by)

    @contextmanager
    def _built(self, work: Work, about: dict[str, Any], keep_partial: bool, lock: Lock) -> Iterator[None]:
        """An empty folder before, or what is left of the last try; afterwards the artifact, or nothing."""
        final = work.folder
        try:
            with writing(self.root):
                _discard(final)
                work.folder = _room(final, keep_partial)
                resumed = work.folder.is_dir()
                work.folder.mkdir(exist_ok=True)
                (work.folder / MANIFEST).unlink(missing_ok=True)
            with Usage() as usage, full_disk_as_input_error(self.root):
                yield
            about |= {"seconds": round(usage.seconds, 3), "peak_memory_mb": round(usage.peak_memory_mb, 1)}
            about |= {"resumed": resumed, "created": datetime.now(UTC).isoformat(timespec="seconds")}
            with writing(self.root):
                about |= {"results": figures(work.results)}
                manifest = _publish(work.folder, final, about, lock)
        except BaseException as error:
            if not keep_partial:
                shutil.rmtree(work.folder, ignore_errors=True)
            if isinstance(error, Exception):
                with suppress(OSError):
                    lock.check()  # what has failed is that another took its folder away
            raise
        work.found = _artifact(final, about["stage"], manifest, cached=False)


def _folders(file: str) -> list[str]:
    """The folders that a file of an artifact lies in: `a` and `a/b` of `a/b/c.txt`."""
    return [str(folder) for folder in PurePath(file).parents]


def _as_input(artifact: Artifact) -> dict[str, str]:
    """The folder that a stage was computed from. Others of its key may have other folders, if the part is the same."""
    named = {"stage": artifact.stage, "key": artifact.key}
    return named if artifact.names is None else named | {"part": artifact.counted}


def _artifact(folder: Path, stage: str, manifest: dict[str, Any], *, cached: bool) -> Artifact:
    cost = manifest["seconds"], manifest["peak_memory_mb"]
    return Artifact(folder, manifest["key"], stage, cached, *cost, manifest=manifest)


def _room(final: Path, keep_partial: bool) -> Path:
    """The folder that `final` is built in: new, or what the last try left, under another name than it had then."""
    kind = f"{'.partial' if keep_partial else '.temp'}-{final.name}"
    left = sorted(final.parent.glob(f"{kind}*"), key=_try)
    room = final.with_name(f"{kind}.{_try(left[-1]) + 1}" if left else kind)
    if left and keep_partial:
        os.rename(left.pop(), room)
    for rubbish in left:
        shutil.rmtree(rubbish, ignore_errors=True)
    return room


def _try(folder: Path) -> int:
    number = folder.name.rpartition(".")[2]
    return int(number) if number.isdigit() and "-" not in number else 0


def _publish(folder: Path, final: Path, manifest: dict[str, Any], lock: Lock) -> dict[str, Any]:
    """Bring everything to the disk, then the manifest, then the name; the manifest as it reads back."""
    files = {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
    for path in [*folder.rglob("*"), folder]:
        sync(path)
    digests = {name: file_digest(folder / name) for name in files}
    manifest = json.loads(json.dumps({**manifest, "files": files, DIGESTS: digests}))
    write_json(folder / MANIFEST, {**manifest, ITSELF: digest(manifest)})
    lock.check()
    os.rename(folder, final)
    sync(final.parent)
    return read_json_object(final / MANIFEST)


def _read_manifest(folder: Path, key: str) -> tuple[dict[str, Any] | None, str | None]:
    """The manifest of a whole artifact, or None and what is wrong with it."""
    try:
        manifest = read_json_object(folder / MANIFEST)
        problem = _damage(folder, manifest, key)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return None, f"its {MANIFEST} cannot be read ({error})"
    return (manifest, None) if problem is None else (None, problem)


def _damage(folder: Path, manifest: object, key: str) -> str | None:
    wanted = {"key", "seconds", "peak_memory_mb", "results", "files"}
    if not isinstance(manifest, dict) or not wanted <= manifest.keys() or manifest["key"] != key:
        return f"its {MANIFEST} is not this artifact's"
    if ITSELF in manifest and digest({k: v for k, v in manifest.items() if k != ITSELF}) != manifest[ITSELF]:
        return f"its {MANIFEST} is not what was written"
    for name, size in manifest["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            return f"{name} is missing or has another size than when it was written"
        if name in manifest.get(DIGESTS, {}) and file_digest(path) != manifest[DIGESTS][name]:
            return f"{name} is not what was written"
    return None


def _discard(folder: Path) -> None:
    """Remove a damaged artifact; renamed first, so that a kill leaves no half of it under its name."""
    if folder.exists():
        rubbish = folder.with_name(f".temp-{folder.name}")
        shutil.rmtree(rubbish, ignore_errors=True)
        os.rename(folder, rubbish)
        shutil.rmtree(rubbish)


def _sweep(shelf: Path) -> None:
    """Remove what killed builds left of stages that cannot go on, and their locks."""
    found = [p.name.partition("-")[2] for pattern in (".temp-*", ".lock-*") for p in shelf.glob(pattern)]
    for key in sorted({name.partition(".")[0] for name in found}):
        lock = shelf / f".lock-{key}"
        with locked(lock, wait=False) as is_held:
            if is_held:
                for rubbish in shelf.glob(f".temp-{key}*"):
                    shutil.rmtree(rubbish, ignore_errors=True)
                sweep_rights(lock)
