"""`hydra/launcher=ray`: the jobs of a sweep on a Ray cluster, one that is there or one that is started here.

Hydra's own launcher for Ray pins a cloudpickle that joblib refuses; this one takes Ray as it is.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from evals.values.errors import InputError

PLUGIN = "hydra_plugins.rbrbench"  # Hydra takes launchers of its plugins' package alone
RESOURCES = {"num_cpus": "CPU", "num_gpus": "GPU", "memory_gb": "memory"}  # keys, and Ray's names
INTERVAL = 5.0  # seconds between two questions to the cluster's head
PATIENCE = 30.0  # seconds without an answer, after which it is gone
# Ray ends a process, by itself and with exit code 1, that has waited so many seconds for its head: 60 where nothing is
# said. What the jobs made is drawn first.
RAYS_PATIENCE = ("RAY_gcs_rpc_server_reconnect_timeout_s", "3600")
log = logging.getLogger(__name__)


@dataclass
class RayConfig:
    """The keys of `hydra.launcher`."""

    _target_: str = "hydra_plugins.rbrbench.RayLauncher"
    address: str | None = None  # of a cluster, auto: the one of this machine; null: one is started here
    num_cpus: float = 1  # of each job
    num_gpus: float = 0  # of each job, whose CUDA_VISIBLE_DEVICES Ray sets
    memory_gb: float | None = None  # of each job
    init: dict[str, Any] = field(default_factory=dict)  # further arguments of ray.init


class RayLauncher(Launcher):
    """See RayConfig for the arguments. Nodes need this package, the working folder and the folder of results."""

    __module__ = PLUGIN

    def __init__(
        self, address: str | None, num_cpus: float, num_gpus: float, memory_gb: float | None, init: Any
    ):
        self._asked = {"num_cpus": num_cpus, "num_gpus": num_gpus, "memory_gb": memory_gb or 0}
        # Without an address Ray would take any cluster that it finds on this machine.
        self._init: dict[str, Any] = {"address": address or "local", "ignore_reinit_error": True}
        self._init |= {str(key): value for key, value in init.items()}
        self._setup: tuple[HydraContext, TaskFunction, DictConfig] | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._setup = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Every job's return; of one that the cluster lost, a failure: the others go on.

        Raises InputError where the cluster's head is gone, and all its jobs with it.
        """
        os.environ.setdefault(*RAYS_PATIENCE)
        try:
            import ray
        except ImportError:
            fix = "pip install 'rbrbench[ray]'"
            raise InputError("Ray is not installed", field="hydra/launcher", fix=fix) from None
        assert self._setup is not None
        setup_globals()
        _, _, config = self._setup
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)
        Path(str(config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        _connect(ray, self._init)
        head = _Head(ray)
        try:
            self._check_own(head)
            remote = ray.remote(**self._of_a_job())(_job)
            state, place, jobs = Singleton.get_state(), os.getcwd(), []
            for number, overrides in enumerate(job_overrides, initial_job_idx):
                log.info("\t#%s : %s", number, " ".join(filter_overrides(overrides)))
                jobs.append(remote.remote(self._setup, list(overrides), number, state, place))
            self._wait(ray, head, jobs)
            ended = time.monotonic()
            return [_returned(ray, job, partial(head.check_since, ended)) for job in jobs]
        finally:
            head.close()
            ray.shutdown()

    def _of_a_job(self) -> dict[str, Any]:
        """As `ray.remote` takes it."""
        cpus, gpus, memory_gb = (self._asked[key] for key in RESOURCES)
        memory = {"memory": int(memory_gb * 2**30)} if memory_gb else {}
        return {"num_cpus": cpus, "num_gpus": gpus, "max_retries": 0, **memory}

    def _check_own(self, head: _Head) -> None:
        """Raises InputError where the Ray that was started here, which no node joins, has no room for a job."""
        if self._init["address"] == "local" and (lack := unmet(self._asked, head.nodes)):
            fix = "lower it, or name a cluster that has it: hydra.launcher.address=ADDRESS"
            raise InputError(f"{lack}, in the Ray that is started here", field="hydra/launcher", fix=fix)

    def _wait(self, ray: Any, head: _Head, jobs: list[Any]) -> None:
        """Until every job has ended; what they wait for that the cluster has not, or no longer has, is told."""
        told = ""
        while jobs:
            head.check()
            lack = unmet(self._asked, head.nodes)
            if lack and lack != told:
                log.warning("%s; jobs wait until one joins the cluster that has it", lack)
            told = lack
            _, jobs = ray.wait(jobs, timeout=INTERVAL)


class _Head:
    """The head of a cluster, and the `nodes` that it last told of.

    A thread asks it, since a question to a head that is gone never comes back.
    """

    def __init__(self, ray: Any) -> None:
        self._ray, self.nodes, self._answered = ray, _nodes(ray), time.monotonic()
        self._place = ray.get_runtime_context().gcs_address
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        while not self._closed.wait(INTERVAL):
            with suppress(Exception):
                self.nodes = _nodes(self._ray)
                self._answered = time.monotonic()

    def check(self) -> None:
        """Raises InputError where it is gone."""
        if (silent := time.monotonic() - self._answered) > PATIENCE:
            problem = f"the head of the Ray cluster, {self._place}, has not answered for {silent:.0f} s"
            fix = "look at `ray status` and Ray's logs, and give the same command on a head that runs"
            raise InputError(problem, fix=f"{fix}: it computes what is missing")

    def check_since(self, moment: float) -> None:
        """By an answer that is later than a moment of `time.monotonic`."""
        while self._answered < moment:
            self.check()
            time.sleep(0.2)

    def close(self) -> None:
        """Ask no more, before Ray is left: it would begin anew."""
        self._closed.set()
        self._thread.join(INTERVAL)


def unmet(asked: Mapping[str, float], nodes: Sequence[Mapping[str, float]]) -> str:
    """What a job asks for that no node has, in words; empty where some node has all of it.

    Args:
        asked: by key of `hydra.launcher`.
        nodes: what each has when nothing runs there, by Ray's names, memory in bytes.
    """
    wanted = {key: amount for key, amount in asked.items() if amount}
    units = {key: 2**30 if key == "memory_gb" else 1 for key in wanted}
    have = [{key: node.get(RESOURCES[key], 0) / units[key] for key in wanted} for node in nodes]
    if not wanted or any(all(node[key] >= amount for key, amount in wanted.items()) for node in have):
        return ""
    most = {key: max((node[key] for node in have), default=0) for key in wanted}
    lacking = [
        f"hydra.launcher.{key} is {amount:g}, and no node has more than {most[key]:.4g}"
        for key, amount in wanted.items()
        if most[key] < amount
    ]
    together = " and ".join(f"hydra.launcher.{key}={amount:g}" for key, amount in wanted.items())
    return "; ".join(lacking) or f"no node has {together} together"


def _nodes(ray: Any) -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _connect(ray: Any, arguments: Mapping[str, Any]) -> None:
    """Raises InputError where no cluster lets this process in; else what Ray raises.

    One that wants Ray's token is silent to whoever has none, or says so, by Ray's version.
    """
    try:
        ray.init(**arguments)
    except Exception as error:
        if isinstance(error, ConnectionError) or "AuthenticationError" in _kinds(error):
            problem = "no Ray lets this process in there: none runs, or it wants another token"
            fix = (
                "start one, or set RAY_AUTH_MODE=token, and its token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
            )
            raise InputError(problem, field="hydra.launcher.address", fix=fix) from None
        raise


def _kinds(error: BaseException | None) -> list[str]:
    """Of an error and what caused it."""
    return [] if error is None else [type(error).__name__, *_kinds(error.__cause__)]


def _returned(ray: Any, job: Any, check_head: Callable[[], None]) -> JobReturn:
    try:
        done: JobReturn = ray.get(job)
        return done
    except ray.exceptions.RayError as error:
        check_head()
        cause = getattr(error, "cause", None) or error  # of what Ray says in a page of trace
        said = " ".join(f"{type(cause).__name__}: {cause}".split())[:300]
        lost = JobReturn(status=JobStatus.FAILED)
        fix = "look at Ray's logs, and give the command again"
        lost.return_value = InputError(f"Ray lost a job ({said})", fix=fix)
        return lost


def _job(
    setup: tuple[HydraContext, TaskFunction, DictConfig],
    overrides: list[str],
    number: int,
    state: dict[Any, Any],
    place: str,
) -> JobReturn:
    """One job, in a process of Ray's."""
    context, task, config = setup
    os.chdir(place)
    setup_globals()
    Singleton.set_state(state)
    mine = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(mine):
        mine.hydra.job.id, mine.hydra.job.num = f"{mine.hydra.job.name}_{number}", number
    HydraConfig.instance().set_config(mine)
    return run_job(task, mine, "hydra.sweep.dir", "hydra.sweep.subdir", context)


def register() -> None:
    """Make it one of Hydra's launchers, where Ray is installed."""
    if find_spec("ray") is None:
        return
    package = PLUGIN.partition(".")[0]
    if package not in sys.modules and find_spec(package) is None:  # no other plugin is installed
        sys.modules.setdefault(package, ModuleType(package)).__path__ = []
    sys.modules[PLUGIN] = sys.modules[__name__]
    Plugins.instance().register(RayLauncher)
    ConfigStore.instance().store(group="hydra/launcher", name="ray", node=RayConfig, provider="rbrbench")
