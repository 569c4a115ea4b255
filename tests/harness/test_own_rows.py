"""Rows as people's files have them: what a reply follows, cells that hold lists, labels by column, names misspelt."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import Dataset, DatasetDict

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
from harness.keys.run import compose_data
from harness.worlds.mixture.files import rows_of
from harness.worlds.mixture.forms import read_rows
from harness.worlds.mixture.overlap import EXACT
from harness.worlds.mixture.parts import load_part
from harness.worlds.mixture.source import Source, source_of
from harness.worlds.mixture.world import load_mixture
from harness.worlds.words import plain_words

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
    turns = jsonl(tmp_path / "t.jsonl", {"prompt": [{**S, "content": " "}, U]})
    assert "has an empty turn of the system" in refused(Source(turns), Prompt)


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


# --- as a newcomer's files are --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "types"),
    [
        *[
            ((True, False), {"true": "comply", "false": "hard_refuse"}),
            ((1, 0), {1: "comply", 0: "hard_refuse"}),
        ],
        *[
            ((1.0, 0.0), {"1": "comply", "0": "hard_refuse"}),
            (("True", "x"), {True: "comply", "*": "hard_refuse"}),
        ],
    ],
)
def test_truths_and_numbers_are_categories(
    tmp_path: Path, cells: tuple[object, ...], types: dict[object, str]
) -> None:
    """`types: {true: comply, false: hard_refuse}` found no row of `is_safe`: a table writes True."""
    rows = [{"prompt": f"{i}?", "safe": cell} for i, cell in enumerate(cells)]
    path = jsonl(tmp_path / "c.jsonl", *rows)
    prompts = read(Source(path, columns={"category": "safe"}, types=types), Prompt)
    assert [p.response_type for p in prompts] == [ResponseType.COMPLY, ResponseType.HARD_REFUSE]


def test_who_says_the_response_type(tmp_path: Path) -> None:
    """`response_type` of a source gave way to its rows' column, and `{use: catqa, response_type: ...}` was ignored."""
    row = {"prompt": "a?", "category": "x", "response_type": "comply"}
    path = jsonl(tmp_path / "r.jsonl", row, {**row, "prompt": "b?", "category": "y"})

    def kinds(**settings: Any) -> list[str]:
        return [str(p.response_type.value) for p in read(Source(path, **settings), Prompt)]

    assert kinds() == ["comply", "comply"]
    assert kinds(response_type="hard_refuse") == ["hard_refuse"] * 2
    assert kinds(types={"x": "safe_refuse_2"}) == ["safe_refuse_2", "comply"]
    assert kinds(types={"x": "safe_refuse_2"}, response_type="hard_refuse") == [
        "safe_refuse_2",
        "hard_refuse",
    ]
    with pytest.raises(InputError, match="'columns.response_type': is named beside `types`"):
        Source(path, columns={"response_type": "category"}, types={"*": "comply"})
    for more, left in (
        ({}, True),
        ({"response_type": "comply"}, False),
        ({"columns": {"response_type": "t"}}, False),
    ):
        assert bool(source_of({"use": "catqa", **more}, "data.safety_prompts[0]", None).types) is left


def test_words_of_truth_in_a_file_stay_words(tmp_path: Path) -> None:
    """YAML takes `No` for False: the category No had no type."""
    path = jsonl(
        tmp_path / "n.jsonl", {"prompt": "a?", "category": "No"}, {"prompt": "b?", "category": "true"}
    )
    text(tmp_path / "types.yaml", "No: hard_refuse\ntrue: comply\n")
    types = source_of({"path": path, "types": str(tmp_path / "types.yaml")}, "data.gold[0]", None)
    lists = text(
        tmp_path / "data.yaml",
        f"data:\n  safety_prompts: [{{path: {path}, types: {{No: hard_refuse, true: comply}}}}]\n",
    )
    found = compose_data([f"data={lists}"]).data
    typed = "{'Fraud: checks, forged': comply, \"b: c\": leave_out}"
    colons = compose_data([f"data.safety_prompts=[{{path: {path}, types: {typed}}}]"]).data
    assert colons.safety_prompts[0]["types"] == {"Fraud: checks, forged": "comply", "b: c": "leave_out"}
    for source in (types, source_of(found.safety_prompts[0], "data.safety_prompts[0]", None)):
        assert source.types == {"No": "hard_refuse", "true": "comply"}
    text(tmp_path / "data.yaml", "data: {held_out: 1}\nrulebook: short\n")
    with pytest.raises(InputError, match=r"data.yaml:2: field 'rulebook': stands beside 'data'"):
        compose_data([f"data={lists}"])


def test_the_lists_of_the_page_may_stand_in_a_file(tmp_path: Path) -> None:
    page = Path(__file__).parents[2].joinpath("docs/your_model.md").read_text(encoding="utf-8")
    (lists,) = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    data = compose_data([f"data={text(tmp_path / 'data.yaml', lists)}"]).data
    assert data.held_out == 0 and data.safety_prompts[0]["columns"] == {
        "prompt": "request",
        "category": "area",
    }


@pytest.mark.parametrize("other", ["caf\u00e9", "cafe\u0301\u200b", "caf\u00e9\r\n"])
def test_texts_that_look_alike_are_no_comparison(tmp_path: Path, other: str) -> None:
    """A pair of one text in two ways to write it teaches a reward model noise."""
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "a?", "chosen": "caf\u00e9", "rejected": other})
    assert "'rejected': is the chosen text too" in refused(Source(path), Comparison)
    code = {"prompt": "a?", "chosen": "if a:\n  b", "rejected": "if a:\nb"}
    assert read(Source(jsonl(tmp_path / "c.jsonl", code)), Comparison)[0].rejected == "if a:\nb"


