"""How a capability task's file is read: rows of our own (`rows.py`), or a release's own file, one module each.

To add a release: a module of this folder with {task's name: `Released`} as TASKS, which is found here.
"""

from __future__ import annotations

from evals.capability.tasks.form import Released
from evals.values.kinds import find_kind, found_in


def released_tasks() -> dict[str, Released]:
    """Every such task, by name."""
    found = found_in(__name__, __path__, "TASKS")
    tasks: dict[str, Released] = {}
    for release in found:
        tasks |= find_kind("released task", release, found, "capability.tasks")
    return tasks
