"""How the libraries that train behave in this program: threads, and what they may say."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_before: list[int | None] = []  # threads outside each `own_threads`, the innermost last; None: not set inside


def quiet_libraries(threads: int) -> None:
    """Set the processor threads, and keep libraries' own bars and notices off the console."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    # TRL sets an option by a name that transformers is about to drop.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.training_args")
    # PEFT reads a property of the model that it wraps by a name that transformers is about to drop.
    warnings.filterwarnings("ignore", category=FutureWarning, message="`is_gradient_checkpointing`")
    import datasets

    set_threads(threads)
    no_progress_bars()
    datasets.disable_progress_bars()


@contextmanager
def own_threads() -> Iterator[None]:
    """What runs inside may set torch's threads (`set_threads`); afterwards they are what they were before.

    Sums by another number of threads differ in their last bits, so a command that left its own behind would
    change the bytes of whatever the same program does next.
    """
    _before.append(None)
    try:
        yield
    finally:
        before = _before.pop()
        if before is not None:
            import torch

            torch.set_num_threads(before)


def set_threads(count: int) -> None:
    """Let torch compute by `count` threads, until the innermost `own_threads` ends."""
    import torch

    if _before and _before[-1] is None:
        _before[-1] = torch.get_num_threads()
    torch.set_num_threads(count)


def no_progress_bars() -> None:
    """Keep transformers' own bars out of a command's output."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
