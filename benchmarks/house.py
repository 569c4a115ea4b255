"""The house, measured: lines by part, medians, what stands twice, what nothing uses, calls to the loss.

    python benchmarks/house.py [ROOT]           a checkout of any commit; this one where none is given
    python benchmarks/house.py [ROOT] --loss    runs the smoke experiment up to PPO's first loss as well

A repeated passage is a run of statements, one after another, that another place has with the same
syntax tree. A call of our own is a frame of a file under ROOT.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from statistics import median, quantiles
from typing import Any

PRODUCT = ("evals", "trainers", "harness", "rbrbench")
SHORT = 60  # lines: a file below is perhaps one thought with its neighbour
PASSAGE = 60  # nodes of a syntax tree: what repeats below that is idiom
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("--loss", action="store_true", help="count the calls to the loss: minutes")
    parser.add_argument("--trace", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    if arguments.trace:
        trace(root)
    files = {
        path: path.read_text(encoding="utf-8") for part in PRODUCT for path in (root / part).rglob("*.py")
    }
    trees = {path: ast.parse(text) for path, text in files.items()}
    lines_by_part(root)
    medians(files, trees)
    passages(root, trees)
    names(trees)
    unused(root, trees)
    if arguments.loss:
        calls_to_loss(root)


def lines_by_part(root: Path) -> None:
    for part in (*PRODUCT, "tests", "benchmarks"):
        counts = [len(path.read_text(encoding="utf-8").splitlines()) for path in (root / part).rglob("*.py")]
        print(f"{part:12}{sum(counts):8,} lines in {len(counts)} files")


def medians(files: dict[Path, str], trees: dict[Path, ast.Module]) -> None:
    defs = [n for tree in trees.values() for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    functions = [(n.end_lineno or n.lineno) - n.lineno + 1 for n in defs]
    sizes = [len(text.splitlines()) for path, text in files.items() if path.name != "__init__.py"]
    print(f"product     {sum(len(text.splitlines()) for text in files.values()):8,} lines")
    print(
        f"a function: median {median(functions):.0f} lines, 95th percentile {quantiles(functions, n=20)[-1]:.0f}"
    )
    print(
        f"a file: median {median(sizes):.0f} lines; {sum(n < SHORT for n in sizes)} of {len(sizes)} under {SHORT}"
    )


def passages(root: Path, trees: dict[Path, ast.Module]) -> None:
    """Prints each passage that stands twice or more; the longest of what overlaps."""
    places: defaultdict[str, list[tuple[str, int, int]]] = defaultdict(list)
    for path, tree in trees.items():
        for body in _bodies(tree):
            dumps = [(ast.dump(node), sum(1 for _ in ast.walk(node))) for node in body]
            for first in range(len(body)):
                size, text = 0, ""
                for last in range(first, len(body)):
                    text, size = text + dumps[last][0], size + dumps[last][1]
                    if size >= PASSAGE:
                        where = (str(path.relative_to(root)), body[first].lineno, body[last].end_lineno or 0)
                        places[text].append(where)
    found = sorted((spots for spots in places.values() if len(spots) > 1), key=lambda s: s[0][1] - s[0][2])
    seen: set[tuple[str, int]] = set()
    shown = 0
    for spots in found:
        if all((name, line) in seen for name, first, last in spots for line in range(first, last + 1)):
            continue
        seen |= {(name, line) for name, first, last in spots for line in range(first, last + 1)}
        shown += 1
        print("  twice:", ", ".join(f"{name}:{first}-{last}" for name, first, last in spots))
    print(f"repeated passages: {shown}")


def _bodies(tree: ast.Module) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            body = getattr(node, field, None)
            if isinstance(body, list) and not isinstance(node, ast.Module):
                yield body


def names(trees: dict[Path, ast.Module]) -> None:
    """Prints the classes whose name has more than one meaning."""
    of_classes = Counter(n.name for tree in trees.values() for n in tree.body if isinstance(n, ast.ClassDef))
    shared = {name: count for name, count in of_classes.items() if count > 1 and not name.startswith("_")}
    print(
        "class names with several meanings:",
        ", ".join(f"{k} {v}" for k, v in sorted(shared.items())) or "none",
    )


def unused(root: Path, trees: dict[Path, ast.Module]) -> None:
    """Prints what only tests or benchmarks name, and what nothing names; a word in any file counts as a use."""
    own = Counter(word for path in trees for word in _words(path))
    others = [
        p for ext in ("yaml", "j2", "toml", "yml") for p in root.rglob(f"*.{ext}") if ".git" not in p.parts
    ]
    own += Counter(word for path in others for word in _words(path))
    papers = {word for path in [root / "README.md", *(root / "docs").rglob("*.*")] for word in _words(path)}
    trials = {w for part in ("tests", "benchmarks") for p in (root / part).rglob("*.py") for w in _words(p)}
    for path, tree in sorted(trees.items()):
        for node in ast.walk(tree):
            if isinstance(node, Definition) and own[node.name] == 1 and not node.name.startswith("__"):
                by = (
                    "documented"
                    if node.name in papers
                    else "tests only"
                    if node.name in trials
                    else "nothing"
                )
                print(f"  {by}: {path.relative_to(root)}:{node.lineno} {node.name}")


def _words(path: Path) -> list[str]:
    try:
        return re.findall(r"\w+", path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return []


def calls_to_loss(root: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PYTHONPATH": str(root)}
        command = [sys.executable, __file__, str(root), "--trace"]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    frames = [line for line in done.stdout.splitlines() if line.startswith("  call ")]
    print("\n".join(frames) or done.stderr[-2000:])
    print(f"calls of our own from the command to the loss: {len(frames)}")


def trace(root: Path) -> None:
    """Run the smoke experiment in this folder, print the frames at the first loss, and end there."""
    home = next(
        path for path in (root / "trainers").rglob("*.py") if "\ndef policy_loss(" in path.read_text()
    )
    formulas = import_module(".".join(home.relative_to(root).with_suffix("").parts))
    loss = formulas.policy_loss

    def stop(*arguments: Any, **keywords: Any) -> None:
        stack = [
            frame for frame in traceback.extract_stack()[:-1] if Path(frame.filename).is_relative_to(root)
        ]
        ours = [frame for frame in stack if Path(frame.filename) != Path(__file__)]
        frames = [(Path(frame.filename).relative_to(root), frame.lineno, frame.name) for frame in ours]
        frames += [(home.relative_to(root), loss.__code__.co_firstlineno, loss.__name__)]
        for place, (path, line, name) in enumerate(frames, 1):
            print(f"  call {place:2}  {path}:{line} {name}", flush=True)
        os._exit(0)

    formulas.policy_loss = stop  # type: ignore[attr-defined]
    entry = tomllib.loads((root / "pyproject.toml").read_text())["project"]["scripts"]["rbrbench"]
    module, _, name = entry.partition(":")
    command = ["run", "experiment=smoke", "threads=1", f"results={Path.cwd() / 'results'}"]
    sys.exit(getattr(import_module(module), name)(command))


if __name__ == "__main__":
    main()
