"""What changes from one rulebook to another: in its text, and in what it makes of a response."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from evals.rules.check import Steps, TooManySteps, find_truth
from evals.rules.propositions import Proposition, Wanted, said
from evals.rules.rulebook import Rulebook
from evals.values.conversation import ResponseType, types_in_order
from evals.values.errors import InputError
from evals.values.levels import Label


@dataclass(frozen=True)
class RuleChange:
    """One edit: `sign` is "+", "-" or "~"; `lines` show what was (-) and what is (+)."""

    sign: str
    what: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reclassification:
    """Some responses of a type move from one class to another; `example` is one combination."""

    response_type: ResponseType
    before: str
    after: str
    example: Mapping[str, Label] = field(default_factory=dict)


def text_changes(old: Rulebook, new: Rulebook) -> list[RuleChange]:
    """Edits of propositions, derived propositions, classes, their order and the template."""
    return [
        *_propositions(old, new),
        *_conditions("derived proposition", old.derived, new.derived),
        *_conditions("class", _classes(old), _classes(new)),
        *_order(old, new),
        *_changed_text("prompt questions", _asking(old), _asking(new)),
        *_changed_text("prompt template", old.prompt_template or "", new.prompt_template or ""),
    ]


def _asking(rulebook: Rulebook) -> str:
    return ", ".join(t.value for t in types_in_order(rulebook.prompt_questions))


def reclassifications(old: Rulebook, new: Rulebook) -> list[Reclassification]:
    """Every pair of different classes that one combination of truths has before and after.

    Found by exact search, for the response types that both rulebooks have. Raises InputError where that would take
    longer than anybody waits.
    """
    try:
        return _reclassifications(old, new, Steps())
    except TooManySteps:
        fix = "compare rulebooks of fewer classes and propositions"
        raise InputError("too much changes to follow every response", path=new.path, fix=fix) from None


def _reclassifications(old: Rulebook, new: Rulebook, steps: Steps) -> list[Reclassification]:
    moves = []
    for response_type in (t for t in old.response_types if t in new.response_types):
        for before, was in old.conditions_for(response_type).items():
            for after, now in new.conditions_for(response_type).items():
                example = None if before == after else find_truth([(was, True), (now, True)], steps)
                if example is not None:
                    moves.append(Reclassification(response_type, before, after, example))
    return moves


def written(condition: Mapping[str, Wanted]) -> str:
    """A condition on one line: `apology and not judgement`."""
    return " and ".join(said(name, wanted) for name, wanted in condition.items())


def _propositions(old: Rulebook, new: Rulebook) -> Iterator[RuleChange]:
    for name in _both(old.propositions, new.propositions):
        before, after = old.propositions.get(name), new.propositions.get(name)
        if before is None and after is not None:
            yield RuleChange(
                "+", f"proposition {name}", tuple(f"+ {line}" for line in after.question.splitlines())
            )
        elif after is None:
            yield RuleChange("-", f"proposition {name}")
        elif before is not None:
            yield from _changed_proposition(name, before, after)


def _changed_proposition(name: str, before: Proposition, after: Proposition) -> Iterator[RuleChange]:
    yield from _changed_text(f"question of {name}", before.question, after.question)
    if before.polarity is not after.polarity:
        lines = (f"- {before.polarity.value}", f"+ {after.polarity.value}")
        yield RuleChange("~", f"polarity of {name}", lines)
    levels = ["\n".join(f"{level.word}: {level.score:g}" for level in p.levels) for p in (before, after)]
    yield from _changed_text(f"levels of {name}", *levels)
    shown = ["\n".join(f"{answer}: {text}" for text, answer in p.examples) for p in (before, after)]
    yield from _changed_text(f"examples of {name}", *shown)


def _changed_text(what: str, before: str, after: str) -> Iterator[RuleChange]:
    if before != after:
        lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
        kept = [f"{line[0]} {line[1:]}" for line in list(lines)[2:] if not line.startswith("@@")]
        yield RuleChange("~", what, tuple(kept))


def _conditions(
    kind: str, old: Mapping[str, Mapping[str, Wanted]], new: Mapping[str, Mapping[str, Wanted]]
) -> Iterator[RuleChange]:
    for name in _both(old, new):
        if name not in old:
            yield RuleChange("+", f"{kind} {name}", (f"+ {written(new[name])}",))
        elif name not in new:
            yield RuleChange("-", f"{kind} {name}", (f"- {written(old[name])}",))
        elif dict(old[name]) != dict(new[name]):
            gone = [f"- {written({k: v})}" for k, v in old[name].items() if new[name].get(k) != v]
            come = [f"+ {written({k: v})}" for k, v in new[name].items() if old[name].get(k) != v]
            yield RuleChange("~", f"{kind} {name}", (*gone, *come))


def _classes(rulebook: Rulebook) -> dict[str, dict[str, Wanted]]:
    return {
        f"{name} of {response_type.value}": condition
        for name, by_type in rulebook.classes.items()
        for response_type, condition in by_type.items()
    }


def _order(old: Rulebook, new: Rulebook) -> Iterator[RuleChange]:
    if old.class_order != new.class_order:
        lines = (f"- {' > '.join(old.class_order)}", f"+ {' > '.join(new.class_order)}")
        yield RuleChange("~", "order of classes", lines)


def _both(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    return list(dict.fromkeys([*old, *new]))
