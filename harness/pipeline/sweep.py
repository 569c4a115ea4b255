"""A sweep: its plan, its jobs, wherever Hydra's launcher runs them, and one record of what they made.

Jobs meet in the store alone: what several need is computed by one. What each made is kept in the sweep's folder as it
ends, and the record is made of what is there, by `rbrbench run -m` at its end and by `rbrbench report` at any time.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from evals.judges.card import JudgeCard
from evals.judges.measures import MEAN
from evals.values.errors import OUT_OF_MEMORY, InputError, UndecidableError, is_out_of_memory
from evals.values.metrics_table import MetricRow
from harness.keys.application import Application
from harness.keys.compose import checked
from harness.keys.evaluation import OWN_JUDGES, OWN_SUITE
from harness.keys.methods import chosen
from harness.keys.objective import SweepObjective
from harness.keys.run import RunConfig
from harness.pipeline.collected import Collected
from harness.pipeline.content import content_of
from harness.pipeline.run import Ran, about_of, check_apart, check_jobs, compute, publish, write_record
from harness.pipeline.variants import variants_of
from harness.record.finished_run import RunStages, is_run
from harness.record.plan import DONE, FAILED, RUNNING, JobState, Plan, PlannedJob, SweepFolder, read_sweep
from harness.record.to_label import Written
from harness.runtime.console import Console, duration
from harness.runtime.libraries import own_threads, quiet_libraries
from harness.runtime.own_gpu import take_gpu
from harness.storage.digest import digest
from harness.storage.ownership import computing, is_alone

log = logging.getLogger(__name__)
AGAIN = "the same command computes what is missing"
FEW = 4  # jobs that a line names
FAULT = 70  # as `rbrbench.surroundings` has it
TERMINATED, REQUEUED = 143, -1  # codes of a training that has saved, and of submitit's end of a job
INTERVAL = 15.0  # seconds between two lines about all jobs


class JobFailed(RuntimeError):
    """A job that ended early, in one line; it passes from process to process. `exit_code` is the command's."""

    def __init__(self, line: str, exit_code: int) -> None:
        super().__init__(line, exit_code)
        self.exit_code = exit_code

    def __str__(self) -> str:
        return str(self.args[0])


@own_threads()
def run_sweep(application: Application[RunConfig], console: Console) -> Ran:
    """Every job of a sweep by Hydra's sweeper and launcher; a job that fails leaves the others alone.

    Raises InputError for whatever does not fit, before the first job, and JobFailed where none ends well.
    """
    jobs = application.jobs
    configs = [application.config] if jobs is None else [job.config for job in jobs]
    check_directions(configs[0].objective, application.sweeper)
    combinations = [()] if jobs is None else [job.overrides for job in jobs]
    owner = None if jobs is not None else digest([content_of(configs[0]), application.asked()])
    folder = check_jobs(configs, combinations, console, owner)
    check_apart(application, folder)
    plan = _planned(configs, combinations, application.overrides, owner)
    sweep = SweepFolder(folder, plan)
    with sweeping(sweep):
        task = JobTask(str(folder.resolve()), tuple(application.overrides), os.getpid())
        failure = None
        with _telling(sweep, console):
            try:
                application.sweep(task)
            except Exception as error:  # a job's, or of a launcher that lost one
                failure = error if isinstance(error, JobFailed) else _given_up(error)
        return _ended(sweep, configs, failure)


@contextmanager
def sweeping(sweep: SweepFolder) -> Iterator[None]:
    """The plan lies in the folder, which no other command takes meanwhile. Raises InputError where one has it."""
    with computing(sweep.folder, sweep.plan.digest):
        there = None if is_alone(sweep.folder, sweep.plan.digest) else read_sweep(sweep.folder)
        if there is None or there.plan.digest != sweep.plan.digest:
            sweep.begin()
        yield


def check_directions(objective: Sequence[str], sweeper: Mapping[str, Any]) -> None:
    """Raises InputError where a search goes by more or fewer values than a job tells: it would end a batch later."""
    direction = sweeper.get("direction")
    wanted = len(direction) if isinstance(direction, list) else int(direction is not None)
    if wanted and len(objective) != wanted:
        problem = f"has {len(objective)} values, and hydra.sweeper.direction {wanted}"
        fix = "give one METHOD:METRIC for each direction, such as objective=[rbr_ppo:f1]"
        raise InputError(problem, field="objective", fix=fix)


