"""A text by its words alone, for telling whether two prompts ask the same."""

from __future__ import annotations

import unicodedata

from evals.models.legible import legible


def plain_words(text: str) -> str:
    """Letters and digits only, in lower case, one space between words.

    Composed and decomposed letters, wide ones and ligatures are the same (NFKC), and so are Latin letters and those of
    other scripts that look like them in a word of such letters alone; marks belong to their letters, and characters
    without width part no word.
    """
    plain = text.lower() if text.isascii() else legible(text).lower()
    return " ".join("".join(map(_plain, plain)).split())


def _plain(character: str) -> str:
    if character.isalnum():
        return character
    if character.isascii():
        return " "
    kind = unicodedata.category(character)
    return character if kind[0] == "M" else "" if kind == "Cf" else " "
