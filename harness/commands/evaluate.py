"""`rbrbench evaluate [key=value ...]`: measure any model."""

from __future__ import annotations

from collections.abc import Sequence

SUMMARY = """\
  evaluate          safety, over-refusal and capability of any model, with intervals
                      rbrbench evaluate subject.path=FOLDER suites=[xstest] data.root=FOLDER
                      rbrbench evaluate server.url=URL server.model=NAME suites=[xstest] data.root=FOLDER
                      rbrbench evaluate responses=FILE suites=[xstest] data.root=FOLDER"""
USAGE = """\
usage: rbrbench evaluate SOURCE suites=[NAME,...] [key=value ...]

SOURCE is one of
  subject.path=FOLDER                   a Hugging Face folder or hub name
  server.url=URL server.model=NAME      an OpenAI-compatible server
  responses=FILE                        recorded responses, CSV or JSONL
  run=results/NAME:METHOD:SEED          a model that `rbrbench run` trained
  models.NAME.SOURCE ...                several, each under a name of its own

suites:  {suites}
  suites.NAME.path=FILE                 a suite's own file or folder; else data.root is searched
judges:  {judges}
  judges.NAME.KEY=VALUE                 a judge's settings; judges.NAME.kind=KIND gives a judge another name
A suite, a kind of judge, and a rulebook judge's grader (judges.NAME.grader) may be your own: package.module:attribute.

Exit codes: 0 done, 1 worse than the baseline or a requirement missed, 2 bad input, 3 too much is unscored, or a loss
cannot be ruled out, or a requirement cannot be told."""


def usage() -> str:
    from evals.judges import JUDGES
    from evals.suites import SUITES
    from harness.keys.evaluate import EvaluateConfig
    from harness.keys.help import command_help

    return command_help(USAGE.format(suites=", ".join(SUITES), judges=", ".join(JUDGES)), EvaluateConfig)


def main(arguments: Sequence[str]) -> int:
    """Of several processes that a launcher started each does its part, and the first writes the record."""
    from harness.keys.evaluate import compose_evaluate
    from harness.runtime.own_gpu import take_gpu
    from harness.runtime.place import started_place

    config, place = compose_evaluate(arguments), started_place()
    if place is not None and place.local_count > 1:
        take_gpu(of_a_sweep=False)
    from harness.evaluate.engine import evaluate_in_place
    from harness.report.exports import write_exports
    from harness.report.of_evaluation import write_evaluation_report
    from harness.report.terminal import show
    from harness.runtime.console import Console, Terminal

    console = Console(live=False, prefix=f"[{place.rank}] ") if place and place.rank else Console()
    finished = evaluate_in_place(config, arguments, console, place)
    if finished is None:
        return 0
    folder = finished.evaluation.folder.path
    write_exports(folder)
    with console.stage("plots and report", total=None, unit="files"):
        document, page = write_evaluation_report(folder)
    show(document, Terminal())
    console.report(page)
    for note in finished.notes:
        console.say(note)
    if finished.unscored is not None:
        raise finished.unscored
    return finished.code
