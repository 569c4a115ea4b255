"""The architecture, checked: imports only go down, never in a circle; no dumping grounds; nothing unsafe."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from harness.storage.provenance import FLOORS, ROOT, project_imports

DUMPING_GROUNDS = {"utils.py", "util.py", "helpers.py", "helper.py", "common.py", "misc.py"}
PICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal"}
UNSAFE_CALLS = {
    "torch.load",
    "joblib.load",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "pandas.read_pickle",
}
PARSERS = {"json.loads", "json.load", "yaml.safe_load", "yaml.compose"}
# The last two run without this project.
READERS = {
    "evals/values/json_text.py",
    "evals/values/located_yaml.py",
    "harness/report/exports/lm_eval_functions.py",
    "harness/serve/clients.py",
}
UNSAFE_FLAGS = {"trust_remote_code", "allow_pickle"}
MOST_LOOSE_FILES = 6  # of a floor, beside its rooms

# Every folder, from the ground up: each imports only what stands above it in this list, wherever in a file it does.
ROOMS = (
    "evals.values",  # what everything passes on
    "evals.models.apis",
    "evals.models",
    "evals.models.given_texts",
    "evals.statistics",
    "evals.rules",
    "evals.suites",
    "evals.graders",
    "evals.judges",
    "evals.capability.tasks",
    "evals.capability",
    "evals",
    "trainers.devices",
    "trainers.models",
    "trainers.reward",
    "trainers.supervised",
    "trainers.rl",
    "trainers",
    "harness.storage",
    "harness.runtime",
    "harness.worlds",
    "harness.worlds.sandbox",
    "harness.worlds.sources",
    "harness.worlds.mixture",
    "harness.keys",
    "harness.subjects",
    "harness.findings",
    "harness.record",
    "harness.evaluate",
    "harness.pipeline",
    "harness.gate",
    "harness.serve",
    "harness.ceiling",
    "harness.rank",
    "harness.fit",
    "harness.gold",
    "harness.report.plots",
    "harness.report.exports",
    "harness.report",
    "harness.commands",
    "harness",
    "rbrbench",
)


def modules(root: Path) -> dict[str, Path]:
    """{dotted name: file} of the floors."""
    files = [path for floor in FLOORS for path in sorted((root / floor).rglob("*.py"))]
    return {_dotted(path.relative_to(root)): path for path in files}


def _dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def parsed(path: Path) -> ast.Module:
    """A file's syntax tree; one that is not of a made-up tree is read once for all tests."""
    return _read_once(path) if path.is_relative_to(ROOT) else _read(path)


def _read(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


_read_once = cache(_read)


def import_graph(root: Path) -> dict[str, set[str]]:
    return _graph_once(root) if root == ROOT else _graph(root)


def _graph(root: Path) -> dict[str, set[str]]:
    return {name: project_imports(parsed(path), name, path, root) for name, path in modules(root).items()}


_graph_once = cache(_graph)


def upward_imports(root: Path) -> list[str]:
    def floor(module: str) -> int:
        return FLOORS.index(module.split(".")[0])

    return [
        f"{name} imports {target}"
        for name, targets in import_graph(root).items()
        for target in sorted(targets)
        if floor(target) > floor(name)
    ]


def import_circle(root: Path) -> list[str]:
    """One circle, as the names along it; empty when there is none."""
    try:
        TopologicalSorter(import_graph(root)).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def room_graph(root: Path) -> dict[str, dict[str, str]]:
    """{folder: {folder that it imports: one such import}}, each as dotted names."""
    files = modules(root)

    def room(module: str) -> str:
        return ".".join(files[module].relative_to(root).parent.parts)

    found: dict[str, dict[str, str]] = {room(module): {} for module in files}
    for name, targets in import_graph(root).items():
        for target in sorted(targets):
            if room(name) != room(target):
                found[room(name)].setdefault(room(target), f"{name} imports {target}")
    return found


def misplaced_imports(root: Path, rooms: Sequence[str]) -> list[str]:
    """Imports of a folder from one that does not stand before it in `rooms`."""
    return [
        example
        for room, targets in room_graph(root).items()
        for target, example in targets.items()
        if rooms.index(target) > rooms.index(room)
    ]


def unsafe_lines(root: Path) -> list[str]:
    found = []
    for path in modules(root).values():
        tree = parsed(path)
        aliases = _aliases(tree)
        places = {(node.lineno, what) for node in ast.walk(tree) for what in _unsafe(node, aliases)}
        found += [f"{path.relative_to(root)}:{line}: {what}" for line, what in sorted(places)]
    return found


def own_parsers(root: Path) -> list[str]:
    """Calls of a format's parser outside READERS; what goes through JSON and back is no file."""
    found = []
    for path in modules(root).values():
        place = path.relative_to(root).as_posix()
        calls = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)] * (
            place not in READERS
        )
        aliases = _aliases(parsed(path)) if calls else {}
        for call in calls:
            inner = call.args[0].func if call.args and isinstance(call.args[0], ast.Call) else None
            if _called(call.func, aliases) in PARSERS and (
                inner is None or _called(inner, aliases) != "json.dumps"
            ):
                found.append(f"{place}:{call.lineno}")
    return found


