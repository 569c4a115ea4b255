"""Rows as people's files have them: what a reply follows, cells that hold lists, labels by column, names misspelt."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from evals.rules.rulebook import load_rulebook
from evals.suites.suite import make_suite
from evals.values.conversation import (
    Comparison,
    Demonstration,
    LabelledResponse,
    Prompt,
    ResponseType,
    user_prompt,
)
from evals.values.errors import InputError
from evals.values.levels import Levels
from harness.keys.data import DataConfig
from harness.worlds.mixture.files import rows_of
from harness.worlds.mixture.forms import read_rows
from harness.worlds.mixture.overlap import EXACT
from harness.worlds.mixture.parts import load_part
from harness.worlds.mixture.source import Source, source_of
from harness.worlds.mixture.world import load_mixture

U, A, S = ({"role": role, "content": role} for role in ("user", "assistant", "system"))
MORE = {"role": "user", "content": "more"}
KNOWN: dict[str, Levels] = {"refuses": (), "judges": ()}
RULES = """
completion_class_order: [ideal, disallowed_completion]
simple_propositions: {refuses: {prompt: "Does it refuse?"}}
completion_classes:
  ideal: {hard_refuse: {refuses: true}, comply: {refuses: false}}
  disallowed_completion: {hard_refuse: {refuses: false}, comply: {refuses: true}}
"""


def jsonl(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def text(path: Path, content: str) -> str:
    path.write_text(content)
    return str(path)


def read(source: Source, kind: type) -> list[Any]:
    return [item for _, item in read_rows(rows_of(source), source, kind, KNOWN, Counter())]


def refused(source: Source, kind: type) -> str:
    with pytest.raises(InputError) as caught:
        read(source, kind)
    return str(caught.value)


def roles(prompt: Prompt) -> str:
    return "".join(message.role[0] for message in prompt.messages)


@pytest.mark.parametrize(
    ("prompt", "before", "follows"),
    [
        ("user", [U], "u"),
        ([S, U], [U, A, MORE], "suau"),
        ("user ", [S, U, A, MORE], "suau"),
        ([U, A, MORE], [], "uau"),
        ("\n\nHuman: user\n\nAssistant:", [], "u"),
    ],
)
def test_a_reply_follows_the_whole_conversation(
    tmp_path: Path, prompt: object, before: list[dict[str, str]], follows: str
) -> None:
    """Beside a prompt, whole conversations lost all turns but their last: the reply was learnt to another question."""
    one, other = [*before, A], [*before, {**A, "content": "worse"}]
    path = jsonl(
        tmp_path / "r.jsonl", {"prompt": prompt, "chosen": one, "rejected": other, "completion": one}
    )
    (pair,), (shown,) = read(Source(path), Comparison), read(Source(path), Demonstration)
    assert roles(pair.prompt) == roles(shown.prompt) == follows
    assert (pair.chosen, pair.rejected, shown.text) == ("assistant", "worse", "assistant")


def test_a_reply_to_another_prompt_is_refused(tmp_path: Path) -> None:
    other = [{**U, "content": "2 + 2?"}, A]
    row = {"prompt": "user", "chosen": other, "rejected": [*other[:1], {**A, "content": "b"}]}
    path = jsonl(tmp_path / "r.jsonl", {**row, "completion": other})
    said = "r.jsonl:1: field '{}': holds another conversation than the prompt"
    assert said.format("chosen") in refused(Source(path), Comparison)
    assert said.format("completion") in refused(Source(path), Demonstration)
    long = {"prompt": "user", "chosen": [U, A, MORE, A], "rejected": "b"}
    assert "differs from that of chosen" in refused(Source(jsonl(tmp_path / "d.jsonl", long)), Comparison)


def test_a_cell_may_hold_a_list_of_messages(tmp_path: Path) -> None:
    """A table's cell with a conversation as JSON was asked of the model letter by letter."""
    cell = json.dumps([S, U]).replace('"', '""')
    (prompt,) = read(Source(text(tmp_path / "c.csv", f'prompt\n"{cell}"\n')), Prompt)
    assert roles(prompt) == "su"
    shown = "[{'content': 'Hi', 'role': 'user'}]"
    assert "as Python shows it" in refused(Source(jsonl(tmp_path / "p.jsonl", {"prompt": shown})), Prompt)
    asked = "[1, 2] is what in Python?"
    assert read(Source(jsonl(tmp_path / "q.jsonl", {"prompt": asked})), Prompt)[0].text == asked


