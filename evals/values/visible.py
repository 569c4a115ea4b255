"""Text that nobody here wrote, made safe to show on a terminal."""

from __future__ import annotations

import unicodedata

LINE_BREAK = "\n"
# Control and format characters (a cursor's moves, a window's title, text that runs backwards), halves of characters.
HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def visible(text: str) -> str:
    """`text` with every character escaped that acts on a terminal or cannot be printed; line breaks stay.

    A name such as `\\x1b]0;owned\\x07` would set the window's title, and a lone half of a character is an error when
    it is printed.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if character != LINE_BREAK and unicodedata.category(character) in HIDDEN
        else character
        for character in text
    )
