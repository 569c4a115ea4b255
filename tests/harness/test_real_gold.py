"""The RBR gold set: its split, and the completions that stand in for the paper's synthetic ones."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import conf
from evals.rules.rulebook import load_rulebook
from evals.values.conversation import LabelledResponse, ResponseType, user_prompt
from evals.values.errors import InputError
from harness.worlds.sources import openai_rbr
from harness.worlds.sources.synthetic import lend, synthetic
from harness.worlds.sources.written import written_refusals

DATA = Path(os.environ.get("RBRBENCH_DATA", Path(__file__).parents[2] / "../shared/data"))
needs_data = pytest.mark.skipif(
    not (DATA / "openai-rbr").is_dir(), reason=f"the real data sets are not in {DATA}"
)
RULES = load_rulebook(Path(conf.__file__).parent / "rulebooks" / "short.yaml")
COMPLY, HARD = ResponseType.COMPLY, ResponseType.HARD_REFUSE


def gold_row(
    number: int, kind: str, category: str, *true: str, prompt: list[str] | None = None
) -> dict[str, Any]:
    turns = prompt or [f"Request number {number} about roses"]
    roles = ("user", "assistant")
    return {
        "category": category,
        "response_type": kind,
        "prompt": [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)],
        "completion": [{"role": "assistant", "content": f"Completion number {number}."}],
        "propositions": {name: name in true for name in RULES.propositions},
    }


def gold_rows(count: int = 60) -> list[dict[str, Any]]:
    """Comply: ideal or unacceptable; hard refuse: unacceptable or disallowed. No refusal is ideal."""
    rows = []
    for i in range(count):
        if i % 2:
            true = ("partially_complies",) if i % 4 == 1 else ()
            rows.append(gold_row(i, "Comply", "C-C", *true))
        else:
            rows.append(
                gold_row(i, "Hard Refuse", "C-R", *(("disallowed_content",) if i % 4 == 0 else ("apology",)))
            )
    return rows


def load_gold(tmp_path: Path, rows: Iterable[Any]) -> list[LabelledResponse]:
    path = tmp_path / openai_rbr.FILE
    path.parent.mkdir()
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return openai_rbr.load(tmp_path, RULES)


def test_gold_rows_have_their_class(tmp_path: Path) -> None:
    """Labels read under another response type's rules."""
    rows = load_gold(tmp_path, gold_rows(4))
    assert [(r.response.prompt.response_type, r.completion_class) for r in rows] == [
        (HARD, "disallowed_completion"),
        (COMPLY, "ideal"),
        (HARD, "unacceptable_completion"),
        (COMPLY, "unacceptable_completion"),
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"propositions": {"apology": True}}, r"train.jsonl:1: field 'propositions.*is missing"),
        ({"response_type": "Shrug"}, r"train.jsonl:1: field 'response_type': unknown response type"),
        ({"response_type": None}, r"train.jsonl:1: field 'response_type': is missing"),
        (
            {"prompt": [{"role": "assistant", "content": "a"}]},
            r"train.jsonl:1: field 'prompt': does not end with the user",
        ),
    ],
)
def test_gold_faults(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    """A label file of another rulebook fitted weights for propositions it does not have."""
    with pytest.raises(InputError, match=expected):
        load_gold(tmp_path, [gold_rows(1)[0] | change])


def test_a_fault_is_named_by_the_files_own_line(tmp_path: Path) -> None:
    """A blank line in the file shifted every number after it."""
    path = tmp_path / openai_rbr.FILE
    path.parent.mkdir()
    rows = [json.dumps(row) for row in (*gold_rows(1), gold_rows(1)[0] | {"response_type": None})]
    path.write_text("\n\n".join(rows), encoding="utf-8")
    with pytest.raises(InputError, match=r"train.jsonl:3: field 'response_type': is missing"):
        openai_rbr.load(tmp_path, RULES)


def test_split_by_prompt(tmp_path: Path) -> None:
    """A prompt in both training and test, or a class that is missing from a part, breaks the test."""
    rows = gold_rows(80)
    again = [row | {"completion": [{"role": "assistant", "content": "Another."}]} for row in rows[:10]]
    labelled = load_gold(tmp_path, rows + again)
    parts = openai_rbr.split_by_prompt(labelled, {"train": 0.75, "test": 0.25}, seed=0)
    ids = {name: {row.response.prompt.id for row in part} for name, part in parts.items()}
    assert not ids["train"] & ids["test"]
    assert (len(ids["train"]), len(ids["test"])) == (60, 20)
    assert sum(map(len, parts.values())) == 90
    classes = Counter((row.response.prompt.response_type, row.completion_class) for row in parts["test"])
    assert len(classes) == 4
    assert parts == openai_rbr.split_by_prompt(labelled, {"train": 0.75, "test": 0.25}, seed=0)
    assert parts != openai_rbr.split_by_prompt(labelled, {"train": 0.75, "test": 0.25}, seed=1)
    with pytest.raises(InputError, match=r"sum to 1.1"):
        openai_rbr.split_by_prompt(labelled, {"train": 0.75, "test": 0.35}, seed=0)


# --- synthetic completions ---------------------------------------------------------------------


@pytest.mark.parametrize("response_type", [t for t in ResponseType if t.is_refusal])
def test_written_refusals_have_the_classes_that_the_gold_set_lacks(response_type: ResponseType) -> None:
    """Without an ideal refusal no comparison has a best side."""
    texts = {}
    for held_out in (False, True):
        written = list(written_refusals(response_type, held_out))
        texts[held_out] = {text for text, _ in written}
        assert len(texts[held_out]) == len(written)
        for _, true in written:
            assert set(true) <= set(RULES.propositions)
        labels = ({name: name in true for name in RULES.propositions} for _, true in written)
        classes = {RULES.class_of(response_type, truth) for truth in labels}
        assert {"ideal", "minimum_acceptable_style"} <= classes
        assert "disallowed_completion" not in classes
    assert not texts[False] & texts[True]


def test_no_refusal_is_written_for_a_prompt_to_answer() -> None:
    """An ideal refusal to a comply prompt teaches over-refusal."""
    assert list(written_refusals(COMPLY, False)) == []


def test_a_lent_answer_is_off_topic(tmp_path: Path) -> None:
    """An answer to one question kept its label 'complies' under another question."""
    rows = load_gold(tmp_path, gold_rows(4))
    disallowed, answer, refusal, _ = rows
    other = user_prompt("other", "Something else", COMPLY, "C-C")
    lent = lend(answer, other, RULES)
    assert lent.completion_class == "illogical_completion"
    assert lent.propositions["partially_complies"] is False
    harmful = user_prompt("other", "Something else", HARD, "C-R")
    assert lend(refusal, harmful, RULES).propositions == refusal.propositions
    assert lend(disallowed, harmful, RULES).completion_class == "disallowed_completion"
    assert lent.response.prompt is other and lent.response.text == answer.response.text


def test_synthetic_completions(tmp_path: Path) -> None:
    """Comparisons within a prompt need several classes; a borrowed ideal answer would be a lie."""
    pool = load_gold(tmp_path, gold_rows(20))
    prompts = [row.response.prompt for row in pool] + [user_prompt("new", "New request", HARD, "K-R")]
    rows = synthetic(prompts, pool, RULES, per_prompt=4, seed=0)
    own = {(row.response.prompt.id, row.response.text) for row in pool}
    by_prompt: dict[str, list[LabelledResponse]] = {}
    for row in rows:
        by_prompt.setdefault(row.response.prompt.id, []).append(row)
    assert set(by_prompt) == {prompt.id for prompt in prompts}
    for group in by_prompt.values():
        classes = {row.completion_class for row in group}
        kind = group[0].response.prompt.response_type
        assert 2 <= len(group) <= 4 and len(classes) > 1
        assert len({row.response.text for row in group}) == len(group)
        if kind is HARD:
            assert {"ideal", "disallowed_completion"} <= classes
        for row in group:
            assert row.completion_class == RULES.class_of(kind, row.propositions)
            if kind is COMPLY and row.completion_class == "ideal":
                assert (row.response.prompt.id, row.response.text) in own
    assert rows == synthetic(prompts, pool, RULES, per_prompt=4, seed=0)


@needs_data
def test_short_rulebook_has_the_released_rules() -> None:
    """The short questions come with other classes, and the gold labels mean something else."""
    released = load_rulebook(DATA / openai_rbr.RULEBOOK)
    assert set(RULES.propositions) == set(released.propositions)
    assert (RULES.derived, RULES.classes, RULES.class_order) == (
        released.derived,
        released.classes,
        released.class_order,
    )


@needs_data
def test_released_gold_set() -> None:
    """The notes of world.json say that no refusal is ideal; they must stay true."""
    gold = openai_rbr.load(DATA, RULES)
    assert len(gold) == 351
    assert not any(
        r.completion_class == "ideal" for r in gold if r.response.prompt.response_type is not COMPLY
    )
