"""Completion in bash: commands, their keys level by level, the options of groups, values that are known.

`rbrbench run --shell-completion install=bash` prints what bash evaluates; that asks `query=bash` at each tab, which
reads bash's own COMP_LINE, COMP_POINT and COMP_WORDBREAKS. Hydra's own knows no commands before its overrides, takes
`=` out of the breaks of words of the whole shell, and lets bash expand what a file's name says (`compgen -W`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from conf import CONF
from evals.values.errors import InputError
from harness.commands import COMMANDS, usage_of
from harness.keys.compose import GROUPS

FLAGS = ("--shell-completion", "-sc")
HYDRAS = {  # groups of Hydra's whose options are told here, so that Hydra is not loaded at each tab
    "hydra/launcher": ("basic", "joblib", "ray", "submitit_local", "submitit_slurm"),
    "hydra/sweeper": ("basic", "optuna"),
}
HYDRA = ("run", "data")  # commands with the keys and groups of a run
VALUES = {
    "--cfg": ("job", "hydra", "all"),
    "-c": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
PLACES = ("hydra.run.dir", "hydra.sweep.dir")
OF_RUN = (
    "--cfg --config-dir --config-name --hydra-help --info --multirun --package --resolve --shell-completion"
)
CONFIG_DIR = re.compile(r"(?:--config-dir|-cd)[ =]\s*(\S+)")
SCRIPT = """\
_rbrbench() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
        COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
            "$1" run --shell-completion query=bash 2> /dev/null)
}
complete -o default -o nospace -F _rbrbench rbrbench"""


def complete(arguments: Sequence[str]) -> int:
    """What `--shell-completion ACTION=bash` asks; returns the exit code. Raises InputError for another shell."""
    action = next((argument for argument in arguments if argument not in FLAGS), "")
    if action == "install=bash":
        print(SCRIPT)
    elif action == "uninstall=bash":
        print("complete -r rbrbench; unset -f _rbrbench")
    elif action == "query=bash":
        line, breaks = os.environ.get("COMP_LINE", ""), os.environ.get("COMP_WORDBREAKS", "")
        line = line.encode()[: int(os.environ.get("COMP_POINT") or len(line.encode()))].decode(
            errors="replace"
        )
        for candidate in replies(line, breaks):
            print(candidate)
    else:
        fix = "give --shell-completion install=bash, or uninstall=bash"
        raise InputError(f"is {action!r}", field="--shell-completion", fix=fix)
    return 0


def replies(line: str, breaks: str) -> list[str]:
    """What may stand after the last of the `breaks` in the last word of `line`; a whole word ends in a space."""
    *before, word = re.split(r"\s+", line.lstrip())
    kept = max((word.rfind(mark) + 1 for mark in breaks if not mark.isspace()), default=0)
    return sorted({found[kept:] for found in _candidates(before, word) if found.startswith(word)})


def _candidates(before: Sequence[str], word: str) -> Iterator[str]:
    if len(before) < 2:
        yield from (f"{name} " for name in (*COMMANDS, "--help"))
        return
    command = before[1]
    if command not in COMMANDS:
        return
    if before[-1] in VALUES:
        yield from (f"{value} " for value in VALUES[before[-1]])
    elif word.startswith("-"):
        yield from (f"{flag} " for flag in ("--help", *(OF_RUN.split() if command == "run" else ())))
    elif "=" in word:
        yield from _with_values(command, word.partition("=")[0], " ".join(before))
    else:
        names = [f"{key}=" for key in _keys(command)]
        names += [f"{group}=" for group in GROUPS if command in HYDRA]
        names += [f"{name}=" for name in (*HYDRAS, *PLACES) if command == "run"]
        level = re.compile(rf"{re.escape(word)}[^.=]*[.=]")
        yield from (found[0] for name in names if (found := level.match(name)))


def _keys(command: str) -> Mapping[str, str]:
    """{key: default} as the command's help says them."""
    usage = usage_of("run" if command in HYDRA else command)
    return dict(re.findall(r"^  ([a-z]\w*(?:\.\w+)*)=(\S*)", usage, re.MULTILINE))


def _with_values(command: str, key: str, line: str) -> Iterator[str]:
    """`KEY=VALUE` of the values that are known; none where a file may stand, which bash completes."""
    if command in HYDRA and key in GROUPS:
        folders = [CONF, *(Path(name).expanduser() for name in CONFIG_DIR.findall(line))]
        for place in (folder / key for folder in folders):
            options = (file.relative_to(place).with_suffix("") for file in place.rglob("*.yaml"))
            yield from (f"{key}={option} " for option in options)
        return
    if command == "run" and key in HYDRAS:
        yield from (f"{key}={option} " for option in HYDRAS[key])
        return
    default = _keys(command).get(key, "")
    values = ["true", "false"] if default in ("true", "false") else [default]
    if command in HYDRA:
        values = _members(key) or values
    yield from (f"{key}={value} " for value in values if value not in ("", "null"))


def _members(key: str) -> list[str]:
    """Of a run's key that is a choice."""
    from harness.keys.compose import choices
    from harness.keys.run import RunConfig

    return [str(member.value) for member in choices(RunConfig).get(key, ())]
