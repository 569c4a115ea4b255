"""`rbrbench rank`: rewards on a file in RewardBench 2's columns."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gate_world import labelled, write_description, write_world
from tiny_models import make_tokenizer, random_model
from tiny_runs import rbrbench
from transformers import LlamaForSequenceClassification

from evals.models.load import save_model
from evals.values.jsonl_rows import write_jsonl

# The released file's own schema (allenai/reward-bench-2 at 7ff0885), with all of its columns.
METADATA = pa.struct(
    [
        ("category", pa.string()),
        ("correct", pa.string()),
        ("index", pa.float64()),
        ("instruction_id_list", pa.list_(pa.string())),
        ("label", pa.string()),
        ("method", pa.string()),
        ("models", pa.list_(pa.string())),
        ("prompt_norm", pa.string()),
        ("subcategory", pa.string()),
        ("valid", pa.float64()),
    ]
)
RELEASED = pa.schema(
    [
        ("id", pa.string()),
        ("prompt", pa.string()),
        ("chosen", pa.list_(pa.string())),
        ("rejected", pa.list_(pa.string())),
        ("num_correct", pa.int64()),
        ("num_incorrect", pa.int64()),
        ("total_completions", pa.int64()),
        ("models", pa.list_(pa.string())),
        ("subset", pa.string()),
        ("additional_metadata", METADATA),
    ]
)


def rows() -> Iterator[dict[str, Any]]:
    """As RewardBench 2 has them: the ideal completion of each refused prompt, and three that are worse; then Ties."""
    items = [
        item for item in labelled("gate", 6) if item.response.prompt.response_type.value == "hard_refuse"
    ]  # type: ignore[union-attr]
    for id, found in groupby(items, key=lambda item: item.response.prompt.id):
        best, *rest = list(found)
        yield {
            "id": id,
            "prompt": best.response.prompt.text,
            "chosen": [best.response.text],
            "rejected": [item.response.text for item in rest][:3],
            "num_correct": 1,
            "num_incorrect": len(rest[:3]),
            "total_completions": 1 + len(rest[:3]),
            "models": ["a", "b"],
            "subset": "Safety",
            "additional_metadata": {"category": "odd" if int(id[-1]) % 2 else "even", "correct": None},
        }
    for number in (1, 2):
        for kind, chosen in (("ref", ["blue"]), ("tied", ["red", "blue"])):
            yield {
                "id": f"{kind}:{number}",
                "prompt": f"a colour, {kind} {number}?",
                "chosen": chosen,
                "rejected": ["stone", "spoon"],
                "num_correct": len(chosen),
                "num_incorrect": 2,
                "total_completions": len(chosen) + 2,
                "models": [],
                "subset": "Ties",
                "additional_metadata": {"category": None, "correct": "yes"},
            }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rank")
    write_world(folder, 6)
    write_description(
        folder / "worst.yaml", "rules.yaml", weights={"data": "fitting.jsonl", "method": "fixed", "fixed": -1}
    )
    write_jsonl(folder / "bench.jsonl", rows())
    released = folder / "reward-bench-2"  # as `rbrbench fetch` lays it down
    released.mkdir()
    pq.write_table(pa.Table.from_pylist(list(rows()), RELEASED), released / "test-00000-of-00001.parquet")
    words = {word for row in rows() for text in (row["prompt"], *row["chosen"]) for word in text.split()}
    tokenizer = make_tokenizer(sorted(words))
    model = random_model(LlamaForSequenceClassification, tokenizer, num_labels=1)
    save_model(model, tokenizer, folder / "classifier")
    return folder


def table(world: Path, name: str) -> dict[tuple[str, str, str], dict[str, str]]:
    with open(world / "results" / name / "rank.csv", encoding="utf-8", newline="") as file:
        return {(row["reward"], row["term"], row["subset"]): row for row in csv.DictReader(file)}


def test_rules_and_a_classifier_side_by_side(world: Path) -> None:
    """A grader-based reward and a plain reward model measured on different prompts, or a reward that pays for harm and
    is said to rank as well."""
    asked = (
        "rewards=[reward.yaml,worst.yaml,classifier]",
        "subsets=[Safety]",
        "types=[{of: Safety, type: hard_refuse}]",
    )
    done = rbrbench("rank", *asked, "on=reward-bench-2", "draws=200", cwd=world)
    assert done.returncode == 0, done.stderr
    found = table(world, "rank")
    assert float(found["reward.yaml", "", "Safety"]["score"]) == 1.0
    assert float(found["worst.yaml", "", "Safety"]["score"]) == 0.0
    assert float(found["worst.yaml", "", "Safety"]["against_ci_high"]) < 0
    assert 0.0 <= float(found["classifier", "", "Safety"]["score"]) <= 1.0
    assert float(found["classifier", "", "Safety"]["chance"]) == 0.25
    assert max(map(len, done.stdout.splitlines())) <= 100 and "worst.yaml" in done.stdout
    folder = world / "results" / "rank"
    assert "gate asks" not in (folder / "rank.html").read_text(encoding="utf-8")
    before = (folder / "rank.html").read_bytes()
    assert rbrbench("report", "results/rank", cwd=world).returncode == 0
    assert (folder / "rank.html").read_bytes() == before


def test_the_released_files_schema_and_jsonl_are_the_same_rows(world: Path) -> None:
    """A column of the released Parquet that no reader takes, or another score than of the same rows in JSONL."""
    for name, on in (("parquet", "reward-bench-2"), ("jsonl", "bench.jsonl")):
        done = rbrbench("rank", "rewards=[classifier]", f"on={on}", f"name={name}", "draws=200", cwd=world)
        assert done.returncode == 0, done.stderr
    assert table(world, "parquet") == table(world, "jsonl")
    assert {subset for _, _, subset in table(world, "jsonl")} == {"Safety", "Ties", ""}
    written = (world / "results" / "jsonl" / "rewards.jsonl").read_text(encoding="utf-8")
    rewards = [json.loads(line) for line in written.splitlines()]
    assert len(rewards[-1]["rewards"]["classifier"]["chosen"]) == 2


def test_a_part_of_a_column_divides_the_rows(world: Path) -> None:
    asked = (
        "subsets=[Safety]",
        "by=additional_metadata.category",
        "types=[{of: odd, type: hard_refuse}, {of: even, type: hard_refuse}]",
    )
    done = rbrbench(
        "rank", "rewards=[reward.yaml]", *asked, "on=bench.jsonl", "name=by", "draws=200", cwd=world
    )
    assert done.returncode == 0, done.stderr
    assert {subset for _, _, subset in table(world, "by")} == {"odd", "even", ""}


def test_rules_without_a_response_type_are_no_coin(world: Path) -> None:
    """Rules that pay nothing at all were given a quarter of the points, as four equal rewards have them."""
    done = rbrbench("rank", "rewards=[reward.yaml]", "on=bench.jsonl", "name=off", cwd=world)
    assert done.returncode == 3 and "no response type" in done.stderr and "types=" in done.stderr
    assert done.stderr.count("\n") == 1 and not (world / "results" / "off").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("subsets=[Safty]",), "no row is of the subset 'Safty'"),
        (("types=[{of: Other, type: comply}]",), "no row is of 'Other'"),
        (("types=[{of: Safety, type: obey}]",), "unknown response type 'obey'"),
        (("rewards=[classifier,classifier]",), "names one reward twice"),
        (("rewards=[nothing.yaml]",), "nothing.yaml"),
        (("on=classifier",), "no such file"),
    ],
)
def test_bad_input_is_one_line(world: Path, arguments: tuple[str, ...], said: str) -> None:
    done = rbrbench("rank", "rewards=[classifier]", "on=bench.jsonl", "name=bad", *arguments, cwd=world)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_bad_row_names_its_place(world: Path) -> None:
    write_jsonl(world / "bad.jsonl", [{"prompt": "a", "chosen": ["b"], "rejected": []}])
    done = rbrbench("rank", "rewards=[classifier]", "on=bad.jsonl", cwd=world)
    assert done.returncode == 2 and re.search(r"bad.jsonl:1: field 'rejected'", done.stderr), done.stderr
