"""`python -m rbrbench.worker FILE`: one of the processes of a training, see `harness.pipeline.worker`."""

from __future__ import annotations

import sys

from rbrbench.neighbours import foreign_neighbour


def main(path: str) -> int:
    """Train as the file at `path` says; returns 2 where another distribution's packages stand in for ours."""
    if problem := foreign_neighbour():
        print(f"rbrbench: {problem}", file=sys.stderr)
        return 2
    from harness.pipeline.worker import main as train

    train(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
