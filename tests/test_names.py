"""One name, one meaning: no two classes of the product share a public name."""

from __future__ import annotations

import ast
from collections import defaultdict

from harness.storage.provenance import FLOORS, ROOT


def test_no_two_classes_share_a_name() -> None:
    """Change meant an edited rule, an error rate and a contribution; a reader of one took it for another."""
    places = defaultdict(list)
    for floor in FLOORS:
        for path in sorted((ROOT / floor).rglob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].append(path.relative_to(ROOT).as_posix())
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
