"""The two errors that a person, not a programmer, must mend; each becomes one line and an exit code."""

from __future__ import annotations

import unicodedata
from pathlib import Path

LINE_BREAK = "\n"
OUT_OF_MEMORY = "out of memory; take a smaller model, batch or length, or allow more"
ALLOCATORS = ("out of memory", "can't allocate memory")  # as torch says it, in a plain RuntimeError
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


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(text in str(error) for text in ALLOCATORS)


LONGEST_PATH = 1024  # characters


class InputError(ValueError):
    """Bad input or configuration: one line that names file, line, field and fix. Exit code 2."""

    exit_code = 2

    def __init__(
        self,
        problem: str,
        *,
        fix: str,
        path: Path | str | None = None,
        line: int | None = None,
        field: str | None = None,
    ) -> None:
        self.problem, self.fix, self.path, self.line, self.field = problem, fix, path, line, field
        place = "".join(
            part
            for part in (
                _short(str(path)) if path is not None else "",
                f":{line}" if line is not None else "",
                f": field '{field}'" if field is not None else "",
            )
        )
        place = place.removeprefix(": ")
        text = f"{place}: {problem}" if place else problem
        super().__init__(visible(f"{' '.join(text.split())}; {' '.join(fix.split())}"))

    def inside(
        self, group: str = "", path: Path | str | None = None, line: int | None = None, fix: str = ""
    ) -> InputError:
        """The same of a field that lies in `group`, or in a file."""
        field = ".".join(filter(None, (group, self.field))) or None
        path, line = path or self.path, self.line if line is None else line
        return InputError(self.problem, fix=fix or self.fix, path=path, line=line, field=field)


def _short(path: str) -> str:
    """A name of thousands of characters would bury what is wrong with it."""
    return path if len(path) <= LONGEST_PATH else f"{path[:200]}...{path[-200:]}"


class UndecidableError(RuntimeError):
    """Too much is unscored, or there is too little data, to answer. Exit code 3."""

    exit_code = 3
