"""lm-eval's task objects, from our documents and from its own registry, without its noise."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import datasets
import lm_eval.api.task
import lm_eval.tasks
from tqdm import tqdm

from evals.capability.tasks.form import Document, TaskPart
from evals.values.errors import InputError

FOLDER = Path(lm_eval.tasks.__file__).parent


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no log lines below ERROR from lm-eval, datasets and transformers."""
    loggers = {name: logging.getLogger(name) for name in ("lm_eval", "transformers")}
    levels, bars = (
        {name: logger.level for name, logger in loggers.items()},
        datasets.are_progress_bars_disabled(),
    )
    shown = lm_eval.api.task.tqdm  # this one bar cannot be switched off by an argument
    for logger in loggers.values():
        logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    lm_eval.api.task.tqdm = partial(tqdm, disable=True)
    try:
        yield
    finally:
        lm_eval.api.task.tqdm = shown
        for name, logger in loggers.items():
            logger.setLevel(levels[name])
        if not bars:
            datasets.enable_progress_bars()


def build_parts(name: str, parts: Sequence[TaskPart]) -> dict[str, Any]:
    """{lm-eval task name: task} over our own documents; touches no network."""
    folders = sorted({str(FOLDER / part.builtin) for part in parts if part.builtin})
    manager = lm_eval.tasks.TaskManager(include_path=folders, include_defaults=False)
    members = [{**part.config, "custom_dataset": _dataset(part.splits)} for part in parts]
    # lm-eval merges overrides into its own configuration for the members of a group, and only there.
    own = [member for member, part in zip(members, parts, strict=True) if part.builtin]
    ours = [member for member, part in zip(members, parts, strict=True) if not part.builtin]
    specs = [*ours, *([{"group": name, "task": own}] if own else [])]
    return dict(manager.load(specs)["tasks"])


def _dataset(splits: dict[str, list[Document]]) -> Callable[..., datasets.DatasetDict]:
    tables = {split: datasets.Dataset.from_list(rows) for split, rows in splits.items()}
    found = datasets.DatasetDict(tables)
    return lambda **_: found


def build_hub_task(name: str) -> dict[str, Any]:
    """{lm-eval task name: task} by lm-eval's own name, whose data the hub or its cache holds."""
    try:
        return dict(_registry().load([name])["tasks"])
    except KeyError:
        fix = "see `lm_eval ls tasks` for the names"
        raise InputError(f"lm-eval has no task {name!r}", field="capability.tasks", fix=fix) from None
    except ImportError as error:
        problem = f"lm-eval's task {name!r} needs a package that is not there ({error})"
        raise InputError(problem, field="capability.tasks", fix="install it, or leave the task out") from None
    except (OSError, ValueError) as error:
        problem = f"the data of lm-eval's task {name!r} cannot be had ({str(error).splitlines()[0][:150]})"
        fix = "connect to the hub, or set capability.root to a folder with local files"
        raise InputError(problem, field="capability.tasks", fix=fix) from None


@lru_cache(maxsize=1)
def _registry() -> lm_eval.tasks.TaskManager:
    """Reads some fifteen thousand files: about ten seconds, once."""
    return lm_eval.tasks.TaskManager()
