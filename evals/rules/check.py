"""Review a rulebook: classes that overlap or leave gaps, and propositions that nothing uses.

A response must fall into exactly one completion class of its response type, whatever the truth of
its propositions. Each violation is found by an exact search over truth assignments that prunes as
soon as a condition is decided, and is shown with an example.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise

from evals.rules.propositions import AtLeast, Condition, settled
from evals.rules.rulebook import Rulebook
from evals.values.conversation import ResponseType
from evals.values.errors import InputError
from evals.values.levels import Label, ScoredLevel

MOST_STEPS = 1_000_000  # conditions decided in all searches of one check: seconds
SHOWN = 10  # findings of a kind; the others are counted


class TooManySteps(Exception):
    """A search would take longer than anybody waits."""


class Steps:
    """The steps that the searches of one check may still take."""

    def __init__(self, most: int = MOST_STEPS) -> None:
        self.left = most

    def take(self, conditions: int) -> None:
        self.left -= conditions
        if self.left < 0:
            raise TooManySteps


@dataclass(frozen=True)
class Finding:
    """One fault of a rulebook. `example` maps propositions to truth values, or levels, that show it."""

    kind: str  # "overlap", "gap", "unchecked", "empty", "unused" or "same question"
    problem: str
    fix: str
    line: int | None = None
    response_type: ResponseType | None = None
    example: Mapping[str, Label] = field(default_factory=dict)

    @property
    def is_error(self) -> bool:
        """True where some response would have no class, or two, or may have; else the finding is a warning."""
        return self.kind in ("overlap", "gap", "unchecked")

    def as_error(self, rulebook: Rulebook) -> InputError:
        shown = f", for example when {describe(self.example)}" if self.example else ""
        return InputError(self.problem + shown, fix=self.fix, path=rulebook.path, line=self.line)


def describe(truth: Mapping[str, Label]) -> str:
    """`apology true, judgement false, detail some`."""
    return ", ".join(f"{name} {_value(label)}" for name, label in truth.items())


def _value(label: Label) -> str:
    return label.word if isinstance(label, ScoredLevel) else str(label).lower()


def check_rulebook(rulebook: Rulebook) -> list[Finding]:
    """All findings: by response type overlaps, gaps and empty classes, then what nothing uses.

    A check that would take more than MOST_STEPS ends with a finding of kind "unchecked".
    """
    return [*_check_types(rulebook), *_unused(rulebook), *_same_questions(rulebook)]


def require_sound(rulebook: Rulebook) -> None:
    """Raises InputError, with an example, for the first overlap or gap."""
    for finding in _check_types(rulebook):
        if finding.is_error:
            raise finding.as_error(rulebook)


def find_truth(
    goals: Sequence[tuple[Condition, bool]], steps: Steps | None = None
) -> dict[str, Label] | None:
    """Truths, or levels, of simple propositions under which each condition has its wanted value, or None.

    Only the propositions that decide it are in the answer. Raises TooManySteps where `steps` do not suffice.
    """
    found = _search([*goals, *_levels_in_order(goals)], {}, steps or Steps())
    return None if found is None else settled(found)


def _levels_in_order(goals: Sequence[tuple[Condition, bool]]) -> Iterator[tuple[Condition, bool]]:
    """Goals of their own: what is at least a level is at least the lower ones that the conditions name."""
    named = {name for condition, _ in goals for name in condition.names() if isinstance(name, AtLeast)}
    ordered = sorted(named, key=lambda step: (step.of, step.level.score))
    for lower, higher in pairwise(ordered):
        if lower.of == higher.of:
            yield Condition({higher: True, lower: False}), False


def _search(
    goals: Sequence[tuple[Condition, bool]], known: dict[str, bool], steps: Steps
) -> dict[str, bool] | None:
    steps.take(len(goals))
    open_goals = []
    for condition, wanted in goals:
        value = condition.decide(known)
        if value is None:
            open_goals.append((condition, wanted))
        elif value is not wanted:
            return None
    if not open_goals:
        return known
    # The shortest open goal first: it is decided, or refuted, soonest.
    condition, wanted = min(open_goals, key=lambda goal: _open_names(goal[0], known))
    name, value = next(_suggestions(condition, wanted, known))
    for choice in (value, not value):
        found = _search(open_goals, known | {name: choice}, steps)
        if found is not None:
            return found
    return None


def _open_names(condition: Condition, known: Mapping[str, bool]) -> int:
    return len(set(condition.names()) - known.keys())


def _suggestions(condition: Condition, wanted: bool, known: Mapping[str, bool]) -> Iterator[tuple[str, bool]]:
    """Undecided propositions, each with the value that furthers `condition` being `wanted`."""
    for name, value in condition.literals.items():
        if name not in known:
            yield name, value is wanted
    for part in condition.negated:
        if part.decide(known) is None:
            yield from _suggestions(part, not wanted, known)


def _check_types(rulebook: Rulebook) -> Iterator[Finding]:
    steps = Steps()
    for response_type in rulebook.response_types:
        try:
            yield from _check_type(rulebook, response_type, steps)
        except TooManySteps:
            yield Finding(
                "unchecked",
                f"the classes of {response_type.value} are too many, or too entangled, to be checked to the end",
                "make fewer classes, of fewer propositions",
                rulebook.lines.get("completion_classes"),
                response_type,
            )


def _check_type(rulebook: Rulebook, response_type: ResponseType, steps: Steps) -> Iterator[Finding]:
    conditions = rulebook.conditions_for(response_type)
    where = response_type.value
    for first, second in combinations(conditions, 2):
        if contradict(conditions[first], conditions[second]):
            continue
        example = find_truth([(conditions[first], True), (conditions[second], True)], steps)
        if example is not None:
            yield Finding(
                "overlap",
                f"classes '{first}' and '{second}' of {where} overlap",
                "make a proposition true in one and false in the other",
                rulebook.lines.get(f"class:{second}"),
                response_type,
                example,
            )
    example = find_truth([(condition, False) for condition in conditions.values()], steps)
    if example is not None:
        yield Finding(
            "gap",
            f"no class of {where} covers every combination",
            "widen a class until one holds there",
            rulebook.lines.get("completion_classes"),
            response_type,
            example,
        )
    for name, condition in conditions.items():
        if find_truth([(condition, True)], steps) is None:
            yield Finding(
                "empty",
                f"class '{name}' of {where} can never hold",
                "remove one of the propositions that contradict each other",
                rulebook.lines.get(f"class:{name}"),
                response_type,
            )


def contradict(first: Condition, second: Condition) -> bool:
    """Whether one wants a proposition true that the other wants false: the common case, told without a search."""
    return any(second.literals.get(name, wanted) is not wanted for name, wanted in first.literals.items())


def _unused(rulebook: Rulebook) -> Iterator[Finding]:
    used: set[str] = set()
    waiting = [name for c in rulebook.classes.values() for body in c.values() for name in body]
    while waiting:
        name = waiting.pop()
        if name not in used:
            used.add(name)
            waiting += rulebook.derived.get(name, {})
    for kind, names in (("derived proposition", rulebook.derived), ("proposition", rulebook.propositions)):
        for name in names:
            if name not in used:
                yield Finding(
                    "unused",
                    f"no completion class uses the {kind} '{name}'",
                    "use it in a class or remove it",
                    rulebook.lines.get(name),
                )


def _same_questions(rulebook: Rulebook) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for name, proposition in rulebook.propositions.items():
        question = " ".join(proposition.question.lower().split())
        if question in first:
            yield Finding(
                "same question",
                f"'{name}' asks what '{first[question]}' asks",
                "remove one of the two or make the questions differ",
                rulebook.lines.get(name),
            )
        first.setdefault(question, name)
