"""Capability tasks: which exist, where their files lie, and which of their items are taken."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evals.capability.tasks import released_tasks, rows
from evals.capability.tasks.form import Form, TaskPart, need_file
from evals.values.errors import InputError

PYTHON_SEED, FEWSHOT_SEED = 0, 1234  # those of lm-eval's own command
LM_EVAL = "lm_eval"  # the form of lm-eval's own tasks, which fetch their data from the hub
RELEASED = released_tasks()
# How a task's file is read: rows of our own, or a release's own file.
FORMS: dict[str, Form] = {
    "mmlu": rows.CLOZE,
    "gpqa": rows.CLOZE,
    "hellaswag": rows.ENDINGS,
    "lambada": rows.LAST_WORD,
    **{f"{name}_release": task.form for name, task in RELEASED.items()},
}


@dataclass(frozen=True)
class CapabilityTask:
    """One task. `name` is that of results (`capability/NAME`).

    With `form` "lm_eval", `name` is lm-eval's own and no path is needed; every other form reads `path`.
    `num_fewshot` examples stand before each question; None: as many as lm-eval's own task has by default, none
    in local forms. `chat` puts the context into the model's chat template.
    """

    name: str
    form: str
    path: Path | None = None
    num_fewshot: int | None = None
    chat: bool = False

    def __post_init__(self) -> None:
        if self.form != LM_EVAL and self.form not in FORMS:
            problem = f"task {self.name!r} has the unknown form {self.form!r}"
            raise InputError(problem, fix=f"use one of {', '.join([*FORMS, LM_EVAL])}")
        if self.form != LM_EVAL and self.path is None:
            raise InputError(f"task {self.name!r} has no file", field="path", fix="name the task's file")
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise InputError(f"is {self.num_fewshot}", field="num_fewshot", fix="give 0 or more")
        if self.num_fewshot and self.form != LM_EVAL and not FORMS[self.form].few_shot:
            problem = f"task {self.name!r} has no few-shot examples"
            raise InputError(problem, field="num_fewshot", fix="give 0")


def real_tasks(root: Path | str, names: Sequence[str] | None = None) -> list[CapabilityTask]:
    """The real tasks whose released files lie below `root`: those named (none where the list is empty), or all.

    Raises InputError for a name that is unknown or has no file, and where all are asked for and none is there.
    """
    root = Path(root)
    tasks = []
    for name in RELEASED if names is None else names:
        if name not in RELEASED:
            fix = f"use some of {', '.join(RELEASED)}"
            raise InputError(f"no local form of the task {name!r}", field="capability.tasks", fix=fix)
        places = RELEASED[name].places
        found = next((root / place for place in places if (root / place).exists()), None)
        if found is not None:
            tasks.append(CapabilityTask(name, f"{name}_release", found))
        elif names is not None:
            problem = f"has no file for the task {name!r}"
            raise InputError(problem, path=root, field="capability.root", fix=f"add {places[0]}")
    if names is None and not tasks:
        fix = f"add some of {', '.join(task.places[0] for task in RELEASED.values())}"
        raise InputError("has no capability task", path=root, field="capability.root", fix=fix)
    return tasks


@dataclass(frozen=True)
class LoadedTask:
    """A task with its items read, checked and chosen; it serves any number of models.

    `lm_eval_tasks` are lm-eval's tasks by name (MMLU has one a subject); `samples` the indices of the items
    to take of each, None for all.
    """

    task: CapabilityTask
    lm_eval_tasks: dict[str, Any]
    samples: dict[str, list[int]] | None
    items: int


def load_tasks(tasks: Sequence[CapabilityTask], *, limit: int | None, seed: int) -> list[LoadedTask]:
    """Read the tasks' files and choose `limit` items of each (None: all), spread evenly over subjects.

    Raises InputError for a bad file and for a task that needs the hub when it cannot be reached.
    """
    from evals.capability.lm_eval_tasks import build_hub_task, build_parts, quiet

    if limit is not None and limit < 1:
        raise InputError(f"is {limit}", field="capability.limit", fix="give at least 1 item a task")
    loaded = []
    with quiet():
        for task in tasks:
            if task.form == LM_EVAL:
                with _python_seed(PYTHON_SEED):
                    built = build_hub_task(task.name)
                samples, items = _samples(built, limit, seed)
                built = {name: one for name, one in built.items() if samples is None or name in samples}
            else:
                parts = chosen_parts(_read(task), limit, seed)
                built, samples = build_parts(task.name, parts), None
                items = sum(len(part.splits[part.tested]) for part in parts)
            for one in built.values():
                one.set_config(key="num_fewshot", value=_examples(task, one))
                one.set_fewshot_seed(seed=FEWSHOT_SEED)
            loaded.append(LoadedTask(task, built, samples, items))
    return loaded


def _examples(task: CapabilityTask, built: Any) -> int:
    own = built.get_config("num_fewshot") if task.form == LM_EVAL else None
    return int(own or 0) if task.num_fewshot is None else task.num_fewshot


def _read(task: CapabilityTask) -> list[TaskPart]:
    assert task.path is not None
    path = Path(task.path)
    return FORMS[task.form].read(task.name, path if path.is_dir() else need_file(path))


def chosen_parts(parts: Sequence[TaskPart], limit: int | None, seed: int) -> list[TaskPart]:
    """The parts with the chosen items only; a part without any is left out."""
    chosen = spread([len(part.splits[part.tested]) for part in parts], limit, seed)
    return [
        TaskPart(
            part.config,
            {**part.splits, part.tested: [part.splits[part.tested][i] for i in indices]},
            part.tested,
            part.builtin,
        )
        for part, indices in zip(parts, chosen, strict=True)
        if indices
    ]


def _samples(built: dict[str, Any], limit: int | None, seed: int) -> tuple[dict[str, list[int]] | None, int]:
    sizes = [len(one.eval_docs) for one in built.values()]
    if limit is None:
        return None, sum(sizes)
    chosen = spread(sizes, limit, seed)
    samples = {name: indices for name, indices in zip(built, chosen, strict=True) if indices}
    return samples, sum(map(len, samples.values()))


def spread(sizes: Sequence[int], limit: int | None, seed: int) -> list[list[int]]:
    """Indices of `limit` items in all, out of subjects of these sizes, in ascending order.

    A systematic sample of all items, ordered by subject and shuffled within it: each subject gets its
    proportion, up to one item.
    """
    total = sum(sizes)
    if limit is None or limit >= total:
        return [list(range(size)) for size in sizes]
    rng = np.random.default_rng(seed)
    ordered = [(subject, int(i)) for subject, size in enumerate(sizes) for i in rng.permutation(size)]
    start = rng.random()
    chosen: list[list[int]] = [[] for _ in sizes]
    for k in range(limit):
        subject, index = ordered[int((k + start) * total / limit)]
        chosen[subject].append(index)
    return [sorted(indices) for indices in chosen]


@contextmanager
def _python_seed(seed: int) -> Iterator[None]:
    """Some of lm-eval's tasks shuffle their choices with Python's global generator."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
