"""Programs in several processes of one machine, and what they tell of themselves.

A process tells by lines of JSON on standard output (`tell`); everything else that it prints is kept, and
shown where it dies without a word.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from conf import CONF
from evals.values.errors import InputError, UndecidableError
from evals.values.json_text import parse_json
from evals.values.located_yaml import load_located_yaml
from harness.runtime.place import PARENT, is_placed
from harness.storage.digest import digest

MARK = "rbrbench-tells "
LAST_LINES = 30
AFTER_KILL = (
    "see what killed it (memory, a limit of the machine); the same command goes on from the last finished stage and "
    "from what PPO last saved"
)
PATIENCE = 60.0  # seconds that processes get to save and end

WHERE = ("machine_rank", "main_process_ip", "main_process_port", "rdzv_backend", "same_network")
STOPPED = 143  # the exit code after SIGTERM

Told = Callable[[str, Any], None]
Started = Callable[[subprocess.Popen[str]], None]


def launch_path(launch: str) -> Path:
    """The file of Accelerate's configuration given by path, or by its name in conf/accelerate."""
    packaged = CONF / "accelerate" / f"{launch}.yaml"
    return packaged if packaged.is_file() else Path(launch)


def read_launch(launch: str) -> dict[str, Any]:
    """Accelerate's configuration. Raises InputError for a file that is none.

    And for one of several machines, each of which has to start the run, where no launcher has.
    """
    path, line, problem = launch_path(launch), None, ""
    found: dict[str, Any] = {}
    try:
        found = load_located_yaml(path)
    except InputError as error:
        line, said = error.line, error.problem
        problem = (
            said if said.startswith("cannot be read") else f"cannot be read: {said}, no distributed_type"
        )
    if not problem and "distributed_type" not in found:
        problem = "is not a configuration of Accelerate: it has no distributed_type"
    elif found.get("num_machines", 1) != 1 and not is_placed():
        fix = f"on each: accelerate launch --config_file {path} --module rbrbench run ... (docs/cluster.md)"
        problem = f"asks for {found['num_machines']} machines, each of which has to start the run"
        raise InputError(problem, path=path, field="launch", fix=fix)
    if problem:
        names = ", ".join(sorted(p.stem for p in (CONF / "accelerate").glob("*.yaml")))
        fix = f"take one of {names}, or what `accelerate config` writes"
        raise InputError(problem, path=path, line=line, field="launch", fix=fix)
    return found


def launch_digest(launch: str) -> str:
    """Of what changes a result's last bits: not where the machines are, and which of them this is."""
    found = {key: value for key, value in read_launch(launch).items() if key not in WHERE}
    return digest(found | {"num_machines": 1})


def run_in_processes(module: str, arguments: Sequence[str], processes: int, launch: str, told: Told) -> None:
    """`python -m module arguments` in `processes` processes; `told(kind, value)` hears what they tell.

    Raises as `run_program` does.
    """
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(launch_path(launch))]
    command += ["--num_processes", str(processes), "--main_process_port", "0", "--module", module, *arguments]
    run_program(command, surroundings(), told, f"{module} in {processes} processes", of=processes)


def surroundings() -> dict[str, str]:
    """The environment of programs of ours: what this process imports they import too, and nothing that only lies in
    the folder where they start.
    """
    found = os.pathsep.join(str(Path(place).absolute()) for place in sys.path)
    return os.environ | {PARENT: str(os.getpid()), "PYTHONPATH": found, "PYTHONSAFEPATH": "1"}


