"""A suite's released files from the Hugging Face hub, for data sets that hold them there as they were released."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evals.values.errors import InputError


def fetch_files(suite: str, hub: str, files: Sequence[str]) -> Path:
    """The folder that holds some of `files` of the data set `hub`: fetched, or kept from before when offline.

    Raises InputError where the hub cannot be reached or refuses, and where the data set holds other files.
    """
    from huggingface_hub import snapshot_download

    fix = f"give suites.{suite}.path=, or data.root="
    patterns = [pattern for name in files for pattern in (name, f"*/{name}")]
    try:
        root = Path(snapshot_download(hub, repo_type="dataset", allow_patterns=patterns))
    except Exception as error:  # the hub's many errors, a gate and no network among them
        problem = f"the hub does not give {hub} ({type(error).__name__})"
        raise InputError(problem, field=f"suites.{suite}", fix=fix) from None
    found = sorted({file.parent for name in files for file in root.rglob(name) if file.is_file()})
    if not found:
        problem = f"{hub} on the hub has no {files[0]}"
        raise InputError(problem, field=f"suites.{suite}", fix=fix)
    return found[0]