def _planned(
    configs: Sequence[RunConfig],
    combinations: Sequence[Sequence[str]],
    overrides: Sequence[str],
    owner: str | None,
) -> Plan:
    contents = [content_of(config) for config in configs]
    variants = variants_of(combinations, overrides)
    jobs = [
        PlannedJob(number, config.seed, variant, digest(content))
        for number, (config, variant, content) in enumerate(zip(configs, variants, contents, strict=True))
    ]
    adaptive = owner is not None
    return Plan(
        digest=owner or digest(contents),
        adaptive=adaptive,
        to_label=configs[0].evaluation.to_label,
        config=yaml.safe_dump(contents[0], sort_keys=False),
        about=about_of(configs, owner),
        jobs=() if adaptive else tuple(jobs),
    )


def _ended(sweep: SweepFolder, configs: Sequence[RunConfig], failure: JobFailed | None) -> Ran:
    """The record of what there is. Raises `failure` where that is nothing."""
    parts, missing = parts_of(sweep)
    if not parts:
        raise failure or InputError(
            "no job has ended", path=sweep.folder, fix="look at the launcher's own logs"
        )
    notes = [missing_note(sweep, missing)] if missing else []
    seeds = sorted({part.stages[0]["seed"] for part in parts if part.stages})
    ran = publish(sweep.folder, configs, parts, {**sweep.plan.about, "seeds": seeds, "notes": notes})
    if not missing and failure is None:
        return ran
    states = [(job, sweep.state(job)) for job in missing]
    lines = {job.label: state.line for job, state in states if state is not None and state.line}
    said = [f"{label}: {line}" for label, line in lines.items()]
    if failure is not None and str(failure) not in lines.values():
        said = [str(failure), *said]
    if missing:
        said += [f"{len(missing)} of {len(sweep.jobs)} jobs are missing; {AGAIN}: {_named(missing)}"]
    code = failure.exit_code if failure is not None else FAULT
    return Ran(ran.folder, ran.made_of, ran.fresh, code, "\n".join(said))


def _named(jobs: Sequence[PlannedJob]) -> str:
    more = f"; and {len(jobs) - FEW} more" if len(jobs) > FEW else ""
    return "; ".join(job.label for job in jobs[:FEW]) + more


def parts_of(sweep: SweepFolder) -> tuple[list[Collected], list[PlannedJob]]:
    """What the finished jobs made, and the jobs that are missing."""
    done = [job for job in sweep.jobs if sweep.is_done(job)]
    missing = [job for job in sweep.jobs if job not in done]
    return [collected_from(sweep.made(job)) for job in done], missing


def join(folder: Path) -> list[str]:
    """Bring the record of a sweep up to what its jobs have made by now; what is missing, a line a job.

    A record that has everything, and a folder of anything else, stays as it is.
    """
    sweep = read_sweep(folder)
    if sweep is None:
        return []
    parts, missing = parts_of(sweep)
    if parts and recorded(folder) != [row["key"] for part in parts for row in part.stages]:
        notes = [missing_note(sweep, missing)] if missing else []
        seeds = sorted({part.stages[0]["seed"] for part in parts if part.stages})
        about = {**sweep.plan.about, "seeds": seeds, "notes": notes}
        write_record(folder, about, sweep.plan.config, parts, sweep.plan.to_label)
    return [f"missing: {job.label}{_how(sweep.state(job))}" for job in missing]


def recorded(folder: Path) -> list[str]:
    """The keys of the stages that the record in a folder of results is made of; empty where there is none."""
    return [str(row["key"]) for row in RunStages(folder).rows] if is_run(folder) else []


def missing_note(sweep: SweepFolder, missing: Sequence[PlannedJob]) -> str:
    labels = ", ".join(job.label for job in missing)
    return f"{len(missing)} of {len(sweep.jobs)} jobs of the sweep are missing here: {labels}."


def _how(state: JobState | None) -> str:
    if state is None:
        return " (not begun)"
    if state.state == FAILED:
        return f" (failed: {state.line})"
    return f" ({state.stages} stages done, last heard of {duration(time.time() - state.told)} ago)"


