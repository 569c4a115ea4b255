"""What tests/harness/test_machines.py starts: another process of a run (`follow`), and workers (a file's path)."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from evals.values.errors import InputError
from evals.values.json_text import read_json_object
from harness.runtime import channel, machines
from harness.runtime.launch import end_with_parent, tell, telling_failures
from harness.runtime.place import Place


def work(path: str) -> None:
    values, rank = read_json_object(Path(path)), int(os.environ["RANK"])
    end_with_parent(0.2)
    with telling_failures():
        what = values["what"][rank]
        if what == "fail":
            raise InputError("is 7", field="ppo.updates", fix="give less")
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        tell("say", [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")])
        Path(values["folder"], f"{rank}").write_text(str(os.getpid()))
        if what == "wait":
            time.sleep(300)
        if what == "stop":
            raise SystemExit(143)


def follow(results: str, silence: str) -> int:
    channel.SILENCE, channel.BEAT, machines.MEETING = float(silence), 0.1, 20.0
    try:
        return machines.follow(Place(1, 2, 0, 1, "127.0.0.1", "meeting"), Path(results))
    except InputError as error:
        print(error, flush=True)
        return 2


if __name__ == "__main__":
    sys.exit(follow(*sys.argv[2:]) if sys.argv[1] == "follow" else work(sys.argv[1]))
