"""A run whose processes somebody else has started, on one machine or on several.

`accelerate launch` with a configuration of several machines, `torchrun` and `srun` each start the same
`rbrbench run ...` once a process. The first one runs every stage, and keeps the store and the records. The others wait
for trainings: then each of them, the first too, starts a worker of its own, and the workers train together.

They meet by a file in the folder of results, which all machines have to share: it says where the first one listens,
and the secret by which it knows the others. One that gives no sign of life (`harness.runtime.channel`), or whose
connection breaks, ends all.
"""

from __future__ import annotations

import json
import queue
import secrets
import socket
import sys
import tempfile
import threading
import time
from _thread import interrupt_main
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

from evals.values.errors import InputError, UndecidableError
from evals.values.json_text import read_json_object
from harness.runtime.channel import Channel
from harness.runtime.launch import AFTER_KILL, PATIENCE, Started, Told, failure_of, run_program, surroundings
from harness.runtime.place import Place, started_place
from harness.storage.disk import write_json, writing

MEETING = 600.0  # seconds that processes wait for each other at the start

_group: list[First] = []


def current_group() -> First | None:
    """The processes that trainings of this run are shared with; None: this one is alone."""
    return _group[0] if _group else None


def _card(place: Place, results: Path) -> Path:
    return results / f".meeting-{place.meeting}.json"


