"""The two errors that a person, not a programmer, must mend; each becomes one line and an exit code."""

from __future__ import annotations

from pathlib import Path


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
        place = "".join(
            part
            for part in (
                str(path) if path is not None else "",
                f":{line}" if line is not None else "",
                f": field '{field}'" if field is not None else "",
            )
        )
        place = place.removeprefix(": ")
        text = f"{place}: {problem}" if place else problem
        super().__init__(f"{' '.join(text.split())}; {' '.join(fix.split())}")


class UndecidableError(RuntimeError):
    """Too much is unscored, or there is too little data, to answer. Exit code 3."""

    exit_code = 3
