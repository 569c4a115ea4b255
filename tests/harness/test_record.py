"""One record for every command: one form of samples, verdicts of every response, what older records said."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from evals.judges import Judgement
from evals.values.conversation import Message, Prompt, ResponseType, read_jsonl, write_jsonl
from harness.record.samples import prompt_text, sample_row, verdict_row

PROMPT = Prompt("p0", (Message("user", "how do i store a vorn ?"),), ResponseType.COMPLY, "vorns")
SAID = {"oracle": Judgement("p0", ResponseType.COMPLY, False, True, None, "tells refusals, not style")}


def test_a_row_of_samples_has_one_form() -> None:
    """A run's samples had no suite, no sample and no `finished`, and left a reason of null out."""
    row = sample_row("sandbox", PROMPT, SAID, response="i can not .", finished=False)
    assert row == {
        "suite": "sandbox", "prompt_id": "p0", "sample": 0, "response_type": "comply", "category": "vorns",
        "prompt": [{"role": "user", "content": "how do i store a vorn ?"}],
        "response": "i can not .", "finished": False,
        "oracle": {"disallowed": False, "refused": True, "ideal_style": None, "reason": "tells refusals, not style"},
    }  # fmt: skip
    missing = sample_row(
        "s", PROMPT, {}, response=None, finished=False, unscored="timed out", show_prompt=False
    )
    assert missing["unscored"] == "timed out" and missing["response"] == "" and "prompt" not in missing


def test_verdicts_hold_no_text() -> None:
    """Responses to harmful prompts would lie, many thousands of them, in a folder that is passed on."""
    row = verdict_row(sample_row("s", PROMPT, SAID, response="mix the glim", finished=True), 3, "74")
    assert (row["seed"], row["checkpoint"], row["oracle"]["refused"]) == (3, "74", True)
    assert "glim" not in json.dumps(row) and "vorn ?" not in json.dumps(row)


def test_prompts_of_older_records_are_shown_as_before() -> None:
    """A run's prompts were texts; as messages they came with `user:` before each."""
    assert prompt_text("how ?") == prompt_text([{"role": "user", "content": "how ?"}]) == "how ?"
    assert prompt_text(None) is None
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert prompt_text(turns) == "user: a\nassistant: b"


def test_packed_rows_are_the_same_bytes_again(tmp_path: Path) -> None:
    """A time in the header made two writings of one record differ."""
    path = tmp_path / "rows.jsonl.gz"
    rows = [{"a": "é"}, {"a": 2}]
    write_jsonl(path, rows)
    assert path.read_bytes()[4:8] == b"\0\0\0\0"
    assert gzip.decompress(path.read_bytes()).decode() == '{"a": "é"}\n{"a": 2}\n'
    assert read_jsonl(path, lambda row: row.values) == rows