# --- one job -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class JobTask:
    """What Hydra calls for each job, in the process that planned it or in another, on another machine perhaps.

    `overrides` are those of the command line, beside which a job's own tell it from the others.
    """

    folder: str
    overrides: tuple[str, ...]
    planner: int  # its process

    def __call__(self, composed: DictConfig) -> float | tuple[float, ...] | None:
        """The job's objective, one or several, where some is asked for. Raises JobFailed."""
        config = checked(RunConfig, composed)
        sweep = read_sweep(Path(self.folder))
        if sweep is None:
            raise JobFailed(f"{self.folder}: the plan of the sweep is gone; give the command again", 2)
        job = self._planned(sweep, config)
        at_home = os.getpid() == self.planner
        console = Console() if at_home else Console(live=False, prefix=f"[{job.label}] ")
        if at_home:
            console.say(f"--- {job.label}")
        with _as_job(sweep, job, console, at_home) as after_stage, own_threads():
            if "joblib" in str(HydraConfig.get().launcher["_target_"]).lower():
                take_gpu()
            quiet_libraries(config.threads)
            part = compute(config, job.variant, console, after_stage)
            sweep.keep(job, made_by(part))
            values = tuple(objective_of(config, part.metrics, asked) for asked in config.objectives)
        return values[0] if len(values) == 1 else values or None

    def _planned(self, sweep: SweepFolder, config: RunConfig) -> PlannedJob:
        key = digest(content_of(config))
        if not sweep.plan.adaptive:
            if job := next((job for job in sweep.plan.jobs if job.digest == key), None):
                return job
            problem = f"{self.folder}: its plan has no such job; another sweep's lies there, or what the job refers to"
            raise JobFailed(f"{problem}, ${{...}}, is something else here; {AGAIN}", 2)
        hydra = HydraConfig.get()
        own = list(hydra.overrides.task)
        (variant,) = variants_of([own], self.overrides)
        return PlannedJob(int(hydra.job.num), config.seed, variant, key)


@contextmanager
def _as_job(
    sweep: SweepFolder, job: PlannedJob, console: Console, at_home: bool
) -> Iterator[Callable[[int], None]]:
    """Around a job: its state is told, and whatever ends it is a JobFailed; a SystemExit would end the sweep."""
    began, stages = time.time(), 0

    def after_stage(count: int) -> None:
        nonlocal stages
        stages = count
        sweep.say(job, state=RUNNING, stages=count, began=began)

    after_stage(0)
    try:
        with announced():
            yield after_stage
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code == (TERMINATED if at_home else REQUEUED):
            raise  # the command itself is to end; or the job is, and goes on later
        failure = _failure(error)
        sweep.say(job, state=FAILED, stages=stages, began=began, line=str(failure), code=failure.exit_code)
        console.say(f"failed: {failure}")
        raise failure from None
    sweep.say(job, state=DONE, stages=stages, began=began)


@contextmanager
def announced() -> Iterator[None]:
    """Inside a job of submitit, a training that is to end soon saves its state first, as it does after SIGTERM.

    SLURM's signal comes some time before a time limit, or where the job has to make room; submitit then asks for the
    job to be queued again, and ends this process at once.
    """
    if "SUBMITIT_EXECUTOR" not in os.environ or threading.current_thread() is not threading.main_thread():
        yield
        return
    requeue, quiet, asked = signal.getsignal(signal.SIGUSR2), signal.getsignal(signal.SIGTERM), []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if signal.getsignal(signal.SIGTERM) is quiet:  # nothing here has a state to save
            _call(requeue, number, frame)
        asked.append(number)
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGUSR2, pass_on)
    try:
        yield
    except SystemExit as error:
        if asked and error.code == TERMINATED:
            _call(requeue, asked[0], None)
        raise
    finally:
        signal.signal(signal.SIGUSR2, requeue)


def _call(handler: Any, number: int, frame: FrameType | None) -> None:
    if callable(handler):
        handler(number, frame)


def objective_of(config: RunConfig, metrics: Sequence[MetricRow], asked: SweepObjective) -> float:
    """The value that an objective names: the mean of its checkpoints.

    Raises InputError where it names none or several, UndecidableError where that was not measured.
    """
    named = {m.name: m.named(config.algorithm) for m in chosen(config.methods)}[asked.method]
    source = config.data.source
    rows = [r for r in metrics if r.method.partition("[")[0] == named and r.metric == asked.metric]
    rows = _narrowed(rows, "suite", asked.suite, OWN_SUITE[source])
    rows = _narrowed(rows, "judge", asked.judge, OWN_JUDGES[source][0])
    rows = _narrowed(rows, "checkpoint", "", MEAN)
    if len(rows) != 1:
        known = ", ".join(dict.fromkeys(f"{r.metric}:{r.judge}:{r.suite}" for r in metrics))
        problem = f"{str(asked)!r} names {len(rows)} values"
        raise InputError(problem, field="objective", fix=f"write METHOD:METRIC:JUDGE:SUITE of {known}")
    if math.isnan(rows[0].value):
        raise UndecidableError(f"objective {str(asked)!r} was not measured: none of its responses is scored")
    return rows[0].value


