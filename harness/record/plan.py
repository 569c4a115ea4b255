"""A sweep's jobs, as they lie in its folder of results: `plan.json`, written before the first, and `jobs/`.

`jobs/NUMBER.json` says how a job stands: running, done or failed, the stages it has finished, since when. What a
finished one made is `jobs/NUMBER.made.json.gz`. Both name the job's digest: those of another plan do not count.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evals.values.errors import InputError
from evals.values.json_text import parse_json
from harness.record.manifest import read_object
from harness.storage.disk import write_json, write_whole, writing
from harness.storage.ownership import JOBS, PLAN
from harness.storage.store import MANIFEST

RUNNING, DONE, FAILED = "running", "done", "failed"
FIX = "remove it, or the sweep's folder, and run the sweep again"


@dataclass(frozen=True)
class PlannedJob:
    """`variant` is what tells it from the others beside the seed; `digest` is of all that decides its results."""

    number: int
    seed: int
    variant: str
    digest: str

    @property
    def label(self) -> str:
        return f"seed {self.seed}{f', {self.variant}' if self.variant else ''}"


@dataclass(frozen=True)
class JobState:
    """How a job stands; times are seconds since 1970. `line` is why it failed, `code` the exit code of that."""

    state: str
    digest: str
    stages: int = 0
    began: float = 0.0
    told: float = 0.0
    line: str = ""
    code: int = 0


@dataclass(frozen=True)
class Plan:
    """`about` is what the manifest of the sweep's results says of all jobs; `config` is the first one's, as YAML.

    Of a sweep whose jobs are not known beforehand, `jobs` is empty and `adaptive` is set.
    """

    digest: str
    adaptive: bool
    to_label: int
    config: str
    about: dict[str, Any]
    jobs: tuple[PlannedJob, ...] = field(default=())

    def write(self, folder: Path) -> None:
        """Raises InputError where the disk refuses."""
        with writing(folder):
            (folder / JOBS).mkdir(parents=True, exist_ok=True)
            write_json(folder / PLAN, asdict(self))


class SweepFolder:
    """The jobs of the plan that lies in a folder of results."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan

    @property
    def jobs(self) -> list[PlannedJob]:
        """Those of the plan; of an adaptive sweep those that have finished."""
        if not self.plan.adaptive:
            return list(self.plan.jobs)
        made = (self._made(path) for path in (self.folder / JOBS).glob("*.made.json.gz"))
        found = [PlannedJob(**values["job"]) for values in made if values["plan"] == self.plan.digest]
        ordered = sorted(found, key=lambda job: job.number, reverse=True)
        once = {job.digest: job for job in ordered}  # a search may try a value again
        return sorted(once.values(), key=lambda job: job.number)

    def state(self, job: PlannedJob) -> JobState | None:
        """None where it has not begun."""
        values = read_object(self._said(job))
        if values is None or values.get("digest") != job.digest:
            return None
        return JobState(**values)

    def begin(self) -> None:
        """Write the plan, and forget what earlier tries of its jobs said, but for those that are done.

        Raises InputError where the disk refuses.
        """
        self.plan.write(self.folder)
        with writing(self.folder):
            for path in (self.folder / JOBS).glob("*.json"):
                if (read_object(path) or {}).get("state") != DONE:
                    path.unlink(missing_ok=True)

    def is_done(self, job: PlannedJob) -> bool:
        state = self.state(job)
        return state is not None and state.state == DONE

    @property
    def states(self) -> list[JobState]:
        """Of the jobs that have begun; of an adaptive sweep all that lie there."""
        if not self.plan.adaptive:
            return [state for job in self.jobs if (state := self.state(job)) is not None]
        found = (read_object(path) for path in sorted((self.folder / JOBS).glob("*.json")))
        return [JobState(**values) for values in found if values is not None]

    def say(self, job: PlannedJob, **state: Any) -> None:
        """Raises InputError where the disk refuses."""
        with writing(self.folder):
            (self.folder / JOBS).mkdir(parents=True, exist_ok=True)
            now = JobState(digest=job.digest, told=time.time(), **state)
            write_json(self._said(job), asdict(now))

    def keep(self, job: PlannedJob, made: Mapping[str, Any]) -> None:
        """What a finished job made, as JSON values. Raises InputError where the disk refuses."""
        values = {"plan": self.plan.digest, "job": asdict(job), "made": made}
        content = gzip.compress(json.dumps(values, ensure_ascii=True).encode(), mtime=0)
        write_whole(self._place(job.number), content)

    def made(self, job: PlannedJob) -> Mapping[str, Any]:
        """What `keep` was given. Raises InputError for a file that is gone or damaged."""
        found: Mapping[str, Any] = self._made(self._place(job.number))["made"]
        return found

    def _said(self, job: PlannedJob) -> Path:
        return self.folder / JOBS / f"{job.number}.json"

    def _place(self, number: int) -> Path:
        return self.folder / JOBS / f"{number}.made.json.gz"

    @staticmethod
    def _made(path: Path) -> Mapping[str, Any]:
        try:
            values = parse_json(gzip.decompress(path.read_bytes()), halves=True)
            if isinstance(values, dict) and {"plan", "job", "made"} <= values.keys():
                return values
        except (OSError, EOFError, ValueError) as error:
            raise InputError(f"cannot be read ({error})", path=path, fix=FIX) from None
        raise InputError("is not what a job made", path=path, fix=FIX)


def read_sweep(folder: Path) -> SweepFolder | None:
    """The sweep whose results lie here, finished or not; None where there is none.

    Raises InputError for a damaged plan.
    """
    values = read_object(folder / PLAN)
    if values is None:
        return None
    try:
        jobs = tuple(PlannedJob(**job) for job in values["jobs"])
        plan = Plan(**{**values, "jobs": jobs})
    except (TypeError, KeyError) as error:
        raise InputError(f"is no plan of a sweep ({error})", path=folder / PLAN, fix=FIX) from None
    manifest = read_object(folder / MANIFEST) or {}
    return SweepFolder(folder, plan) if manifest.get("config_digest", plan.digest) == plan.digest else None