def second_homes(root: Path) -> list[str]:
    """Names that are imported from a module which imports them itself; `__all__`, or a package, hands names on."""
    files = modules(root)
    trees = {name: parsed(path) for name, path in files.items() if path.name != "__init__.py"}
    assigned = {name: _assigned(tree) for name, tree in trees.items()}
    borrowed = {
        name: _imported(tree) - assigned[name]
        for name, tree in trees.items()
        if "__all__" not in assigned[name]
    }
    return [
        f"{path.relative_to(root)}:{node.lineno}: {alias.name} of {node.module}"
        for path in files.values()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name in borrowed.get(node.module or "", ())
    ]


def _imported(tree: ast.AST) -> set[str]:
    """What a module's imports name, wherever they stand in it."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return {alias.asname or alias.name.partition(".")[0] for node in imports for alias in node.names}


def _assigned(tree: ast.Module) -> set[str]:
    """What a module's own statements name."""
    stored = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    return stored | {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def _called(function: ast.AST, aliases: dict[str, str]) -> str:
    head, dot, rest = _dotted_name(function).partition(".")
    return aliases.get(head, head) + dot + rest


def _unsafe(node: ast.AST, aliases: dict[str, str]) -> Iterator[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        origin = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        yield from (name for name in origin if name.split(".")[0] in PICKLERS)
    if isinstance(node, ast.Call):
        name = _called(node.func, aliases)
        if name in UNSAFE_CALLS:
            yield name
        for flag in node.keywords:
            off = isinstance(flag.value, ast.Constant) and flag.value.value is False
            if flag.arg in UNSAFE_FLAGS and not off:
                yield f"{flag.arg}={ast.unparse(flag.value)}"


def _dotted_name(node: ast.AST) -> str:
    """`torch.load` of the expression that says so; "" for a call on anything but a name."""
    if isinstance(node, ast.Attribute):
        value = _dotted_name(node.value)
        return f"{value}.{node.attr}" if value else ""
    return node.id if isinstance(node, ast.Name) else ""


def _aliases(tree: ast.AST) -> dict[str, str]:
    """{local name: what it stands for}, e.g. `from torch import load as get` gives {"get": "torch.load"}."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_imports_only_go_down() -> None:
    """An evaluation that imports the trainers cannot be used without them."""
    assert upward_imports(ROOT) == []


def test_no_import_circle() -> None:
    """Modules in a circle can only be understood, and edited, all at once."""
    assert import_circle(ROOT) == []


def test_a_name_is_imported_from_where_it_is_defined() -> None:
    """Forty names stood in two modules each, and readers looked for them in the wrong one."""
    assert second_homes(ROOT) == []


def test_rooms_are_in_order() -> None:
    """Nine folders imported each other in one circle of late imports, and none could be read alone."""
    assert set(room_graph(ROOT)) <= set(ROOMS), "a new folder needs its place in ROOMS"
    assert misplaced_imports(ROOT, ROOMS) == []


def test_every_room_says_what_it_is_for() -> None:
    """A reader had to open a folder's files to learn what belongs there, or was sent to files that had moved."""
    packages = [path for path in modules(ROOT).values() if path.name == "__init__.py"]
    silent = [str(path) for path in packages if not ast.get_docstring(parsed(path))]
    assert silent == []
    named = {(p, n) for p in packages for n in re.findall(r"`(\w+\.py)`", ast.get_docstring(parsed(p)) or "")}
    assert [f"{path}: {name}" for path, name in sorted(named) if not (path.parent / name).is_file()] == []


def test_floors_are_divided_into_rooms() -> None:
    """Fifty loose files on a floor: nobody found anything but by its name."""
    for floor in FLOORS:
        assert len([p for p in (ROOT / floor).glob("*.py") if p.name != "__init__.py"]) <= MOST_LOOSE_FILES


def test_no_dumping_grounds() -> None:
    """A utils.py collects whatever has no home until nobody finds anything in it."""
    assert [str(path) for path in modules(ROOT).values() if path.name in DUMPING_GROUNDS] == []


def test_nothing_unsafe() -> None:
    """Pickles, full YAML and remote code run whatever a downloaded file says."""
    assert unsafe_lines(ROOT) == []


def test_each_format_is_read_in_one_place() -> None:
    """Thirty tracebacks and hangs of files nested deep, with long numbers or halves of characters."""
    assert own_parsers(ROOT) == []


def test_every_package_folder_is_a_package() -> None:
    """A folder without __init__.py works in an editable install and is missing from the wheel."""
    folders = {path.parent for path in modules(ROOT).values()}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


# The checker itself, on made-up trees.


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for floor in FLOORS:
        (tmp_path / floor / "deep").mkdir(parents=True)
        (tmp_path / floor / "__init__.py").touch()
        (tmp_path / floor / "deep" / "__init__.py").touch()
    (tmp_path / "evals" / "rules.py").write_text("import json\nfrom pathlib import Path\n")
    (tmp_path / "trainers" / "ppo.py").write_text("from evals import rules\nfrom evals.rules import json\n")
    (tmp_path / "harness" / "main.py").write_text("import trainers.ppo\nimport evals.rules as r\n")
    return tmp_path


def test_checker_accepts_imports_that_go_down(tree: Path) -> None:
    """A checker that cries wolf is switched off."""
    assert upward_imports(tree) == []
    assert import_circle(tree) == []
    assert unsafe_lines(tree) == []


@pytest.mark.parametrize(
    ("floor", "source", "target"),
    [
        ("evals", "import trainers.ppo", "trainers.ppo"),
        ("evals", "from harness.main import main", "harness.main"),
        ("evals", "def late():\n    from trainers import ppo", "trainers.ppo"),
        ("evals", "if TYPE_CHECKING:\n    import harness", "harness"),
        ("evals", "from harness.gone import x", "harness"),
        ("trainers", "from harness import main", "harness.main"),
    ],
)
def test_checker_finds_imports_that_go_up(tree: Path, floor: str, source: str, target: str) -> None:
    """An upward import inside a function, or a type check escaped the check."""
    (tree / floor / "deep" / "new.py").write_text(source)
    assert upward_imports(tree) == [f"{floor}.deep.new imports {target}"]


@pytest.mark.parametrize(
    "sources",
    [
        {"a": "from evals import b", "b": "import evals.a"},
        {"a": "from evals.b import x", "b": "def f():\n    from evals.c import y", "c": "from . import a"},
    ],
)
def test_checker_finds_circles(tree: Path, sources: dict[str, str]) -> None:
    """A circle closed by a late or a relative import escaped the check."""
    for name, source in sources.items():
        (tree / "evals" / f"{name}.py").write_text(source)
    assert set(import_circle(tree)) == {f"evals.{name}" for name in sources}


def test_checker_finds_second_homes(tree: Path) -> None:
    """A name that is handed on without `__all__` escaped the check, or one that is said to be handed on did not."""
    assert second_homes(tree) == ["trainers/ppo.py:2: json of evals.rules"]
    (tree / "evals" / "rules.py").write_text('import json\n__all__ = ["json"]\n')
    assert second_homes(tree) == []


def test_checker_finds_circles_of_folders(tree: Path) -> None:
    """Two folders without a circle of files still needed each other; a late import escaped the check."""
    (tree / "evals" / "wide").mkdir()
    (tree / "evals" / "wide" / "__init__.py").touch()
    (tree / "evals" / "wide" / "a.py").write_text("from evals.deep.b import x\n")
    (tree / "evals" / "deep" / "b.py").write_text("x = 1\n")
    (tree / "evals" / "deep" / "c.py").write_text("def late():\n    from evals.wide import d\n")
    (tree / "evals" / "wide" / "d.py").write_text("")
    rooms = ["evals.deep", "evals.wide", "evals", "trainers.deep", "trainers", "harness.deep", "harness"]
    assert import_circle(tree) == []
    assert misplaced_imports(tree, rooms) == ["evals.deep.c imports evals.wide.d"]


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import pickle", "pickle"),
        ("from dill import loads", "dill"),
        ("import torch\ntorch.load('x', weights_only=True)", "torch.load"),
        ("from torch import load as get\nget('x')", "torch.load"),
        ("import torch as t\nt.load('x')", "torch.load"),
        ("import yaml\nyaml.load(x, Loader=yaml.SafeLoader)", "yaml.load"),
        ("import numpy as np\nnp.load('x', allow_pickle=True)", "allow_pickle=True"),
        ("f(trust_remote_code=config.trust)", "trust_remote_code=config.trust"),
    ],
)
def test_checker_finds_unsafe_code(tree: Path, source: str, what: str) -> None:
    """An alias hid an unsafe call from a search for its text."""
    (tree / "evals" / "new.py").write_text(source)
    line = source.count("\n") + 1
    assert unsafe_lines(tree) == [f"evals/new.py:{line}: {what}"]


@pytest.mark.parametrize("source", ["import json\njson.load(x)", "from yaml import safe_load as s\ns(x)"])
def test_checker_finds_own_parsers(tree: Path, source: str) -> None:
    """A reader of its own has no limits."""
    (tree / "evals" / "new.py").write_text(source)
    (tree / "evals" / "other.py").write_text("import json\njson.loads(json.dumps(x))")
    assert own_parsers(tree) == ["evals/new.py:2"]


@pytest.mark.parametrize(
    "source",
    [
        "import yaml\nyaml.safe_load(x)",
        "import json\njson.load(x)",
        "f(trust_remote_code=False)",
        "import picklejar",
    ],
)
def test_checker_accepts_safe_code(tree: Path, source: str) -> None:
    """A checker that cries wolf is switched off."""
    (tree / "evals" / "new.py").write_text(source)
    assert unsafe_lines(tree) == []