def _work(place: Place, about: dict[str, Any], told: Told, started: Started) -> None:
    """One worker of a training, as `about` says. Raises what `run_program` does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "training.json"
        write_json(path, about["values"])
        environment = surroundings() | about["launch"] | place.variables(about["address"], about["port"])
        command = [sys.executable, "-m", about["module"], str(path)]
        run_program(command, environment, told, f"process {place.rank}, of {place.count} processes", started)


# --- the first process ---------------------------------------------------------------------------


@dataclass
class First:
    """The first process of a run, and what it knows of the others."""

    place: Place
    results: Path
    told: Told = lambda kind, value: None
    channels: dict[int, Channel] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    problem: BaseException | None = None  # the first that ended, or has to end, all
    worker: Popen[str] | None = None
    training: bool = False
    ended: bool = False

    def __post_init__(self) -> None:
        self._news = threading.Condition()
        self._secret = secrets.token_hex(16)
        self._server = socket.create_server(("", 0))
        self.address = self.place.address or socket.gethostname()
        with writing(self.results):
            self.results.mkdir(parents=True, exist_ok=True)
            card = _card(self.place, self.results)
            card.unlink(missing_ok=True)
            card.touch(0o600)
            at = {"address": self.address, "port": self._server.getsockname()[1], "secret": self._secret}
            card.write_text(json.dumps(at), encoding="utf-8")
        threading.Thread(target=self._let_in, daemon=True).start()

    def train(self, module: str, values: dict[str, Any], launch: dict[str, str], told: Told) -> None:
        """`python -m module FILE`, FILE being `values`, in every process. Raises what the first that failed met."""
        self._meet()
        with socket.create_server(("", 0)) as free:
            port = free.getsockname()[1]
        about = {"module": module, "values": values, "launch": launch, "address": self.address, "port": port}
        self.done, self.told, self.training = set(), told, True
        for channel in self.channels.values():
            channel.send("train", about)
        try:
            _work(self.place, about, told, self._have)
            with self._news:
                self._news.wait_for(lambda: self.problem or len(self.done) == self.place.count - 1, PATIENCE)
                if self.problem is None and len(self.done) < self.place.count - 1:
                    self.problem = self._lost(min(set(self.channels) - self.done))
        except BaseException as error:
            self.problem = self.problem or error
        finally:
            self.worker, self.training = None, False
        if self.problem is not None:
            raise self.problem

    def close(self) -> None:
        """Let the others go; whoever still works is ended."""
        self.ended = True
        _card(self.place, self.results).unlink(missing_ok=True)
        for channel in self.channels.values():
            channel.send("end", None)
        for channel in self.channels.values():
            channel.close()
        self._server.close()

    def _meet(self) -> None:
        with self._news:
            everybody = set(range(1, self.place.count))
            self._news.wait_for(lambda: self.problem or self.channels.keys() >= everybody, MEETING)
            missing = sorted(everybody - self.channels.keys())
            if self.problem is None and missing:
                problem = f"of {self.place.count} processes {missing} have not come within {MEETING:.0f} s"
                fix = "start the same command on every machine, with results= in a folder that all share"
                self.problem = InputError(problem, fix=fix)
            if self.problem is not None:
                raise self.problem

    def _let_in(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._listen, args=(Channel(connection),), daemon=True).start()

    def _listen(self, channel: Channel) -> None:
        hello = channel.hear()
        known = hello is not None and isinstance(hello[1], dict) and hello[0] == "hello"
        if not known or not secrets.compare_digest(str(hello[1].get("secret")), self._secret):  # type: ignore[index]
            channel.close()
            return
        rank, host = int(hello[1]["rank"]), str(hello[1]["host"])  # type: ignore[index]
        channel.beat()
        with self._news:
            self.channels[rank] = channel
            self._news.notify_all()
        while (message := channel.hear()) is not None:
            self._take(rank, *message)
        if not self.ended:
            self._fail(self._lost(rank, f" on {host}"))

    def _take(self, rank: int, kind: str, value: Any) -> None:
        if kind == "failure":
            self._fail(failure_of(**value))
        elif kind == "done":
            with self._news:
                self.done.add(rank)
                self._news.notify_all()
        else:
            self.told(kind, value)

    def _lost(self, rank: int, where: str = "") -> InputError:
        return InputError(f"process {rank}{where} is lost, of {self.place.count} processes", fix=AFTER_KILL)

    def _have(self, worker: Popen[str]) -> None:
        self.worker = worker
        if self.problem is not None:
            worker.kill()

    def _fail(self, problem: BaseException) -> None:
        with self._news:
            if self.problem is not None:
                return
            self.problem = problem
            worker, training = self.worker, self.training
            self._news.notify_all()
        if worker is not None:
            worker.kill()  # it may wait for one that is lost
        elif not training:
            interrupt_main()  # a stage: its result would be kept, but nothing could be trained from it


@contextmanager
def first_of(place: Place, results: Path) -> Iterator[None]:
    """The first process of a run; the others are let go afterwards. Raises what ended one of them."""
    group = First(place, results)
    _group.append(group)
    try:
        yield
    except KeyboardInterrupt:
        if group.problem is not None:
            raise group.problem from None
        raise
    finally:
        _group.clear()
        group.close()


# --- the others ----------------------------------------------------------------------------------


def follow(place: Place, results: Path) -> int:
    """Be another process of a run than the first: train when that says so, until it lets this one go.

    Raises InputError where the first one does not come, or is lost.
    """
    channel = _join(place, results)
    channel.beat()
    messages: queue.Queue[tuple[str, Any] | None] = queue.Queue()
    gone, workers = threading.Event(), list[Popen[str]]()

    def listen() -> None:
        while (message := channel.hear()) is not None and message[0] != "end":
            messages.put(message)
        messages.put(message)
        gone.set()
        for worker in workers:
            worker.kill()

    def have(worker: Popen[str]) -> None:
        workers[:] = [worker]
        if gone.is_set():
            worker.kill()

    threading.Thread(target=listen, daemon=True).start()
    try:
        while (message := messages.get()) is not None:
            if message[0] == "end":
                return 0
            _train_along(place, channel, message[1], have)
    finally:
        channel.close()
    raise InputError(f"process 0, of {place.count} processes, is lost", fix=AFTER_KILL)


def _train_along(place: Place, channel: Channel, about: dict[str, Any], have: Started) -> None:
    try:
        _work(place, about, channel.send, have)
        channel.send("done", None)
    except SystemExit:
        channel.send("done", None)  # all were stopped, and saved together
    except (InputError, UndecidableError) as error:
        channel.send("failure", {"code": error.exit_code, "text": str(error)})
    except RuntimeError as error:
        channel.send("failure", {"code": 1, "text": str(error)})


def _join(place: Place, results: Path) -> Channel:
    end = time.monotonic() + MEETING
    while time.monotonic() < end:
        with suppress(OSError, InputError, KeyError):
            at = read_json_object(_card(place, results))
            channel = Channel.to(at["address"], at["port"])
            channel.send("hello", {"secret": at["secret"], "rank": place.rank, "host": socket.gethostname()})
            return channel
        time.sleep(0.5)
    problem = f"the first of {place.count} processes has not come within {MEETING:.0f} s"
    raise InputError(problem, path=results, fix="start it, with results= in a folder that all machines share")


def in_its_place(processes: int, results: str, run: Callable[[], int]) -> int:
    """`run()` in the first process that a launcher started, with the others beside it; what the others do in them.

    Raises InputError where the launcher started another number than `processes`.
    """
    place = started_place()
    if place is None:
        return run()
    if processes != place.count:
        problem = f"is {processes}, and {place.count} processes were started"
        raise InputError(problem, field="processes", fix=f"say processes={place.count}")
    if place.rank:
        return follow(place, Path(results))
    with first_of(place, Path(results)):
        return run()
