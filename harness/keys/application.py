"""A command as a Hydra application: what Hydra's flags ask, and what it would run, checked before it is run."""

from __future__ import annotations

import argparse
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import run_job
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode, TaskFunction
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from conf import CONF
from evals.values.errors import InputError
from harness.keys.compose import GROUPS, OF_SEVERAL, SCHEMA, as_input_error, checked, one_line, store, told
from harness.keys.typed import resolve_references
from harness.runtime import ray_launcher

CONFIG = "config"  # conf/config.yaml
LAUNCHER = "hydra/launcher"
BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"

Kind = TypeVar("Kind")


resolve_references()  # in each process that runs a job, too


@dataclass(frozen=True)
class Job(Generic[Kind]):
    """What a sweep runs once: the overrides that Hydra is told, and what they compose to."""

    overrides: tuple[str, ...]
    config: Kind


class Application(Generic[Kind]):
    """The configuration `kind` under Hydra, as `arguments` ask for it. To be used inside `hydra_application`."""

    def __init__(self, kind: type[Kind], flags: argparse.Namespace, hydra: Hydra) -> None:
        self.kind, self.flags, self._hydra = kind, flags, hydra
        self._name: str = flags.config_name or CONFIG
        self.overrides = told(kind, flags.overrides, sweep=flags.multirun)
        self._fault: InputError | None = None  # of composing, which takes too long to do it twice
        self.sweeps: bool = flags.multirun or self._is_a_sweep_by_itself()
        if self.sweeps and not flags.multirun:
            self.overrides = told(kind, flags.overrides, sweep=True)

    def show(self) -> bool:
        """Whether a flag asked for something to be shown; then it has been."""
        flags, hydra, name = self.flags, self._hydra, self._name
        with one_line(self.kind):
            if flags.hydra_help:
                hydra.hydra_help(config_name=name, args_parser=_parser(), args=flags)
            elif flags.cfg:
                _check_package(self._composed, flags.package, flags.cfg)
                again = self.sweeps and not flags.resolve  # of a sweep Hydra shows one job's
                with nullcontext() if again else self._as_composed():
                    hydra.show_cfg(name, self.overrides, flags.cfg, flags.package, flags.resolve)
            elif flags.info:
                hydra.show_info(flags.info, name, self.overrides)
            else:
                return False
        return True

    @contextmanager
    def _as_composed(self) -> Iterator[None]:
        """Inside, Hydra composes nothing again. A part shown without the rest may refer to it: resolved beforehand."""
        config, hydra = self._composed, self._hydra
        if self.flags.resolve:
            HydraConfig.instance().set_config(config)
            OmegaConf.set_readonly(config.hydra, None)
            OmegaConf.resolve(config)
        hydra.compose_config = lambda *_, **__: config  # type: ignore[method-assign]
        try:
            yield
        finally:
            del hydra.compose_config

    @cached_property
    def config(self) -> Kind:
        """What is run, or the base of a sweep. Raises InputError."""
        return checked(self.kind, _without_hydra(deepcopy(self._composed)))

    @cached_property
    def jobs(self) -> list[Job[Kind]] | None:
        """The jobs of a sweep, each composed and checked; None where they are not known beforehand.

        Raises InputError for the first that does not fit.
        """
        with one_line(self.kind):
            sweeper = self._sweeper(lambda config: None)
            if self.sweeper["_target_"] != BASIC_SWEEPER:
                return None
            parser = OverridesParser.create(config_loader=self._hydra.config_loader)
            swept = parser.parse_overrides([*sweeper._parse_config(), *self._typed()])
            (combinations,) = sweeper.split_arguments(swept, None)
            if (size := self.sweeper.get("max_batch_size")) is not None and size < 1:
                raise InputError(f"is {size}", field="hydra.sweeper.max_batch_size", fix="give 1 or more")
        if not combinations:
            empty = next(one for one in swept if not sweeper.split_arguments([one], None)[0])
            problem = f"{empty.input_line!r} names no value, and so no job"
            raise InputError(problem, field=empty.key_or_group, fix="name one at least")
        return [self._job(combination) for combination in combinations]

    @property
    def sweeper(self) -> dict[str, Any]:
        """Its own settings."""
        found = OmegaConf.to_container(self._composed.hydra.sweeper, resolve=False)
        assert isinstance(found, dict)
        return {str(key): value for key, value in found.items()}

    def asked(self) -> list[Any]:
        """What decides an adaptive sweep: what was typed, and its sweeper's own settings."""
        return [self._typed(), self.sweeper]

    def check(self) -> None:
        """Raises InputError for what is mistyped, without what a run needs beside its configuration."""
        if not self.sweeps or self.jobs is None:
            _ = self.config
        self._check_folder()
        hydra = self._composed.hydra
        if hydra.launcher.get("n_jobs") == 0:
            fix = "give 1 or more, or -1 for one on each core"
            raise InputError("is 0", field="hydra.launcher.n_jobs", fix=fix)
        if not (isinstance(hydra.verbose, bool | str) or OmegaConf.is_list(hydra.verbose)):
            fix = "write true, or the names of loggers"
            raise InputError(f"is {hydra.verbose!r}", field="hydra.verbose", fix=fix)
        if hydra.job.chdir:
            problem = "would move the folder that results= and all files are named from"
            fix = "leave it out; hydra.run.dir and hydra.sweep.dir say where Hydra's own files lie"
            raise InputError(problem, field="hydra.job.chdir", fix=fix)

    @cached_property
    def folder(self) -> Path:
        """Where Hydra's own files lie. Raises InputError for a name that refers to nothing."""
        with one_line(self.kind):
            return Path(str(OmegaConf.select(self._composed, self.folder_key)))

    def _check_folder(self) -> None:
        """Raises InputError where none can be made."""
        there = next(place for place in (self.folder, *self.folder.parents) if place.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise self._unwritable(f"{there} is {'not yours' if there.is_dir() else 'a file'}", self.folder)

    def _unwritable(self, why: str, path: Path | str) -> InputError:
        fix = f"choose a writable folder with results= or {self.folder_key}="
        return InputError(f"cannot be written ({why})", path=path, fix=fix)

    @property
    def folder_key(self) -> str:
        return "hydra.sweep.dir" if self.sweeps else "hydra.run.dir"

    def run(self, task: TaskFunction) -> Any:
        """Run one job in this process; what it returns. Raises what it raises."""
        config = deepcopy(self._composed)
        with open_dict(config):
            config.hydra.mode = RunMode.RUN
        with one_line(self.kind):
            callbacks = Callbacks(config)
        callbacks.on_run_start(config=config, config_name=self._name)
        try:
            done = run_job(task, config, "hydra.run.dir", None, self._context(callbacks))
        except (HydraException, OmegaConfBaseException, ValueError) as error:  # of Hydra around the job
            raise as_input_error(error, self.kind) from None
        except OSError as error:  # a job's own is in what it returned
            why = error.strerror or str(error)
            raise self._unwritable(why, error.filename or self.folder) from None
        callbacks.on_run_end(config=config, config_name=self._name, job_return=done)
        if isinstance(done._return_value, Exception):  # `return_value` would say so in a line of its own
            raise done._return_value
        return done.return_value

    def sweep(self, task: TaskFunction) -> None:
        """Run the sweep as `Hydra.multirun` does. Raises what the first failed job raised."""
        config = self._composed
        callbacks = Callbacks(config)
        callbacks.on_multirun_start(config=config, config_name=self._name)
        sweeper = self._sweeper(task, callbacks)
        if self.jobs is not None:
            sweeper.validate_batch_is_legal = lambda batch: None  # they have been composed
        sweeper.sweep(arguments=self._typed())
        callbacks.on_multirun_end(config=config, config_name=self._name)

    def _is_a_sweep_by_itself(self) -> bool:
        """Whether the configuration says so, an experiment of one's own say."""
        self.sweeps = False
        try:
            return bool(self._composed.hydra.mode == RunMode.MULTIRUN and self.__dict__.pop("_composed"))
        except InputError as error:
            if not re.search(OF_SEVERAL, str(error)):
                self._fault = error
                return False
        return bool(self._hydra.get_mode(self._name, list(self.overrides)) == RunMode.MULTIRUN)

    @cached_property
    def _composed(self) -> DictConfig:
        """With Hydra's own part; of a sweep without what it sweeps."""
        if self._fault is not None:
            raise self._fault
        mode = RunMode.MULTIRUN if self.sweeps else RunMode.RUN
        overrides = [*self.overrides, "hydra.mode=MULTIRUN"] if self.sweeps else self.overrides
        with one_line(self.kind):
            config = self._hydra.compose_config(self._name, list(overrides), mode)
            params = config.hydra.sweeper.get("params") if self.sweeps else None
            if params and config.hydra.sweeper["_target_"] == BASIC_SWEEPER:
                swept = told(self.kind, [f"{key}={value}" for key, value in params.items()], sweep=True)
                with read_write(config.hydra):
                    config.hydra.sweeper.params = dict(one.split("=", 1) for one in swept)
        return config

    def _context(self, callbacks: Callbacks) -> HydraContext:
        return HydraContext(config_loader=self._hydra.config_loader, callbacks=callbacks)

    def _sweeper(self, task: TaskFunction, callbacks: Callbacks | None = None) -> Any:
        config = self._composed
        context = self._context(callbacks or Callbacks(config))
        try:
            return Plugins.instance().instantiate_sweeper(
                config=config, hydra_context=context, task_function=task
            )
        except (ImportError, RuntimeError) as error:  # of a plugin
            fix = f"look at hydra/sweeper= and {LAUNCHER}=, and at what they need installed"
            raise InputError(" ".join(str(error).split()), field="hydra", fix=fix) from None

    def _typed(self) -> list[str]:
        """What was typed, without Hydra's own keys."""
        found = OmegaConf.to_container(self._composed.hydra.overrides.task, resolve=False)
        assert isinstance(found, list)
        return found

    def _job(self, overrides: Sequence[str]) -> Job[Kind]:
        with one_line(self.kind):
            config = self._hydra.config_loader.load_sweep_config(self._composed, list(overrides))
        ours, jobs = (c.hydra.runtime.choices.get(LAUNCHER) for c in (self._composed, config))
        if ours != jobs:
            problem = (
                f"a swept value asks for {LAUNCHER}={jobs}, and the launcher is chosen before the jobs are"
            )
            raise InputError(problem, field=LAUNCHER, fix=f"give {LAUNCHER}={jobs} on the command line")
        return Job(tuple(overrides), checked(self.kind, _without_hydra(config)))


@contextmanager
def hydra_application(kind: type[Kind], arguments: Sequence[str]) -> Iterator[Application[Kind]]:
    """The command line of a Hydra application; afterwards Hydra's and logging's state are as they were.

    Raises InputError, one line, for a flag or a key that does not fit.
    """
    flags = _flags(arguments)
    setbase("1.3")
    ray_launcher.register()
    store(SCHEMA, kind)
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with _own_logging():
            with one_line(kind):
                application = Application(kind, flags, _hydra(flags))
            yield application
    finally:
        GlobalHydra.instance().hydra = before


def _hydra(flags: argparse.Namespace) -> Hydra:
    path = create_config_search_path(_folder(flags.config_path) if flags.config_path else "pkg://conf")
    if flags.config_dir is not None:
        place = _folder(flags.config_dir)
        _check_own_files(Path(flags.config_dir))
        path.prepend(provider="command-line", path=place, anchor=SearchPathQuery(provider="schema"))
    return Hydra.create_main_hydra2("run", path)


def _folder(name: str) -> str:
    if not os.path.isdir(name):
        raise InputError("no such folder", path=name, fix="name a folder with experiment/, model/ or data/")
    return f"file://{os.path.abspath(name)}"


def _check_own_files(folder: Path) -> None:
    """Raises InputError for an option that the project has too: its own would be taken, without a word."""
    for ours in sorted(path for group in GROUPS for path in (CONF / group).glob("*.yaml")):
        theirs = folder / ours.relative_to(CONF)
        if theirs.is_file() and theirs.read_bytes() != ours.read_bytes():
            problem = f"rbrbench has {ours.parent.name}={ours.stem} too, and would take its own"
            raise InputError(problem, path=theirs, fix="give the file another name")


def _parser() -> argparse.ArgumentParser:
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise InputError(message, fix="--help lists Hydra's flags, and the keys, written KEY=VALUE")

    parser.error = refuse  # type: ignore[method-assign]
    return parser


def _flags(arguments: Sequence[str]) -> argparse.Namespace:
    """Hydra's own flags, and the overrides that stand anywhere between them."""
    flags = _parser().parse_intermixed_args(list(arguments))
    if flags.experimental_rerun:
        fix = "give the overrides of its .hydra/overrides.yaml"
        raise InputError("a job's pickle is not read", field="--experimental-rerun", fix=fix)
    asked = [flags.run, flags.multirun, flags.cfg, flags.info]
    if sum(map(bool, asked)) > 1:
        raise InputError("only one of --run, --multirun, --cfg and --info goes", fix="name one")
    if flags.resolve and not flags.cfg:
        raise InputError("shows nothing by itself", field="--resolve", fix="give --cfg job too")
    return flags


def _check_package(config: DictConfig, package: str | None, part: str) -> None:
    if package is None or package == "_global_":
        return
    if OmegaConf.select(config, package) is None:
        raise InputError("no such key", field=package, fix="--help lists every key")
    other = "hydra" if package.partition(".")[0] == "hydra" else "job"
    if part not in ("all", other):
        raise InputError(f"is no part of what --cfg {part} shows", field=package, fix=f"give --cfg {other}")


def _without_hydra(config: DictConfig) -> DictConfig:
    with read_write(config), open_dict(config):
        del config["hydra"]
    return config


@contextmanager
def _own_logging() -> Iterator[None]:
    """Hydra configures logging for the whole process; a program that calls us keeps its own.

    Python closes every handler there is before it configures, and some close what they write to: absl's, which lm-eval
    brings along, closes the standard error that it was made with where that has been replaced since.
    """
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    theirs, names = logging._handlerList[:], dict(logging._handlers)  # type: ignore[attr-defined]
    logging._handlerList.clear()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        logging._handlerList[:0] = theirs  # type: ignore[attr-defined]
        logging._handlers.update(names)  # type: ignore[attr-defined]
        for handler in [handler for handler in root.handlers if handler not in handlers]:
            root.removeHandler(handler)
            with suppress(OSError, ValueError):
                handler.close()
        for handler in handlers:
            if handler not in root.handlers:
                root.addHandler(handler)
        root.setLevel(level)
