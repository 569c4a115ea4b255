"""`rbrbench fetch FOLDER`: the files that the experiments on real data read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.commands import wrong_usage

SUMMARY = """\
  fetch FOLDER      fetch or make the files that the experiments on real data read"""
USAGE = """\
usage: rbrbench fetch FOLDER [from=ADDRESS]

Fetches what `data.root=FOLDER` is read for by the experiments real_cpu, smollm and gpu and by the suites: Gutenberg's
books, Dolly, HH-RLHF, the RBR gold set, XSTest with its labels, HarmBench, JailbreakBench, CoCoNot and others of
`conf/sources`, MMLU, HellaSwag and LAMBADA, some 45 MB from GitHub, and last RewardBench 2 for `rank`, 7 MB from the
Hugging Face hub; each held against its digest; and makes HH-RLHF's helpful half from the released pairs. What lies
there already is not fetched again. from= is another address with the same files (REPOSITORY/COMMIT/PATH), file:///...
too.
Exit codes: 0 done, 2 a file cannot be had."""


def main(arguments: Sequence[str]) -> int:
    from harness.worlds.sources.fetch import TABLE, fetch_data

    folders = [word for word in arguments if not word.startswith("from=")]
    addresses = [word.removeprefix("from=") for word in arguments if word.startswith("from=")]
    if len(folders) != 1 or len(addresses) > 1:
        return wrong_usage("fetch")
    fetch_data(Path(folders[0]), print, TABLE, *(address.rstrip("/") for address in addresses))
    return 0
