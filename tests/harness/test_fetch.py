"""harness/worlds/sources/fetch.py: the files of real data, as published; and the one that is made of them."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from evals.values.errors import InputError
from harness.worlds.sources import hh_rlhf
from harness.worlds.sources.fetch import TABLE, _rows, fetch_data
from rbrbench.cli import main

GZ = {"helpful": "a/b@1:x/helpful.gz", "harmless": "a/b@1:x/harm less.gz"}


def published(folder: Path) -> Path:
    """A table of two files, and the files where it says."""
    said = []
    for (half, source), file in zip(GZ.items(), hh_rlhf.RELABELLED, strict=True):
        rows = [
            {"chosen": f"{half} {k} good", "rejected": f"{half} {k} bad", "data_subset": subset}
            | {"original_label": original, "label": label}
            for k, (subset, original, label) in enumerate(
                [
                    ("helpful", 0, 0),
                    ("harmless", 0, 0),
                    ("helpful", 1, 0),
                    ("helpful", 0, 1),
                    ("helpful", 1, 1),
                ]
            )
        ]
        content = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
        place = folder / "a/b/1/x" / source.rpartition("/")[2]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        said.append(f'{file}:\n  source: {source}\n  sha256: "{digest}"\n')
    (folder / "table.yaml").write_text("".join(said))
    return folder / "table.yaml"


def test_files_are_fetched_once_and_the_derived_one_is_made(tmp_path: Path) -> None:
    """The helpful half that the experiments read could be had nowhere, and nothing made it."""
    table, root, said = published(tmp_path), tmp_path / "data", list[str]()
    fetch_data(root, said.append, table, tmp_path.as_uri())
    assert len(said) == 3
    made = root / hh_rlhf.FILES["helpful"]
    rows = [json.loads(line) for line in gzip.decompress(made.read_bytes()).splitlines()]
    good_first = [row["chosen"].split()[-1] == "good" for row in rows]
    assert good_first == [True, False, False, True] * 2, "exchanged where the labels differ"
    before = made.read_bytes()
    fetch_data(root, said.append, table, "file:///nowhere")
    assert len(said) == 3 and made.read_bytes() == before


def test_what_is_another_file_or_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that was changed at its source would be other data under the same name."""
    table = published(tmp_path)
    (tmp_path / "a/b/1/x/harm less.gz").write_bytes(b"another")
    with pytest.raises(InputError, match="is another file"):
        fetch_data(tmp_path / "data", lambda _: None, table, tmp_path.as_uri())
    assert (tmp_path / "data" / hh_rlhf.RELABELLED[0]).is_file()
    assert not (tmp_path / "data" / hh_rlhf.RELABELLED[1]).exists()
    assert main(["fetch", str(tmp_path / "none"), f"from={(tmp_path / 'absent').as_uri()}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "cannot be fetched" in error and main(["fetch"]) == 2


def test_every_folder_of_the_world_has_its_files() -> None:
    """A folder that `experiment=real_cpu` reads had no source."""
    from harness.worlds.sources.world import FOLDERS

    rows = list(_rows(TABLE))
    assert {*FOLDERS, "mmlu", "hellaswag", "lambada"} <= {name.split("/")[0] for name, _, _ in rows}
    assert all(len(digest) == 64 and place.count("/") >= 3 for _, place, digest in rows)


def test_reward_bench_2_comes_from_the_hub_at_a_revision() -> None:
    """`rank` read a file that nothing fetched; without its revision and digest it would be another one tomorrow."""
    addresses = {name: address for name, address, _ in _rows(TABLE)}
    assert addresses["reward-bench-2/test-00000-of-00001.parquet"] == (
        "https://huggingface.co/datasets/allenai/reward-bench-2/resolve/"
        "7ff08853b0d5686e79b13fda8677024f566a104a/data/test-00000-of-00001.parquet"
    )
    assert addresses["lambada/lambada_test.jsonl"].startswith(
        "https://raw.githubusercontent.com/cybertronai/"
    )
    assert list(addresses)[-1].startswith("reward-bench-2/"), "a hub out of reach keeps no other file away"
    elsewhere = {name: address for name, address, _ in _rows(TABLE, "file:///mirror")}
    assert all(address.startswith("file:///mirror/") for address in elsewhere.values())
