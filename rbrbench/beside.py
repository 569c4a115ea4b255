"""`python -m rbrbench.beside FILE`: a further process of a run, see `harness.pipeline.beside`."""

from __future__ import annotations

import sys

from rbrbench.neighbours import foreign_neighbour


def main(path: str) -> int:
    """Compute stages of the run that the file at `path` says; returns 2 where others' packages stand in for ours."""
    if problem := foreign_neighbour():
        print(f"rbrbench: {problem}", file=sys.stderr)
        return 2
    from harness.pipeline.beside import main as compute

    compute(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
