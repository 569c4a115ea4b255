"""`python -m rbrbench.worker FILE`: one of the processes of a training, see `harness.pipeline.worker`.

`python -m rbrbench.worker FILE stages`: a further process of a run, see `harness.pipeline.beside`.
"""

from __future__ import annotations

import sys

from rbrbench.neighbours import foreign_neighbour


def main(path: str, part: str = "training") -> int:
    """Do its part of what the file at `path` says; returns 2 where others' packages stand in for ours."""
    if problem := foreign_neighbour():
        print(f"rbrbench: {problem}", file=sys.stderr)
        return 2
    if part == "stages":
        from harness.pipeline.beside import main as work
    else:
        from harness.pipeline.worker import main as work
    work(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