def _narrowed(rows: list[MetricRow], column: str, wanted: str, usual: str) -> list[MetricRow]:
    """Those with `wanted` in a column; without it, those with what is usual, if any."""
    if wanted:
        return [row for row in rows if getattr(row, column) == wanted]
    return [row for row in rows if getattr(row, column) == usual] or rows


def _failure(error: BaseException) -> JobFailed:
    if isinstance(error, InputError | UndecidableError):
        return JobFailed(str(error), error.exit_code)
    log.info("the job failed", exc_info=error)  # in the job's own log; standard error has one line
    what = _what(error)
    if is_out_of_memory(error):
        return JobFailed(f"{OUT_OF_MEMORY}; or fewer jobs at once ({what})", 2)
    if isinstance(error, OSError):
        return JobFailed(what, 2)
    code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else FAULT
    where = HydraConfig.get().runtime.output_dir if HydraConfig.initialized() else "its log"
    return JobFailed(f"a fault of rbrbench's own ({what}); the details stand in {where}", code or FAULT)


def _given_up(error: Exception) -> JobFailed:
    """Of what no job raised: a launcher that lost a process or was refused by its queue; Hydra around a job."""
    if isinstance(error, InputError | UndecidableError):
        return JobFailed(str(error), error.exit_code)
    where = "the keys of hydra.launcher and hydra.sweeper, and their own logs"
    return JobFailed(f"Hydra gave the sweep up ({_what(error)}); look at {where}; {AGAIN}", 2)


def _what(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def made_by(part: Collected) -> dict[str, Any]:
    """As JSON values, from which `collected_from` makes the same."""
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    values["metrics"] = [asdict(row) for row in part.metrics]
    values["cards"] = {name: card.as_json() for name, card in part.cards.items()}
    return values


def collected_from(made: Mapping[str, Any]) -> Collected:
    values = dict(made)
    values["metrics"] = [MetricRow(**row) for row in made["metrics"]]
    values["cards"] = {name: JudgeCard.of_json(card) for name, card in made["cards"].items()}
    values["answers"] = {name: [Written(*said) for said in of] for name, of in made["answers"].items()}
    return Collected(**values)


# --- all jobs ----------------------------------------------------------------------------------


@contextmanager
def _telling(sweep: SweepFolder, console: Console) -> Iterator[None]:
    """Inside, a line about all jobs now and then, where they changed."""
    ended = threading.Event()

    def tell() -> None:
        said = ""
        while not ended.wait(INTERVAL):
            line = progress(sweep, time.time())
            if line.partition(";")[0] != said:
                said = line.partition(";")[0]
                console.say(line)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def progress(sweep: SweepFolder, now: float) -> str:
    """`sweep: 2 of 5 jobs done, 2 running (31 stages), 1 waiting; 3 min 20 s left`; of a search what has begun."""
    count, states = len(sweep.plan.jobs), sweep.states
    done = [state for state in states if state.state == DONE]
    running = [state for state in states if state.state == RUNNING]
    failed = len(states) - len(done) - len(running)
    parts = [f"{len(done)} of {count} jobs done" if count else f"{len(done)} jobs done"]
    parts += [f"{len(running)} running ({sum(state.stages for state in running)} stages)"] if running else []
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{count - len(states)} waiting"] if len(states) < count else []
    left = _time_left(done, running, count - len(states), now) if count else None
    return f"sweep: {', '.join(parts)}{f'; {duration(left)} left' if left is not None else ''}"


def _time_left(
    done: Sequence[JobState], running: Sequence[JobState], waiting: int, now: float
) -> float | None:
    """By what the finished jobs took, shared by as many as run at once; None before the first has ended."""
    if not done or not running:
        return None
    usual = sum(state.told - state.began for state in done) / len(done)
    rest = sum(max(usual - (now - state.began), 0.0) for state in running)
    return (rest + waiting * usual) / len(running)
