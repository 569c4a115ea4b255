"""How the libraries that train behave in this program: threads, and what they may say."""

from __future__ import annotations

import os
import warnings


def quiet_libraries(threads: int) -> None:
    """Set the processor threads, and keep libraries' own bars and notices off the console."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    # TRL sets an option by a name that transformers is about to drop.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.training_args")
    import datasets
    import torch

    torch.set_num_threads(threads)
    no_progress_bars()
    datasets.disable_progress_bars()


def no_progress_bars() -> None:
    """Keep transformers' own bars out of a command's output."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
