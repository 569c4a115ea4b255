"""What a person sees while a run goes on: a bar for each stage, one line at its end, the report's path.

Bars (done, rate, time left) are drawn when standard error is a terminal. Elsewhere, in a log or in
CI, the same figures come as plain lines, one every `interval` seconds at most. A transformers Trainer
drives a bar through `trainers.supervised.progress.StepProgress(advance)`.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.segment import Segment
from rich.text import Text

from evals.values.errors import visible
from harness.storage.store import Artifact

log = logging.getLogger(__name__)
Advance = Callable[[int], None]


class Terminal(RichConsole):
    """rich's console, where no text of a name, a column, a question or a model acts on the terminal itself."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))

    def on_broken_pipe(self) -> None:
        """The command line ends quietly where nobody reads on; rich would end it with 1, a gate's no."""
        raise BrokenPipeError


class Console:
    """The run's progress on standard error, and its last line, the report's path, on standard output.

    Args:
        stream: another place than standard error.
        live: draw bars; by default, when the stream is a terminal.
        interval: seconds between two plain progress lines of one stage.
        clock: seconds, rising; for tests.
        prefix: begins each line, where several jobs write to one place.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        live: bool | None = None,
        interval: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
        prefix: str = "",
    ) -> None:
        terminal = (stream or sys.stderr).isatty()
        self._rich = Terminal(file=stream, stderr=stream is None)
        self._live = terminal and not self._rich.is_dumb_terminal if live is None else live
        self._interval = interval
        self._clock = clock
        self._prefix = prefix
        self._progress: Progress | None = None
        self._depth = 0

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "steps") -> Iterator[Advance]:
        """A bar for one stage: `with console.stage("pretrain", total=400) as advance: advance(1)`.

        `total` None means that the amount of work is not known. Stages may stand inside one another.
        """
        progress = self._begin()
        task = progress.add_task(name, total=total, unit=unit)
        last = self._clock()

        def advance(count: int = 1) -> None:
            nonlocal last
            progress.advance(task, count)
            if not self._live and self._clock() - last >= self._interval:
                last = self._clock()
                self.tell_progress(_plain_line(_task(progress, task)))

        try:
            yield advance
        finally:
            self._end(progress, task)

    def finished(self, name: str, artifact: Artifact, figure: str = "") -> None:
        """The line at a stage's end: name, computed or cached, what computing it took, the main figure."""
        how = "cached, saved" if artifact.cached else "computed in"
        cost = f"{duration(artifact.seconds):>12}  {artifact.peak_memory_mb:7,.0f} MB"
        self.say(f"{name:<28} {how:<13} {cost}  {figure}".rstrip())

    def tell_progress(self, line: str) -> None:
        """How far a stage is, where no bar shows it."""
        self.say(line)

    def say(self, text: str) -> None:
        """One plain line: nothing in it is read as markup, wrapped or coloured. A job's log has it too."""
        log.info("%s", text)
        self._rich.print(Text(f"{self._prefix}{text}"), soft_wrap=True, highlight=False)

    def report(self, path: Path | str) -> None:
        """The last line of a run."""
        print(f"Report: {path}", flush=True)

    def _begin(self) -> Progress:
        if self._progress is None:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                _Figures(),
            )
            self._progress = Progress(
                *columns, console=self._rich, transient=True, disable=not self._live, get_time=self._clock
            )
            self._progress.start()
        self._depth += 1
        return self._progress

    def _end(self, progress: Progress, task: TaskID) -> None:
        progress.remove_task(task)
        self._depth -= 1
        if self._depth == 0:
            progress.stop()
            self._progress = None


class _Figures(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(_figures(task), style="progress.remaining")


def _task(progress: Progress, number: TaskID) -> Task:
    return next(task for task in progress.tasks if task.id == number)


def _plain_line(task: Task) -> str:
    share = f"{task.percentage:3.0f} %  " if task.total else ""
    return f"{task.description}: {share}{_figures(task)}"


def _figures(task: Task) -> str:
    total = f"/{task.total:,.0f}" if task.total else ""
    parts = [f"{task.completed:,.0f}{total} {task.fields['unit']}"]
    if task.speed:
        parts.append(f"{task.speed:,.1f}/s")
    if task.time_remaining is not None and not task.finished:
        parts.append(f"{duration(task.time_remaining)} left")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`, `1 h 02 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
