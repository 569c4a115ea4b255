"""A text by its words alone, for telling whether two prompts ask the same."""

from __future__ import annotations


def plain_words(text: str) -> str:
    """Letters and digits only, in lower case, one space between words."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())
