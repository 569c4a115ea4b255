"""`rbrbench rulebook FILE [OTHER]`: a rulebook as a table to review, or two as a readable diff."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from evals.rules.check import SHOWN, Finding, check_rulebook, describe
from evals.rules.diff import Reclassification, RuleChange, reclassifications, text_changes
from evals.rules.propositions import Polarity, Wanted, said
from evals.rules.rulebook import Rulebook, load_rulebook
from evals.values.levels import scores_of
from harness.runtime.console import Terminal

QUESTION_LENGTH = 110  # characters of a question in the table
COLOURS = {"+": "green", "-": "red", "~": "yellow"}


def view_rulebook(path: Path | str, other: Path | str | None = None, console: Console | None = None) -> int:
    """Check and print one rulebook, or print what changes from `path` to `other`.

    Returns the exit code: 2 where classes of the rulebook (of `other`, where given) overlap or leave
    gaps, else 0. Raises InputError when a file does not load.
    """
    console = console or Terminal()
    rulebook = load_rulebook(path)
    if other is None:
        show_rulebook(rulebook, console)
    else:
        previous, rulebook = rulebook, load_rulebook(other)
        show_diff(previous, rulebook, console)
    findings = check_rulebook(rulebook)
    show_findings(rulebook, findings, console)
    return 2 if any(finding.is_error for finding in findings) else 0


def show_rulebook(rulebook: Rulebook, console: Console) -> None:
    """Propositions with where each is used, derived propositions, and the classes of each type."""
    console.print(Text(f"{rulebook.path or 'rulebook'}  (digest {rulebook.digest})", style="bold"))
    console.print(_propositions(rulebook))
    if rulebook.derived:
        console.print(_conditions("derived proposition", rulebook.derived))
    for response_type in rulebook.response_types:
        classes = {
            name: rulebook.classes[name][response_type]
            for name in rulebook.class_order
            if response_type in rulebook.classes[name]
        }
        console.print(_conditions(f"class of {response_type.value}", classes))


def show_findings(rulebook: Rulebook, findings: Sequence[Finding], console: Console) -> None:
    """One line each of the first ten errors and of the first ten warnings, and a last line that counts them all."""
    grave = [finding for finding in findings if finding.is_error]
    light = [finding for finding in findings if not finding.is_error]
    for finding in [*grave[:SHOWN], *light[:SHOWN]]:
        label, colour = ("error", "red") if finding.is_error else ("warning", "yellow")
        shown = f", for example when {describe(finding.example)}" if finding.example else ""
        place = f"line {finding.line}: " if finding.line is not None else ""
        line = Text(f"{label}: ", style=colour).append(
            f"{place}{finding.problem}{shown}; {finding.fix}", "default"
        )
        console.print(line)
    left = sum(max(0, len(kind) - SHOWN) for kind in (grave, light))
    counts = f"{len(grave)} errors, {len(light)} warnings" + (
        f"; {left} of them are not shown" if left else ""
    )
    console.print(f"{len(rulebook.propositions)} propositions, {len(rulebook.class_order)} classes: {counts}")


def show_diff(old: Rulebook, new: Rulebook, console: Console) -> None:
    """What was edited, then which responses change their class."""
    changes, moves = text_changes(old, new), reclassifications(old, new)
    if not changes:
        console.print("the rulebooks say the same")
        return
    for change in changes:
        console.print(_change(change))
    title = "responses that change their class:" if moves else "no response changes its class"
    console.print(Text(title, style="bold"))
    for move in moves:
        console.print(_move(move))


def _propositions(rulebook: Rulebook) -> Table:
    table = Table(Column("proposition (polarity), and its question", overflow="fold"), box=SIMPLE_HEAD)
    for response_type in rulebook.response_types:
        table.add_column(response_type.value.replace("_", "\n"), justify="center")
    used = {t: rulebook.propositions_for(t) for t in rulebook.response_types}
    for name, proposition in rulebook.propositions.items():
        marks = ["x" if name in used[t] else "" for t in rulebook.response_types]
        polarity = proposition.polarity
        shown = Text(name, "bold").append(
            "" if polarity is Polarity.NEUTRAL else f" ({polarity.value})", "not bold"
        )
        shown.append(f"\n{_short(proposition.question)}", "not bold")
        if proposition.levels:
            shown.append(f"\nlevels: {scores_of(proposition.levels)}", "not bold")
        table.add_row(shown, *marks)
    return table


def _conditions(heading: str, conditions: dict[str, dict[str, Wanted]]) -> Table:
    table = Table(Column(heading, overflow="fold"), Column("holds when", overflow="fold"), box=SIMPLE_HEAD)
    for name, condition in conditions.items():
        needed = [said(n, wanted) for n, wanted in condition.items() if wanted]
        barred = [n for n, wanted in condition.items() if not wanted]
        sides = (("all of", needed), ("none of", barred))
        table.add_row(
            Text(name), Text("\n".join(f"{side}: {', '.join(names)}" for side, names in sides if names))
        )
    return table


def _short(question: str) -> str:
    first = next(line for line in question.splitlines() if line.strip())
    return first if len(first) <= QUESTION_LENGTH else first[: QUESTION_LENGTH - 1] + "…"


def _change(change: RuleChange) -> Text:
    text = Text(f"{change.sign} {change.what}", style=COLOURS[change.sign])
    for line in change.lines:
        text.append(f"\n    {line}", COLOURS.get(line[:1], "default"))
    return text


def _move(move: Reclassification) -> Text:
    text = Text(f"  {move.response_type.value}: {move.before} -> {move.after}")
    return text.append(f" when {describe(move.example)}" if move.example else "")
