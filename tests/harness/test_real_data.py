"""Loaders of real data sets: on small files of the released schemas and, where they are there, on the
released files (set RBRBENCH_DATA, or keep them in ../shared/data)."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from evals.values.conversation import Comparison, Message
from evals.values.errors import InputError
from harness.worlds.sources import dolly, gutenberg, hh_rlhf
from harness.worlds.sources.sample import sample

DATA = Path(os.environ.get("RBRBENCH_DATA", Path(__file__).parents[2] / "../shared/data"))
needs_data = pytest.mark.skipif(
    not (DATA / "openai-rbr").is_dir(), reason=f"the real data sets are not in {DATA}"
)


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.writelines((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    return path


# --- which rows are taken ----------------------------------------------------------------------


def test_sample_is_seeded_and_ordered() -> None:
    """The first rows of a sorted file are one category; an unseeded draw differs from run to run."""
    rows = list(range(100))
    assert sample(rows, None, 0) == sample(rows, 100, 0) == sample(rows, 500, 3) == rows
    drawn = sample(rows, 10, 0)
    assert drawn == sorted(set(drawn)) == sample(rows, 10, 0) != rows[:10]
    assert drawn != sample(rows, 10, 1)
    with pytest.raises(InputError, match="limit of 0"):
        sample(rows, 0, 0)


# --- Gutenberg ---------------------------------------------------------------------------------

BOOK = """\ufeffThe Project Gutenberg EBook of Roses
Title: Roses

*** START OF THIS PROJECT GUTENBERG EBOOK ROSES ***

Produced by A. Volunteer. Their page is long gone, so it is not named.

CONTENTS

   Chapter I. The bud.
   Chapter II. The flower.

CHAPTER I. The bud.

It was a morning in spring,
and the first bud
was seen.

“Who has seen it?” asked the gardener, and
nobody knew.

[Illustration: a bud.]

Nothing more was said that day.

End of the Project Gutenberg EBook of Roses, by A. Gardener

*** END OF THIS PROJECT GUTENBERG EBOOK ROSES ***

Permission is granted to copy this licence.
"""


def book(root: Path, text: str = BOOK, name: str = "Roses_1.txt") -> Path:
    path = root / "gutenberg" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.replace("\n", "\r\n").encode("utf-8"))
    return path


def test_book_without_header_licence_and_headings(tmp_path: Path) -> None:
    """A model pre-trained on licences and tables of contents recites them."""
    book(tmp_path)
    assert gutenberg.load(tmp_path, document_chars=10) == [
        "It was a morning in spring, and the first bud was seen.",
        "“Who has seen it?” asked the gardener, and nobody knew.",
        "Nothing more was said that day.",
    ]


def test_paragraphs_are_joined_to_documents(tmp_path: Path) -> None:
    """Documents of one short line each teach the model to stop after a sentence."""
    book(tmp_path)
    documents = gutenberg.load(tmp_path, document_chars=100)
    assert [document.count("seen") for document in documents] == [2, 0]
    assert not any("\n" in document for document in documents)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("*** START OF", "*** BEGIN OF", r"Roses_1.txt: no line '\*\*\* START OF"),
        ("*** END OF", "*** STOP OF", "no line"),
        ("spring,\nand the first bud\nwas seen.", "", "no prose"),
    ],
)
def test_book_faults(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """A file that is no Gutenberg text was taken whole, licence and all, or not at all."""
    text = BOOK.replace(old, new).replace("End of the Project Gutenberg EBook of Roses, by A. Gardener", "")
    if expected == "no prose":
        text = "\n\n".join(p for p in text.split("\n\n") if "***" in p or "Chapter" in p)
    book(tmp_path, text)
    with pytest.raises(InputError, match=expected):
        gutenberg.load(tmp_path)


def test_unknown_book_and_folder(tmp_path: Path) -> None:
    """A typo in a book's name trained on the others without a word."""
    with pytest.raises(InputError, match="no books"):
        gutenberg.load(tmp_path)
    book(tmp_path)
    with pytest.raises(InputError, match=r"no book 'Rose'.*Roses_1"):
        gutenberg.load(tmp_path, books=["Rose"])


# --- Dolly -------------------------------------------------------------------------------------


def test_dolly_puts_the_passage_below_the_question(tmp_path: Path) -> None:
    """A closed question without its passage cannot be answered, only made up."""
    path = tmp_path / dolly.FILE
    path.parent.mkdir(parents=True)
    path.write_text(
        'instruction,context,response,category\nWhy?,"A rose, red",So.,closed_qa\nHow?,,Thus.,open_qa\n'
    )
    one, other = dolly.load(tmp_path)
    assert (one.prompt.text, one.text, one.prompt.category) == ("Why?\n\nA rose, red", "So.", "closed_qa")
    assert (other.prompt.text, other.prompt.id) == ("How?", "dolly-3")
    assert other.prompt.response_type is None


