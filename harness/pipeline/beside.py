"""Stages at once: further processes of a run compute, into the same store, stages that nobody is at.

Each goes through the same order of stages as the run (`harness.pipeline.order`), and ends when all of them are there.
What one of them fails at, the run comes to itself, and says what is wrong: a process beside is never needed.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from evals.rules.rulebook import load_rulebook
from evals.values.json_text import read_json_object
from harness.keys.run import RunConfig
from harness.pipeline.context import Context
from harness.pipeline.order import run_stages
from harness.pipeline.worker import ENTRY, read_config, written
from harness.runtime.console import Console
from harness.runtime.launch import end_with_parent, ended, message_of, surroundings, tell
from harness.runtime.libraries import quiet_libraries
from harness.storage.disk import write_json
from harness.storage.store import Store

PROGRESS = "progress"


@contextmanager
def processes_beside(config: RunConfig, store: Store, console: Console) -> Iterator[None]:
    """Inside, `config.at_once` - 1 further processes are at the stages; none is left behind."""
    if config.at_once == 1:
        yield
        return
    with TemporaryDirectory() as folder, ExitStack() as stack:
        place = Path(folder) / "run.json"
        write_json(place, {"config": written(config), "store": str(store.root.absolute())})
        for _ in range(config.at_once - 1):
            process = subprocess.Popen(
                [sys.executable, "-m", ENTRY, str(place), "stages"],
                env=surroundings(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            stack.enter_context(ended(process))
            store.beside.add(process.pid)
            assert process.stdout is not None
            threading.Thread(
                target=_pass_on, args=(process.stdout, console.tell_progress), daemon=True
            ).start()
        yield


def _pass_on(lines: IO[str], hears: Callable[[str], None]) -> None:
    for line in lines:
        told = message_of(line)
        if told is not None and told[0] == PROGRESS:
            hears(told[1])


def main(path: str) -> None:
    """One of the processes, of the run that the file at `path` says."""
    end_with_parent()
    given = read_json_object(Path(path))
    config = read_config(given["config"])
    quiet_libraries(config.threads)
    rulebook = load_rulebook(config.rulebook_path)
    run_stages(Context(config, Store(given["store"]), _Telling(live=False), rulebook))


class _Telling(Console):
    """Tells the run how far a stage is. All else the run says itself, when it comes to what is made here."""

    def tell_progress(self, line: str) -> None:
        tell(PROGRESS, line)

    def say(self, text: str) -> None:
        pass