def test_what_cannot_be_seen_is_empty(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "z.jsonl", {"prompt": "\u200b \u2060"})
    assert "'prompt': is empty" in refused(Source(path), Prompt)
    assert read(Source(jsonl(tmp_path / "e.jsonl", {"prompt": "👩‍🚀"})), Prompt)[0].text == "👩‍🚀"


def test_a_system_prompt_of_each_row(tmp_path: Path) -> None:
    """A column of system prompts could not be named: they were lost."""
    path = jsonl(tmp_path / "s.jsonl", {"prompt": "a?", "sys": "Be brief."}, {"prompt": "b?"})
    prompts = read(Source(path, columns={"system": "sys"}, system="Be kind."), Prompt)
    assert [p.messages[0].content for p in prompts] == ["Be brief.", "Be kind."]
    assert roles(read(Source(path), Prompt)[0]) == "u"


def test_labels_in_columns_cells_and_maps(tmp_path: Path) -> None:
    """Labels of propositions in a CSV file could not be read at all."""
    rest = "prompt,completion,response_type"
    table = text(tmp_path / "t.csv", f"{rest},refuses,judges\na?,x,comply,True,0\nb?,y,comply,,1\n")
    found = read(Source(table, columns={"propositions": ["refuses", "judges"]}), LabelledResponse)
    assert [item.propositions for item in found] == [{"refuses": True, "judges": False}, {"judges": True}]
    cell = text(tmp_path / "c.csv", f'{rest},propositions\na?,x,comply,"{{""refuses"": true}}"\n')
    truth = pa.array([[("refuses", True), ("judges", None)]], pa.map_(pa.string(), pa.bool_()))
    columns = {"prompt": ["a?"], "completion": ["x"], "response_type": ["comply"], "propositions": truth}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "m.parquet")
    for path in (cell, str(tmp_path / "m.parquet")):
        assert read(Source(path), LabelledResponse)[0].propositions == {"refuses": True}
    bad = text(tmp_path / "b.csv", f"{rest},refuses\na?,x,comply,maybe\n")
    source = Source(bad, columns={"propositions": ["refuses"]})
    assert "b.csv:2: field 'refuses': is not true or false" in refused(source, LabelledResponse)
    classed = jsonl(tmp_path / "k.jsonl", {"prompt": "a?", "completion": "x", "completion_class": "ideal"})
    assert read(Source(classed), LabelledResponse)[0].completion_class == "ideal"


def test_a_misspelt_category_is_none_of_the_others(tmp_path: Path) -> None:
    """`types: {crimes: hard_refuse, "*": comply}` had every prompt on crime answered."""
    path = jsonl(
        tmp_path / "p.jsonl", {"prompt": "a?", "category": "crime"}, {"prompt": "b?", "category": "x "}
    )
    source = Source(path, types={"crimes": "hard_refuse", "*": "comply"})
    said = refused(source, Prompt)
    assert "'types.crimes': no row is of this category" in said and "crime, x" in said
    good = Source(path, types={"crime": "hard_refuse", "x": "comply"})
    assert [str(p.response_type.value) for p in read(good, Prompt)] == ["hard_refuse", "comply"]
    data = DataConfig(safety_prompts=[{"path": path, "types": {"crime": "hard_refuse"}}])
    with pytest.raises(InputError, match=r"p.jsonl:2: .* no response type, and `types` has none for .*'x'"):
        load_part(data, "safety_prompts", 0)


def test_types_may_stand_in_a_file(tmp_path: Path) -> None:
    """Several sources of one set of categories each had to repeat the map."""
    jsonl(tmp_path / "p.jsonl", {"prompt": "a?", "category": "crime"})
    text(tmp_path / "types.yaml", "crime: hard_refuse\n")
    source = source_of({"path": "p.jsonl", "types": "types.yaml"}, "data.safety_prompts[0]", str(tmp_path))
    assert source.types == {"crime": "hard_refuse"} and Path(source.path).is_file()
    text(tmp_path / "mine.yaml", "path: p.jsonl\ntypes: types.yaml\n")
    assert source_of("mine.yaml", "data.safety_prompts[0]", str(tmp_path)) == source


