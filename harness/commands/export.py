"""`rbrbench export`: suites as task files that lm-eval runs by itself."""

from __future__ import annotations

from collections.abc import Sequence

SUMMARY = """\
  export            suites as lm-eval task files, for lm_eval --include_path
                      rbrbench export suites=[xstest] data.root=FOLDER out=FOLDER"""
USAGE = """\
usage: rbrbench export suites=[NAME,...] data.root=FOLDER [out=FOLDER] [key=value ...]
       rbrbench export capability.root=FOLDER [capability.tasks=[stereoset]]

Writes a folder for `lm_eval --include_path FOLDER --tasks rbrbench_NAME`; it runs without rbrbench. Prompts are
answered greedily and judged by XSTest's string matcher.

suites:  {suites}
  suites.NAME.path=FILE                 a suite's own file or folder; else data.root is searched"""


def usage() -> str:
    from evals.suites import SUITES
    from harness.keys.export import ExportConfig
    from harness.keys.help import command_help

    return command_help(USAGE.format(suites=", ".join(SUITES)), ExportConfig)


def main(arguments: Sequence[str]) -> int:
    from harness.report.exports.lm_eval_export import export

    return export(arguments)
