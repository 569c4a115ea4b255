"""What stands around a command: streams that may be closed or full, interrupts, and what no part of ours foresaw.

Whatever ends a command is one line on standard error and an exit code; 1 is a gate's word and nothing else's.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import traceback
from types import FrameType

SPIN = "10000"  # rounds; libgomp's own number is 300 000
BAD_INPUT = 2
FAULT = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130
AFTER_INTERRUPT = "interrupted; finished stages are kept, the same command goes on from there"


def stand_in_for_closed_streams() -> None:
    """Closed streams swallow what is printed; a terminal that lacks a character shows a question mark."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def end_at_interrupt_of_an_import() -> None:
    """Ctrl-C while a module is loaded ends the process at once: libraries try imports, and swallow what comes out.

    Nothing is lost: whatever is written is written whole.
    """
    if (
        signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):  # a program's own, or in the background
        return
    if threading.current_thread() is not threading.main_thread():
        return

    def handler(number: int, frame: FrameType | None) -> None:
        here = frame
        while here is not None:
            if here.f_code.co_filename.startswith("<frozen importlib"):
                say(AFTER_INTERRUPT)
                os._exit(INTERRUPTED)
            here = here.f_back
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, handler)


def spare_other_programs() -> None:
    """OpenMP's threads wait by spinning, and on cores that others use they spin for one another: beside two busy
    threads a stage fell to a fifth of its speed. They spin for less, where the user has not said for how long; to be
    called before torch is imported. Measured by benchmarks/beside_other_work.py.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN)


def answer(error: BaseException) -> int:
    """The line and the exit code of what ended a command."""
    from evals.values.errors import OUT_OF_MEMORY, InputError, UndecidableError, is_out_of_memory

    if isinstance(error, InputError | UndecidableError):
        return say(str(error), error.exit_code)
    if isinstance(code := getattr(error, "exit_code", None), int):  # of a sweep's job, in its own words
        return say(str(error), code)
    if isinstance(error, BrokenPipeError):  # whoever read our output, `head` say, has had enough
        _discard(sys.stdout.fileno())
        return 0
    if isinstance(error, KeyboardInterrupt):
        return say(AFTER_INTERRUPT, INTERRUPTED)
    if is_out_of_memory(error):
        return say(f"{OUT_OF_MEMORY}; {_details(error)}", BAD_INPUT)
    if isinstance(error, OSError):
        return say(_of_the_system(error), BAD_INPUT)
    what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return say(f"a fault of rbrbench's own ({what}); {_details(error)}", FAULT)


def say(line: str, code: int = 0) -> int:
    """One line on standard error, where that takes it; returns `code`."""
    from evals.values.errors import visible

    try:
        print(f"rbrbench: {visible(line)}", file=sys.stderr, flush=True)
    except OSError:  # nobody listens, or no room to say it: the exit code says it
        _discard(sys.stderr.fileno())
    return code


def _discard(descriptor: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def _of_the_system(error: OSError) -> str:
    """What, of which file, and what to do where that is known."""
    try:
        os.getcwd()
    except OSError:
        return "the working folder is gone; change to a folder that exists"
    place = f"{error.filename}: " if error.filename else ""
    what = error.strerror or f"{type(error).__name__}: {error}"
    return f"{place}{what}; {_details(error)}"


def _details(error: BaseException) -> str:
    """Writes the trace to a file and says where, or shows it where no file can be made."""
    trace = "".join(traceback.format_exception(error))
    try:
        descriptor, path = tempfile.mkstemp(prefix="rbrbench-", suffix=".log")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(trace)
    except OSError:
        return f"no folder takes the details: {' | '.join(trace.splitlines())}"
    return f"the details stand in {path}"