@pytest.mark.parametrize(
    ("cell", "wanted", "is_taken"),
    [
        *[(True, True, True), ("true", True, True), ("False", False, True), ("true", False, False)],
        *[(1.0, 1, True), ("1", 1, True), ("2", 1, False), ("a", 1, False), (1, "1", True)],
    ],
)
def test_a_filter_knows_how_tables_write_values(
    tmp_path: Path, cell: object, wanted: object, is_taken: bool
) -> None:
    path = jsonl(tmp_path / "f.jsonl", {"prompt": "a?", "ok": cell})
    assert len(read(Source(path, filter={"ok": wanted}), Prompt)) == is_taken


def test_json_with_an_object_a_line_and_tables_by_other_signs(tmp_path: Path) -> None:
    """Beyond 4 KiB of a first row, `.json` files as the hub has them were malformed; a TSV was no format."""
    lines = [json.dumps({"prompt": "long " * 2000}), "", json.dumps({"prompt": "b?"})]
    assert len(read(Source(text(tmp_path / "l.json", "\n".join(lines))), Prompt)) == 2
    assert len(read(Source(text(tmp_path / "o.json", '{"prompt": "a?"}')), Prompt)) == 1
    talks = [json.dumps({"chosen": [U, A], "rejected": [U, {**A, "content": str(n)}]}) for n in range(2)]
    assert len(read(Source(text(tmp_path / "c.json", "\n".join(talks))), Comparison)) == 2
    nested = read(Source(text(tmp_path / "n.json", '{"x": ["a?"]}'), columns={"prompt": "text"}), Prompt)
    assert [p.category for p in nested] == ["x"]
    (tabs,) = read(Source(text(tmp_path / "t.tsv", "prompt\t category\nHi?\tx\n")), Prompt)
    assert (tabs.text, tabs.category) == ("Hi?", "x")
    semicolons = Source(text(tmp_path / "s.csv", "prompt;category\nHi?;x\n"))
    assert "s.csv:1: the file is a table separated by semicolons" in refused(semicolons, Prompt)


def test_no_number_is_no_category(tmp_path: Path) -> None:
    """NaN, which pandas writes for nothing, was a category of its own."""
    path = text(tmp_path / "n.jsonl", '{"prompt": "a?", "category": NaN, "response_type": NaN}\n')
    (prompt,) = read(Source(path), Prompt)
    assert (prompt.category, prompt.response_type) == ("none", None)


def test_a_file_has_no_split(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "a?"})
    for key in ("split", "subset", "revision"):
        assert f"field '{key}': is 'dev', and the source is a file" in refused(
            Source(path, **{key: "dev"}), Prompt
        )


def test_an_earlier_turn_that_is_evaluated_leaves_training(tmp_path: Path) -> None:
    """Only the last turn was compared: a conversation about an evaluation prompt was trained on."""
    rulebook = load_rulebook(text(tmp_path / "rules.yaml", RULES))
    asked = "How do I kill a Python process?"
    turns = [{**U, "content": asked}, A, {**U, "content": "And on Windows?"}]
    data = DataConfig(helpful_prompts=[jsonl(tmp_path / "h.jsonl", {"prompt": turns}, {"prompt": "b?"})])
    suite = make_suite("s", tmp_path, [user_prompt("1", asked, ResponseType.COMPLY)])
    mixture = load_mixture(data, 0, rulebook, [suite])
    assert [p.text for p in mixture.items("helpful_prompts")] == ["b?"]
    assert mixture.overlaps[0]["how"] == EXACT
    assert [place.line for place in mixture.parts["helpful_prompts"].places] == [2]


def test_a_bad_label_is_told_with_its_row(tmp_path: Path) -> None:
    rulebook = load_rulebook(text(tmp_path / "rules.yaml", RULES))
    row = {"prompt": "a?", "completion": "x", "response_type": "comply", "propositions": {"refuses": True}}
    for part, bad in (("gold", {}), ("completions", {"refuses": None})):
        path = jsonl(tmp_path / f"{part}.jsonl", row, {**row, "prompt": "b?", "propositions": bad})
        with pytest.raises(InputError, match=f"{part}.jsonl:2: field 'data.{part}': prompt"):
            load_mixture(DataConfig(**{part: [path]}), 0, rulebook, [])