def test_what_a_row_leaves_empty_is_absent_in_every_format(tmp_path: Path) -> None:
    """null in JSONL was no text; a column that is empty throughout, and an annotator's missing vote, were faults."""
    rows = [
        {"messages": [U, A], "prompt": None, "completion": None},
        {"prompt": "a?", "completion": "b", "messages": None},
    ]
    assert len(read(Source(jsonl(tmp_path / "n.jsonl", *rows)), Demonstration)) == 2
    columns = {"prompt": ["q", "context"], "completion": "a"}
    (shown,) = read(Source(text(tmp_path / "e.csv", "q,context,a\nb?,,c\n"), columns=columns), Demonstration)
    assert (shown.prompt.text, shown.text) == ("b?", "c")
    votes = pa.table(
        {"prompt": ["a?"], "x": ["one"], "y": ["two"], "v": [2.0], "w": pa.array([None], pa.float64())}
    )
    pyarrow.parquet.write_table(votes, tmp_path / "v.parquet")
    voted = Source(str(tmp_path / "v.parquet"), columns={"first": "x", "second": "y", "votes": ["v", "w"]})
    assert read(voted, Comparison)[0].chosen == "two"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("b.json", b'\xef\xbb\xbf{"prompt": "a?"}\n{"prompt": "b?"}', ""),
        ("data[1].jsonl", b'{"prompt": "a?"}', ""),
        ("k.jsonl", b'{"prompt": "a?", "prompt": "b?"}', "k.jsonl:1: malformed JSON (the key 'prompt' is given twice)"),
        ("c.jsonl.gz", b"\x1f\x8b\x08\0\0\0\0\0", "cannot be read (the gzip is cut short); fetch or pack it again"),
        ("d.json", b'{"x": ["a?"],\n "x": ["b?"]}', "malformed JSON (the key 'x' is given twice)"),
        ("l.json", b'[{"prompt": "a?"}, 3]', "entry 2 of a list is int"),
        ("x.xlsx", b"PK\x03\x04", "the file is a ZIP archive or a spreadsheet; unpack it, or save the sheet as CSV"),
        ("named", b'{"prompt": "a?"}', "the file's name has no ending; say which it is, format: csv"),
        ("t.jsonl", b'{"prompt": "Assistant: Hi\\n\\nHuman: a?\\n\\nAssistant:"}', "does not start with the human's"),
        ("s.json", b'[{"prompt": [{"role": "system", "content": ""}]}]', "does not end with the user's turn"),
        ("h.csv", b"How do I pick it?,x\nHow do I read?,y\n", "'prompt': is missing, and the columns bear texts as"),
        ("e.json", b'[{"prompt": "a?"}, {"prompt": "\\u200b"}]', "e.json:2: field 'prompt': is empty"),
    ],
)  # fmt: skip
def test_files_as_they_come(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    source = Source(str(tmp_path / name))
    if not says:
        assert read(source, Prompt)[0].text == "a?"
    else:
        assert says in refused(source, Prompt)


def test_a_saved_data_set_has_the_splits_that_it_has(tmp_path: Path) -> None:
    """A split that a saved set has not was a KeyError, and of one without splits any was taken for the whole."""
    rows = Dataset.from_list([{"prompt": "a?"}])
    rows.save_to_disk(str(tmp_path / "one"))
    DatasetDict({"tests": rows}).save_to_disk(str(tmp_path / "several"))
    assert read(Source(str(tmp_path / "several"), split="tests"), Prompt)[0].text == "a?"
    assert "'split': is 'train', and the data set has none of that name; use one of tests" in refused(
        Source(str(tmp_path / "several")), Prompt
    )
    assert "'split': is 'tests', and the source is a saved data set" in refused(
        Source(str(tmp_path / "one"), split="tests"), Prompt
    )
    with pytest.raises(InputError, match=r"'data.gold\[0\].path': is not set; name a file or a data set"):
        source_of({"limit": 3}, "data.gold[0]", None)


def test_other_writing_is_the_same_words() -> None:
    """A prompt of the evaluation, decomposed, wide, with look-alikes or marks without width in it, was trained on."""
    asked = "How do I fix a caf\u00e9 table?"
    for other in (
        "how do i fix a cafe\u0301 table",
        "How\u3000do I \uff46ix a ca\ufb01".replace("\ufb01", "f\u00e9 table"),
        "How do I f\u200bix a caf\u00e9 table",
        "H\u043ew d\u043e \u0406 fix a caf\u00e9 t\u0430ble",  # Cyrillic letters among the Latin ones
    ):
        assert plain_words(other) == plain_words(asked)
    assert plain_words("\u0915\u093f\u0924\u093e\u092c") == "\u0915\u093f\u0924\u093e\u092c", (
        "vowel signs part no word"
    )


def test_a_type_that_the_rules_have_no_class_for_is_told_with_its_row(tmp_path: Path) -> None:
    """Weights could not be fitted for it, hours after the data were read."""
    rulebook = load_rulebook(text(tmp_path / "rules.yaml", RULES))
    row = {"prompt": "a?", "response_type": "safe_refuse_1"}
    path = jsonl(tmp_path / "p.jsonl", {**row, "prompt": "b?", "response_type": "comply"}, row)
    with pytest.raises(
        InputError, match=r"p.jsonl:2: field 'data.safety_prompts': .* no class of this type; add"
    ):
        load_mixture(DataConfig(safety_prompts=[path]), 0, rulebook, [])
    assert load_mixture(DataConfig(evaluation=[path]), 0, rulebook, []).items("evaluation")
