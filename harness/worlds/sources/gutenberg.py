"""Project Gutenberg's books as pre-training text: header, licence, contents and headings taken out.

Source: GITenberg's copies of fourteen novels (`gutenberg/*.txt`). Licence: public domain in the United
States. Each file has Project Gutenberg's header and licence around the book, between lines
`*** START OF TH... PROJECT GUTENBERG EBOOK ...` and `*** END OF ...`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from evals.values.data_file import read_text
from evals.values.errors import InputError
from harness.worlds.sources.sample import sample

FOLDER = "gutenberg"
_START = re.compile(r"^\*\*\* ?START OF TH.*$", re.MULTILINE)
_END = re.compile(r"^(\*\*\* ?END OF TH|End of (the )?Project Gutenberg).*$", re.MULTILINE | re.IGNORECASE)
_CREDIT = re.compile(
    r"gutenberg|pglaf|pgdp\.net|^produced by|^transcribed from|\[illustration", re.IGNORECASE
)
_HEADING = re.compile(r"^(chapter|book|part|volume|letter|scene|act)\b.{0,100}$", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?:;,—-][\"'”’)\]_]*$")


def load(
    root: Path,
    *,
    books: Sequence[str] = (),
    document_chars: int = 1000,
    limit: int | None = None,
    seed: int = 0,
) -> list[str]:
    """Documents of about `document_chars` characters of running prose, each on one line.

    `books` names files without `.txt` (none = all); `limit` documents are drawn from all of them together.
    Raises InputError for a missing folder or book, a file without the start and end lines, or no prose.
    """
    documents = [d for path in _files(root / FOLDER, books) for d in read_book(path, document_chars)]
    return sample(documents, limit, seed)


def read_book(path: Path, document_chars: int) -> list[str]:
    """One book's documents, in order."""
    documents = list(_join(_prose(_body(path)), document_chars))
    if not documents:
        raise InputError(
            "the book has no prose between its start and end lines", path=path, fix="leave it out"
        )
    return documents


def _files(folder: Path, books: Sequence[str]) -> list[Path]:
    files = {path.stem: path for path in sorted(folder.glob("*.txt"))}
    if not files:
        raise InputError(
            "no books (*.txt) here", path=folder, fix="set data.root to the folder that has gutenberg/"
        )
    unknown = [book for book in books if book not in files]
    if unknown:
        raise InputError(f"no book {unknown[0]!r}", path=folder, fix=f"use some of {', '.join(files)}")
    return [files[book] for book in books] if books else list(files.values())


def _body(path: Path) -> str:
    text = read_text(path).replace("\r\n", "\n")
    start = _START.search(text)
    end = _END.search(text, start.end()) if start else None
    if start is None or end is None:
        lacking = "END" if start else "START"
        raise InputError(
            f"no line '*** {lacking} OF THIS PROJECT GUTENBERG EBOOK'",
            path=path,
            fix="give Project Gutenberg's plain-text file unchanged",
        )
    return text[start.end() : end.start()]


def _prose(body: str) -> Iterable[str]:
    """Paragraphs on one line each, without headings, tables of contents, verse and credits."""
    for block in re.split(r"\n[ \t]*\n", body):
        lines = [line for line in block.split("\n") if line.strip()]
        indented = sum(line.startswith((" ", "\t")) for line in lines)
        paragraph = " ".join(" ".join(lines).split())
        if lines and indented * 2 <= len(lines) and _is_prose(paragraph):
            yield paragraph


def _is_prose(paragraph: str) -> bool:
    return (
        any(letter.islower() for letter in paragraph)
        and _SENTENCE_END.search(paragraph) is not None
        and _HEADING.match(paragraph) is None
        and _CREDIT.search(paragraph) is None
    )


def _join(paragraphs: Iterable[str], document_chars: int) -> Iterable[str]:
    """Consecutive paragraphs together until a document has its size; the last may be shorter."""
    held: list[str] = []
    for paragraph in paragraphs:
        held.append(paragraph)
        if sum(map(len, held)) >= document_chars:
            yield " ".join(held)
            held = []
    if held:
        yield " ".join(held)