# --- HH-RLHF -----------------------------------------------------------------------------------


def pair(chosen: str, rejected: str) -> dict[str, str]:
    return {"chosen": chosen, "rejected": rejected}


TALK = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Roses?\n\nAssistant:"


def load_hh(tmp_path: Path, *rows: Any, half: str = "harmless") -> tuple[list[Comparison], Counter[str]]:
    write_jsonl(tmp_path / hh_rlhf.FILES[half], rows)
    dropped: Counter[str] = Counter()
    return hh_rlhf.load(tmp_path, half, dropped=dropped), dropped


def test_hh_transcript(tmp_path: Path) -> None:
    """The last reply in the prompt, or an earlier one in the answer, makes every comparison meaningless."""
    (row,), dropped = load_hh(tmp_path, pair(TALK + " Red ones.\n\nMany.", TALK + " No."))
    assert row.prompt.messages == (
        Message("user", "Hi"),
        Message("assistant", "Hello"),
        Message("user", "Roses?"),
    )
    assert (row.chosen, row.rejected) == ("Red ones.\n\nMany.", "No.")
    assert row.prompt.id == "hh-harmless-1" and row.prompt.response_type is None
    assert dropped == {}


def test_hh_helpful_file_has_no_leading_breaks(tmp_path: Path) -> None:
    """The reconstructed file starts with 'Human:' at once; its first turn was lost."""
    (row,), _ = load_hh(tmp_path, pair(TALK.strip() + " a", TALK.strip() + " b"), half="helpful")
    assert row.prompt.messages[0] == Message("user", "Hi")


def test_hh_turns_of_one_speaker_are_one_message(tmp_path: Path) -> None:
    """A reply that holds 'Assistant:' itself gave two assistant turns, and prompts that end with one."""
    (row,), _ = load_hh(tmp_path, pair(TALK + " a\n\nAssistant: b", TALK + " c"))
    assert (row.chosen, row.rejected) == ("a\n\nb", "c")
    assert row.prompt.messages[-1].role == "user"


def test_hh_useless_rows_are_counted(tmp_path: Path) -> None:
    """Rows that vanish without a count make two runs on 'the same data' differ."""
    rows, dropped = load_hh(
        tmp_path,
        pair(TALK + " a", TALK + " b"),
        pair(TALK + " a", TALK + " a"),
        pair(TALK, TALK + " b"),
        pair(TALK + " ", TALK + " b"),
    )
    assert len(rows) == 1
    assert dropped == {"hh-rlhf harmless: two equal replies": 1, "hh-rlhf harmless: an empty message": 2}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("{oops", r":2: malformed JSON"),
        ({"chosen": TALK + " a"}, r":2: field 'rejected': is missing"),
        (pair("Hello there", TALK + " b"), r":2: field 'chosen': is not a transcript"),
        (pair("\n\nAssistant: a", TALK + " b"), r":2: field 'chosen': does not start with the human"),
        (
            pair(TALK + " a\n\nHuman: more", TALK + " b"),
            r":2: field 'chosen': does not end with the assistant",
        ),
        (
            pair(TALK + " a", TALK.replace("Hi", "Ho") + " b"),
            r":2: field 'rejected': its conversation differs",
        ),
    ],
)
def test_hh_malformed(tmp_path: Path, row: Any, expected: str) -> None:
    """Text that is no transcript became a prompt with an empty answer."""
    with pytest.raises(InputError, match=expected):
        load_hh(tmp_path, pair(TALK + " a", TALK + " b"), row)


# --- the released files -----------------------------------------------------------------------


@needs_data
def test_released_counts() -> None:
    """A changed parser silently loses rows."""
    dropped: Counter[str] = Counter()
    assert len(hh_rlhf.load(DATA, "helpful", dropped=dropped)) == 1982
    assert len(hh_rlhf.load(DATA, "harmless", dropped=dropped)) == 2308
    assert dropped == {
        "hh-rlhf helpful: an empty message": 3,
        "hh-rlhf helpful: two equal replies": 2,
        "hh-rlhf harmless: an empty message": 4,
    }
    assert len(dolly.load(DATA)) == 1000


@needs_data
def test_released_books_are_clean() -> None:
    """Licence text in the pre-training data."""
    documents = gutenberg.load(DATA, books=["Alice-s-Adventures-in-Wonderland_11", "Jane-Eyre_1260"])
    assert 800 < len(documents) < 1000
    assert not any("gutenberg" in d.lower() or "http" in d or "\n" in d for d in documents)
    assert documents[0].startswith("Alice was beginning to get very tired")
