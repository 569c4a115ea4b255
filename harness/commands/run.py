"""`rbrbench run [-m] [key=value ...]`: the main job."""

from __future__ import annotations

from collections.abc import Sequence

SUMMARY = """\
  run [-m]          the main job: train RBR-PPO, Human-PPO and Helpful-PPO, measure them, write the report
                      rbrbench run experiment=demo            two cores, minutes
                      rbrbench run -m seed=0,1,2              a sweep, one comparison over its seeds
                      rbrbench run experiment=real_cpu data.root=FOLDER"""
SWEEP = ("-m", "--multirun")


def usage() -> str:
    from harness.keys.help import keys_help

    return keys_help()


def main(arguments: Sequence[str]) -> int:
    from harness.pipeline.run import run

    run([a for a in arguments if a not in SWEEP], sweep=any(a in SWEEP for a in arguments))
    return 0
