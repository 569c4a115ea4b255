"""What made a result: versions of packages, digests of the project's own modules, the git commit."""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

from harness.storage.parsed_sources import ParsedSource, ParsedSources, cache_folder

FLOORS = ("evals", "trainers", "harness", "rbrbench")  # from the lowest up
ROOT = Path(__file__).resolve().parents[2]  # the checkout, or site-packages


def module_versions(
    packages: Iterable[str], modules: Iterable[str], glue: Iterable[str] = (), root: Path = ROOT
) -> dict[str, str]:
    """The versions that a stage depends on, e.g. `{"torch": "2.13.0", "trainers.supervised.sft": "1f0c..."}`.

    `packages` are installed distributions. `modules` are the project's own: each one's digest
    covers its code and that of every project module that it imports, directly or not, so that an
    edit invalidates exactly the stages that use the edited code. Comments, docstrings and layout
    are not counted. `glue` are modules that count by their own code alone: a file of stages imports
    far more than any one of them uses. Raises `PackageNotFoundError` or `ModuleNotFoundError` for an
    unknown name.
    """
    versions = {name: metadata.version(name) for name in packages}
    versions |= {name: _read_module(name, root)[0][:12] for name in glue}
    versions |= {name: _closure_digest(name, root) for name in modules}
    _parsed().save()
    return versions


def source_of(module: str, root: Path = ROOT) -> Path | None:
    """The file that holds a project module (`evals.models.load`), or None when it is not one."""
    if module.split(".")[0] not in FLOORS:
        return None
    base = root.joinpath(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def project_imports(tree: ast.AST, module: str, path: Path, root: Path = ROOT) -> set[str]:
    """The project's modules that a module's own statements import, wherever they stand in it.

    Args:
        tree: the parsed source. module: its dotted name. path: its file (a package's own names
            start one level deeper than a plain module's).
    """
    return _modules_among(_names(tree, module, path.name), module, root)


def _names(tree: ast.AST, module: str, file: str) -> frozenset[str]:
    """What a module's statements import, whoever's it is."""
    package = module if file == "__init__.py" else module.rpartition(".")[0]
    return frozenset(name for node in ast.walk(tree) for name in _imported_names(node, package))


def _modules_among(names: Iterable[str], module: str, root: Path) -> set[str]:
    found = (_nearest_module(name, root) for name in names)
    return {name for name in found if name is not None and name != module}


def _imported_names(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*parents, *([node.module] if node.module else [])])
        yield from (f"{base}.{alias.name}" for alias in node.names)


def _nearest_module(name: str, root: Path) -> str | None:
    """`evals.models.load.load_tokenizer` is a name in `evals.models.load`, `evals.models.load` a module."""
    while name:
        if source_of(name, root) is not None:
            return name
        name = name.rpartition(".")[0]
    return None


@cache
def _read_module(module: str, root: Path) -> tuple[str, frozenset[str]]:
    """A module's own digest, and what importing it imports (its packages' `__init__` too)."""
    path = source_of(module, root)
    if path is None:
        raise ModuleNotFoundError(f"no module {module!r} in this project")
    digest, names = _read_source(path.read_text(encoding="utf-8"), module, path.name)
    parts = module.split(".")
    packages = {".".join(parts[:n]) for n in range(1, len(parts))}
    return digest, frozenset(_modules_among(names, module, root) | packages)


def _read_source(text: str, module: str, file: str) -> tuple[str, frozenset[str]]:
    """The digest of a module's code, and the project's names that it imports."""
    key = hashlib.sha256(f"{module}\0{file}\0{text}".encode()).hexdigest()
    source = _parsed().find(key)
    if source is None:
        tree = ast.parse(text, filename=file)
        names = frozenset(n for n in _names(tree, module, file) if n.split(".")[0] in FLOORS)
        code = ast.dump(_without_docstrings(tree))
        source = ParsedSource(hashlib.sha256(code.encode()).hexdigest(), names)
        _parsed().add(key, source)
    return source.digest, source.names


@cache
def _parsed() -> ParsedSources:
    """By this file as it stands, under this Python, whose syntax trees are its own."""
    reader = hashlib.sha256(f"{sys.version}\0".encode() + Path(__file__).read_bytes()).hexdigest()
    return ParsedSources(cache_folder() / "sources.json", reader)


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return tree


def _closure_digest(module: str, root: Path) -> str:
    seen: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen[name], imports = _read_module(name, root)
            waiting.extend(imports)
    text = "\n".join(f"{name} {digest}" for name, digest in sorted(seen.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def git_commit(root: Path = ROOT) -> str | None:
    """The checkout's commit, with `+changes` when tracked files differ from it; None elsewhere.

    What stands in results/ is written by the code and changes nothing that it does.
    A repository that merely encloses an installed copy is not asked: its commit says nothing here.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    head = _git(root, "rev-parse", "--verify", "HEAD")
    if not top or not head or Path(top).resolve() != root.resolve():
        return None
    changes = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)results")
    return head + ("+changes" if changes else "")


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):  # no git here: the commit stays unknown
        return None
    return done.stdout.strip() if done.returncode == 0 else None
