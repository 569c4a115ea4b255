"""`rbrbench run [-m] [key=value ...]`: the main job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.pipeline.run import Ran
    from harness.runtime.console import Console

SUMMARY = """\
  run [-m]          the main job: train RBR-PPO, Human-PPO and Helpful-PPO, measure them, write the report
                      rbrbench run experiment=demo            two cores, minutes
                      rbrbench run -m seed=0,1,2              a sweep, one comparison over its seeds
                      rbrbench run experiment=real_cpu data.root=FOLDER"""


def usage() -> str:
    from harness.keys.help import keys_help

    return keys_help()


def main(arguments: Sequence[str]) -> int:
    """Run, and draw the report where anything was computed since the last one.

    Of several processes that a launcher started the first does; the others train along.
    """
    from harness.commands.completion import FLAGS, complete

    if {*FLAGS} & {*arguments}:
        return complete(arguments)
    from harness.keys.compose import refuse_unknown_keys
    from harness.keys.run import RunConfig

    refuse_unknown_keys(RunConfig, arguments)  # before Hydra is loaded
    from harness.keys.application import hydra_application

    with hydra_application(RunConfig, arguments) as application:
        if application.show():
            return 0
        application.check()  # what is mistyped is told before torch is loaded
        from harness.runtime.place import started_place

        def run() -> int:
            from harness.pipeline.run import run_application
            from harness.pipeline.sweep import run_sweep
            from harness.runtime.console import Console

            console = Console()
            compute = run_sweep if application.sweeps else run_application
            return _drawn(compute(application, console), console)

        if started_place() is None:
            return run()
        from harness.runtime.machines import in_its_place

        return in_its_place(application.config.processes, application.config.results, run)


def _drawn(ran: Ran, console: Console) -> int:
    from harness.pipeline.run import STAMP, is_drawn, publishing
    from harness.report.exports.trained import hand_out
    from harness.report.of_run import write_report
    from harness.storage.disk import writing

    report = ran.folder / "report.html"
    if not ran.fresh:
        with publishing(ran.folder):
            if not is_drawn(ran.folder, ran.made_of):
                with console.stage("plots and report", total=None, unit="files"):
                    report = write_report(ran.folder)
                    hand_out(ran.folder)
                with writing(ran.folder):
                    (ran.folder / STAMP).write_text(ran.made_of, encoding="utf-8")
    console.report(report)
    if ran.said:
        console.say(ran.said)
    return ran.code