def run_program(
    command: Sequence[str],
    environment: Mapping[str, str],
    told: Told,
    name: str,
    started: Started = lambda process: None,
    of: int = 1,
) -> None:
    """Run a program to its end; `told(kind, value)` hears what its processes tell, `started` has the first of them.

    Raises what the first process that failed met, InputError, UndecidableError or a RuntimeError with its
    trace; InputError when one was killed, RuntimeError when they died without a word; SystemExit(143) after SIGTERM.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
        )
        with ended(process), _passing_on(process) as stopped:
            started(process)
            assert process.stdout is not None
            failure, printed = _listen(process.stdout, told)
            code = process.wait()
        if stopped.is_set() or code == STOPPED:
            raise SystemExit(STOPPED)
        if failure is not None:
            raise failure
        if code:
            log.seek(0)
            lines = [*deque(log, LAST_LINES), *printed]
            if code < 0 and of == 1:
                raise InputError(f"{name}, was killed by {_signal(-code)}", fix=AFTER_KILL)
            if killed := _killed("".join(lines)):
                raise InputError(f"{killed}, of {of} processes", fix=AFTER_KILL)
            raise RuntimeError(f"{name} ended with {code}:\n{''.join(lines)}")


def _listen(lines: IO[str], told: Told) -> tuple[Exception | None, deque[str]]:
    """Pass on what is told; the first failure that was told, and the last other lines."""
    failure: Exception | None = None
    others: deque[str] = deque(maxlen=LAST_LINES)
    for line in lines:
        message = message_of(line)
        if message is None:
            others.append(line)
        elif message[0] != "failure":
            told(*message)
        elif failure is None:
            failure = failure_of(**message[1])
    return failure, others


def _killed(log: str) -> str:
    """Which process was killed and by what, by the elastic launcher's summary; else "". It ends the others itself."""
    found = re.findall(r"rank\s*:\s*(\d+)[^\n]*\n[^\n]*exitcode\s*:\s*-(\d+)", log)
    if not found:
        return ""
    rank, number = next((pair for pair in found if int(pair[1]) != signal.SIGTERM), found[0])
    return f"process {rank} was killed by {_signal(int(number))}"


def _signal(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def message_of(line: str) -> tuple[str, Any] | None:
    """What a line tells; None for a library's own, and for one that two processes have written into."""
    _, mark, message = line.partition(MARK)
    try:
        return tuple(parse_json(message)) if mark else None
    except ValueError:
        return None


def failure_of(code: int, text: str) -> Exception:
    """What a process told of its failure, as it met it there."""
    if code == UndecidableError.exit_code:
        return UndecidableError(text)
    if code == InputError.exit_code:
        problem, _, fix = text.rpartition("; ")
        return InputError(problem, fix=fix)
    return RuntimeError(f"in a process of the launch:\n{text}")


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """No process is left behind, however this one leaves."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _passing_on(process: subprocess.Popen[str]) -> Iterator[threading.Event]:
    """Inside, SIGTERM goes to `process`; set when it came. Elsewhere than in the main thread, nothing changes."""
    came = threading.Event()

    def pass_on(*_: object) -> None:
        came.set()
        process.terminate()

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)


# --- in the processes -------------------------------------------------------------------------


def tell(kind: str, value: Any) -> None:
    """Tell the process that launched this one."""
    sys.stdout.write(f"{MARK}{json.dumps([kind, value])}\n")
    sys.stdout.flush()


@contextmanager
def telling_failures() -> Iterator[None]:
    """What goes wrong is told: the line that a person can mend, or the trace."""
    try:
        yield
    except (InputError, UndecidableError) as error:
        tell("failure", {"code": error.exit_code, "text": str(error)})
        raise SystemExit(error.exit_code) from None
    except Exception:
        tell("failure", {"code": 1, "text": traceback.format_exc()})
        raise SystemExit(1) from None


def end_with_parent(interval: float = 1.0) -> None:
    """End this process when the one that launched it is gone: killed, it cannot say so."""
    parent = int(os.environ[PARENT])

    def watch() -> None:
        while _is_alive(parent):
            time.sleep(interval)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _is_alive(process: int) -> bool:
    """Whether it runs: one that nobody has waited for yet still has its number."""
    try:
        os.kill(process, 0)
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's, or no /proc here
        return True
    return status.rpartition(")")[2].split()[0] != "Z"
