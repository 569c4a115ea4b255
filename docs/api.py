"""Write docs/api.md, the public names of `import rbrbench`, from their own source: `python docs/api.py`."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import rbrbench

PAGE = Path(__file__).with_name("api.md")
MADE = "<!-- made from the docstrings by `python docs/api.py`; what stands above is written by hand -->\n"


def page() -> str:
    # Lists: of an iterator that raises StopIteration, as of a name without a definition, the rest would be left out.
    chapters = [
        f"## {title}\n\n" + "\n".join([_entry(name) for name in names])
        for title, names in rbrbench.CHAPTERS.items()
    ]
    written = PAGE.read_text(encoding="utf-8").partition(MADE)[0]
    return written + "\n".join([MADE, *chapters])


def _entry(name: str) -> str:
    module = importlib.import_module(rbrbench.CHAPTERS[_chapter(name)][name])
    source = inspect.getsource(module)
    node = next(
        n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name
    )
    return f"### {name}\n\n```text\n" + "\n".join(_outline(node, source.splitlines())) + "\n```\n"


def _chapter(name: str) -> str:
    return next(title for title, names in rbrbench.CHAPTERS.items() if name in names)


def _outline(node: ast.FunctionDef | ast.ClassDef, lines: list[str]) -> Iterator[str]:
    """The lines of a definition without its code: decorators, signature, docstring, fields, public methods."""
    first = _first_line(node)
    documented = ast.get_docstring(node) is not None
    last = node.body[0].end_lineno if documented else max(node.lineno, _first_line(node.body[0]) - 1)
    yield from lines[first - 1 : last]
    if isinstance(node, ast.FunctionDef):
        return
    for part in node.body[documented:]:
        if isinstance(part, ast.AnnAssign | ast.Assign) and not _private(part):
            yield from lines[part.lineno - 1 : part.end_lineno]
        if isinstance(part, ast.FunctionDef) and (
            part.name in ("__init__", "__call__") or part.name[0] != "_"
        ):
            yield ""
            yield from _outline(part, lines)


def _first_line(node: ast.stmt) -> int:
    """Decorators stand above the line of their definition."""
    return min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])


def _private(part: ast.AnnAssign | ast.Assign) -> bool:
    target = part.target if isinstance(part, ast.AnnAssign) else part.targets[0]
    return ast.unparse(target).startswith("_")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
